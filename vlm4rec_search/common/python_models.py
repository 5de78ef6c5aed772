"""What the Python models of the SQLMesh project share: settings, text columns, and frames that SQLMesh accepts."""

from collections.abc import Iterator

from pandas import DataFrame, Series

from vlm4rec_search.common.settings import ExplicitSettings, Settings

BATCH = 50_000
"""Rows of a batch: 77 MB of vectors of 384 numbers."""


def model_settings(settings: Settings, data_dir: str | None) -> Settings:
    """Return the settings of a model run: those of the process, or those of a YAML test.

    A YAML test gives the same result whatever the user has set. It has its own data folder and cache, and the default
    of every other setting.

    Args:
        settings: of the process.
        data_dir: the variable `data_dir`, which only YAML tests set: a data folder relative to the project.
    """
    if data_dir is None:
        return settings
    project = settings.require_project()
    folder = project / data_dir
    return ExplicitSettings(
        project=project, data_dir=folder, cache=settings.cache / "yaml_tests", fitted=folder / "fitted"
    )


def yield_unless_empty(frame: DataFrame) -> Iterator[DataFrame]:
    """Yield the rows of a frame in batches; SQLMesh rejects an empty frame, but takes an empty generator for no rows.

    SQLMesh copies what it gets before it writes it: a batch bounds the copy.
    """
    if len(frame):
        yield from batches(frame)


def batches(frame: DataFrame) -> Iterator[DataFrame]:
    """Yield at most `BATCH` rows at a time, in order; an empty frame as it is."""
    for low in range(0, max(len(frame), 1), BATCH):
        yield frame.iloc[low : low + BATCH] if len(frame) > BATCH else frame


def nullable_texts(column: "Series[str]") -> list[str | None]:
    """Return a text column as a list, with None for every kind of null (None, NaN, pandas.NA)."""
    return [None if null else str(value) for value, null in zip(column, column.isna(), strict=True)]
