"""Python models hand their rows to SQLMesh in batches."""

import pandas as pd
import pytest

from vlm4rec_search.common import python_models
from vlm4rec_search.common.python_models import batches, yield_unless_empty


def test_rows_come_in_batches_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_models, "BATCH", 3)
    frame = pd.DataFrame({"row": range(7)})
    assert [batch["row"].tolist() for batch in yield_unless_empty(frame)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [len(batch) for batch in batches(frame[:3])] == [3]


def test_an_empty_frame_is_one_batch_and_no_rows() -> None:
    empty = pd.DataFrame({"row": []})
    assert [len(batch) for batch in batches(empty)] == [0]
    assert list(yield_unless_empty(empty)) == []
