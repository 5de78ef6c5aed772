"""What Python models share: their folders, and frames of rows and texts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vlm4rec_search.common.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    pass

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Folders:
    """Where Python models find photos and keep the results of model calls."""

    photos: Path
    cache: Path


def folders(settings: Settings, override: str | None) -> Folders:
    """Return the folders of a run; a YAML test names its own data, relative to the project, and gets its own cache."""
    if override:
        return Folders(settings.project / override, settings.cache / "yaml_tests")
    return Folders(settings.data_dir, settings.cache)


def unless_empty(frame: "DataFrame") -> "Iterator[DataFrame]":
    """Yield the frame if it has rows: SQLMesh takes an empty frame for a mistake and an empty generator for no rows."""
    if len(frame):
        yield frame


def texts(column: "pd.Series[str]") -> list[str | None]:
    """Return a text column as a list with None for every kind of null."""
    return [None if null else str(value) for value, null in zip(column, column.isna(), strict=True)]
