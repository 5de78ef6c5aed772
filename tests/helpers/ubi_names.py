"""Names of a test's own for the indices of the copy of answers and events, which all tests share on one server."""

import pytest

from vlm4rec_search.pipeline import ubi_export


def own_ubi_names(monkeypatch: pytest.MonkeyPatch, prefix: str) -> tuple[str, str]:
    """Let `ubi_export` use indices with a prefix, and return the names of those of answers and of events."""
    names = f"{prefix}-queries", f"{prefix}-events"
    fields = dict(zip(names, ubi_export.FIELDS.values(), strict=True))
    for name, value in {"QUERIES": names[0], "EVENTS": names[1], "FIELDS": fields}.items():
        monkeypatch.setattr(ubi_export, name, value)
    return names
