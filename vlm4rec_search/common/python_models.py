"""What the Python models of the SQLMesh project share: settings, text columns, and frames that SQLMesh accepts."""

from collections.abc import Iterator

from pandas import DataFrame, Series

from vlm4rec_search.common.settings import ExplicitSettings, Settings


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
    """Yield the frame if it has rows; SQLMesh rejects an empty frame, but takes an empty generator for no rows."""
    if len(frame):
        yield frame


def nullable_texts(column: "Series[str]") -> list[str | None]:
    """Return a text column as a list, with None for every kind of null (None, NaN, pandas.NA)."""
    return [None if null else str(value) for value, null in zip(column, column.isna(), strict=True)]
