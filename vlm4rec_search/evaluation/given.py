"""What a data set brings along for its evaluation (GIVEN.json): its own split, and its own vectors."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.importers.write import ABOUT_GIVEN, GIVEN_VECTORS
from vlm4rec_search.evaluation.protocol import Cuts, Protocol, find_cuts

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection

_FILES = {"vision": GIVEN_VECTORS["image"], "title": GIVEN_VECTORS["text"]}


def given_cuts(data: Path) -> Cuts | None:
    """Return the moments of a data set's own split, None where it has none.

    Raises:
        UsageError: GIVEN.json cannot be read.
    """
    file = data / ABOUT_GIVEN
    if not file.is_file():
        return None
    try:
        days = json.loads(file.read_text("utf-8"))["splits"]
        return Cuts(*(datetime.fromisoformat(days[part]) for part in ("train", "validation", "test")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read the data set's own split in {file} ({error}): import it again") from None


def cuts_of(connection: "DuckDBPyConnection", data: Path, protocol: Protocol) -> Cuts:
    """Return where a time split cuts: as the data set gives it, or else by the shares of the protocol.

    Raises:
        UsageError: GIVEN.json cannot be read, or there are too few interactions to split.
    """
    return given_cuts(data) or find_cuts(connection, protocol)


def given_vectors(data: Path, kind: str) -> "pd.DataFrame | None":
    """Return item_id and vector as the data set gives them for photos (`vision`) or titles (`title`), else None.

    Raises:
        UsageError: the file cannot be read.
    """
    import pandas as pd

    name = _FILES.get(kind)
    if name is None or not (data / name).is_file() or not (data / ABOUT_GIVEN).is_file():
        return None
    try:
        return pd.read_parquet(data / name, columns=["item_id", "vector"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"cannot read the given vectors {data / name} ({error}): import the data set again") from None
