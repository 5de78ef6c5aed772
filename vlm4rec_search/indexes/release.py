"""What a release says of itself: what made it, and what changed against the release before it."""

import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from vlm4rec_search.common.analyzer import ID as ANALYZER
from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError

SCHEMA_VERSION = 4  # of the tables in a release file: raise it when a reader of the last version could not read them


@dataclass(frozen=True, slots=True)
class ReleaseMeta:
    """What made a release; it is the one row of the table `release`, and answers name it.

    Attributes:
        name: items__<schema>__<model>__<time>, see `new_release`.
        created_at: UTC.
        encoder: id of the sentence encoder, with its revision.
        dimension: of its vectors.
        captioner: id of the captioner, with its revision.
        prompt: id of the caption prompt.
        as_of: the moment of the tables.
        checks: "passed", or "forced: <failed suites>".
        package: version of this package.
        analyzer: name and version of the analyzer.
        schema_version: of the tables in the file.
        documents: how many the release holds; the build fills it in.
        users: how many profiles it holds; the build fills it in.
        table_version: SQLMesh's, of search.item_documents; another one when a definition or a raw file changes. None
            where no warehouse handed them over.
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
    schema_version: int = SCHEMA_VERSION
    documents: int = 0
    users: int = 0
    table_version: str | None = None

    def to_json(self) -> dict[str, str | int | None]:
        """Return the fields, times in ISO form."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class ReleaseSummary:
    """What a build did: added, changed and deleted are documents against the release before it.

    Attributes:
        users: profiles that the release holds; users_before: those of the release before it.
        rejected: documents that were refused; table `rejected` of the release has them with their reasons.
        rejected_users: profiles that were refused, likewise.
        seconds: duration of the build.
    """

    release: str
    documents: int
    added: int
    changed: int
    deleted: int
    users: int
    users_before: int
    rejected: int
    rejected_users: int
    seconds: float = 0.0


def check_readable(name: str, schema_version: object, analyzer: object) -> None:
    """Refuse a release that this package does not read.

    Raises:
        UsageError: it is of another schema version, or its words are another analyzer's.
    """
    found, needed = (schema_version, analyzer), (SCHEMA_VERSION, ANALYZER)
    if found != needed:
        raise UsageError(
            f"the release {name} has schema version and analyzer {found}, this package reads {needed}: publish again"
            " with `vlm4rec index`"
        )


def new_release(
    encoder: str,
    dimension: int,
    captioner: str,
    prompt: str,
    as_of: datetime | None,
    checks: str = "passed",
    table_version: str | None = None,
) -> ReleaseMeta:
    """Name a release that is about to be built, now, from the ids of what made its documents."""
    from importlib.metadata import version

    now = datetime.now(UTC)
    model = re.sub(r"[^a-z0-9.]+", "-", encoder.split("@")[0].rsplit("/", 1)[-1].lower()).strip("-.") or "model"
    moment = f"{now:%Y%m%dt%H%M%S}{now.microsecond // 1000:03d}"
    return ReleaseMeta(
        name=f"items__v{SCHEMA_VERSION}__{model[:60]}__{moment}",
        created_at=now.replace(tzinfo=None),
        encoder=encoder,
        dimension=dimension,
        captioner=captioner,
        prompt=prompt,
        as_of=as_of,
        checks=checks,
        package=version("vlm4rec-search"),
        analyzer=ANALYZER,
        table_version=table_version,
    )


REFUSED = pa.schema([(name, pa.string()) for name in ("kind", "id", "title", "reason")])


@dataclass(frozen=True, slots=True)
class Load:
    """What was sent to one index: documents indexed, deleted and rejected, requests, and how many were repeats."""

    index: str
    indexed: int
    deleted: int
    rejected: int
    requests: int
    repeated: int
    seconds: float


@dataclass(frozen=True)
class Publication:
    """A publication that ended well.

    Attributes:
        meta: of the release, with its counts.
        summary: what changed.
        loads: nothing for the embedded index.
        refused: rows of `REFUSED`, each with its reason.
    """

    meta: ReleaseMeta
    summary: ReleaseSummary
    loads: tuple[Load, ...] = ()
    refused: pa.Table = field(default_factory=REFUSED.empty_table)


class PublicationError(RunError):
    """A publication failed after documents had been refused.

    Attributes:
        refused: rows of `REFUSED`.
    """

    def __init__(self, cause: Vlm4recError, refused: pa.Table) -> None:
        """Take message and exit code over from the cause."""
        super().__init__(str(cause))
        self.exit_code, self.refused = cause.exit_code, refused
