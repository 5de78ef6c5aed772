"""The metadata of a release: what made its documents, vectors and words, and which ranking configuration it holds."""

from dataclasses import asdict, dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ReleaseMeta:
    """What produced a release. It is the one row of the table `release`; answers contain the name.

    Attributes:
        name: items__<schema>__<model>__<time>, see `indexes.release.new_release`.
        created_at: UTC.
        encoder: id of the sentence encoder, with its revision.
        dimension: of the encoder's vectors.
        captioner: id of the captioner, with its revision.
        prompt: id of the caption prompt.
        as_of: the moment up to which the tables count events.
        checks: "passed", or "forced: <failed suites>".
        package: version of this package.
        analyzer: name and version of the analyzer.
        schema_version: of the tables in the file.
        documents: number of documents; the build sets it.
        users: number of profiles; the build sets it.
        table_version: SQLMesh's version of search.item_documents, which changes with a model or a raw file. None for
            tables that come from no warehouse.
        ranking: the ranking configuration as JSON, which searches use unless they name another; None for the packaged
            one.
        chosen: one line on why it is this configuration.
        fitted: name of the fit that made the learned vectors, None without such vectors.
        fitted_dimension: of these vectors.
        chosen_from: hash of the tables from which the configuration was chosen (`SearchLayer.versions`), None where
            nothing was chosen.
        image_encoder: id of the image encoder that made the vectors of photos, None without such vectors.
        image_dimension: of these vectors.
        popularity_days: how many days before the latest event popularity counts (profiles.pace); None for tables that
            come from no warehouse.
        events_until: when the newest event that the tables have from the log of events was received, in UTC; None
            where they have none from there.
    """

    name: str
    created_at: datetime
    encoder: str
    dimension: int
    captioner: str
    prompt: str
    as_of: datetime | None
    checks: str
    package: str
    analyzer: str
    schema_version: int
    documents: int = 0
    users: int = 0
    table_version: str | None = None
    ranking: str | None = None
    chosen: str | None = None
    fitted: str | None = None
    fitted_dimension: int | None = None
    chosen_from: str | None = None
    image_encoder: str | None = None
    image_dimension: int | None = None
    popularity_days: float | None = None
    events_until: datetime | None = None

    def to_json(self) -> dict[str, str | int | float | None]:
        """Return the fields, times in ISO form."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(self).items()
        }
