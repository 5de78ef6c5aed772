"""What the Python models of the SQLMesh project share: folders, text columns, and frames that SQLMesh accepts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pandas import DataFrame, Series

from vlm4rec_search.common.settings import Settings


@dataclass(frozen=True)
class ModelFolders:
    """Folders of a model run: `photos` of the catalogue, and `cache` of the results of model calls."""

    photos: Path
    cache: Path

    @classmethod
    def from_settings(cls, settings: Settings, data_dir: str | None) -> Self:
        """Return the folders of the settings, or those of a YAML test.

        Args:
            settings: settings of the process.
            data_dir: the variable `data_dir`, which only YAML tests set: their own data folder, relative to the
                project. They get a cache of their own.
        """
        if data_dir:
            return cls(settings.project / data_dir, settings.cache / "yaml_tests")
        return cls(settings.data_dir, settings.cache)


def yield_unless_empty(frame: DataFrame) -> Iterator[DataFrame]:
    """Yield the frame if it has rows; SQLMesh rejects an empty frame, but takes an empty generator for no rows."""
    if len(frame):
        yield frame


def nullable_texts(column: "Series[str]") -> list[str | None]:
    """Return a text column as a list, with None for every kind of null (None, NaN, pandas.NA)."""
    return [None if null else str(value) for value, null in zip(column, column.isna(), strict=True)]
