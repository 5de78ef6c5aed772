"""The metadata of a new release, the version that this package reads, and the result of a publication."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa

from vlm4rec_search.common.analyzer import ENGLISH, IDS
from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError
from vlm4rec_search.common.version import package_version
from vlm4rec_search.search.release import ReleaseMeta

SCHEMA_VERSION = 8  # of the tables of a release file; raise it when the package before this one cannot read them
CURE = "go back with `vlm4rec releases rollback`, or publish again with `vlm4rec index`"
"""What to do where the live release cannot be read."""
_MOMENT = re.compile(r"\d{8}t\d{9}")  # the end of a name
REFUSED = pa.schema([(name, pa.string()) for name in ("kind", "id", "title", "reason")])


@dataclass(frozen=True, slots=True)
class ListedRelease:
    """A release in the list of an index.

    Attributes:
        meta: its metadata, None where they cannot be read; then there is a problem.
        problem: the error with which it cannot be opened, None where nothing is known against it.
    """

    meta: ReleaseMeta | None
    problem: Vlm4recError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSummary:
    """The differences between a new release and the one that answered before it.

    Attributes:
        release: name of the new release.
        documents: number of its documents.
        added: documents that only the new release has.
        changed: documents whose content differs.
        deleted: documents that only the release before has.
        users: number of its profiles.
        users_before: number of profiles of the release before.
        rejected: documents that were refused; the table `rejected` of the release has their reasons.
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


@dataclass(slots=True)
class Load:
    """What was sent to one index; the load adds to it.

    Attributes:
        index: its name.
        indexed: documents that the server took.
        deleted: documents that the server removed.
        rejected: documents that the server refused.
        requests: number of bulk requests.
        repeated: how many of the requests repeated a failed one.
        seconds: duration of the load.
    """

    index: str
    indexed: int = 0
    deleted: int = 0
    rejected: int = 0
    requests: int = 0
    repeated: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Publication:
    """The result of a successful publication.

    Attributes:
        meta: of the release, with its counts.
        summary: differences from the release before.
        loads: one for each index of a server; empty for the embedded index.
        refused: rows of `REFUSED`, each with its reason.
        mode: how the release was built, which may be whole where an incremental one was asked for.
    """

    meta: ReleaseMeta
    summary: ReleaseSummary
    loads: tuple[Load, ...] = ()
    refused: pa.Table = field(default_factory=REFUSED.empty_table)
    mode: Literal["full", "incremental"] = "full"


def new_release(
    encoder: str,
    dimension: int,
    captioner: str,
    prompt: str,
    as_of: datetime | None,
    image_encoder: str | None = None,
    image_dimension: int | None = None,
) -> ReleaseMeta:
    """Return the metadata of a release that is about to be built; the name contains the encoder and the present time.

    The arguments are fields of `ReleaseMeta`. `dataclasses.replace` sets the other ones, such as checks other than
    passed and an analyzer other than English.
    """
    now = datetime.now(UTC)
    model = re.sub(r"[^a-z0-9.]+", "-", encoder.split("@")[0].rsplit("/", 1)[-1].lower()).strip("-.") or "model"
    return ReleaseMeta(
        name=f"items__v{SCHEMA_VERSION}__{model[:60]}__{now:%Y%m%dt%H%M%S}{now.microsecond // 1000:03d}",
        created_at=now.replace(tzinfo=None),
        encoder=encoder,
        dimension=dimension,
        captioner=captioner,
        prompt=prompt,
        as_of=as_of,
        checks="passed",
        package=package_version(),
        analyzer=ENGLISH.id,
        schema_version=SCHEMA_VERSION,
        image_encoder=image_encoder,
        image_dimension=image_dimension,
    )


def check_readable(name: str, schema_version: object, analyzer: object) -> None:
    """Refuse a release that this package cannot read.

    Raises:
        UsageError: the release has another schema version, or an analyzer that this package does not have.
    """
    if schema_version != SCHEMA_VERSION or analyzer not in IDS:
        raise UsageError(
            f"the release {name} has schema version and analyzer {(schema_version, analyzer)}, this package reads"
            f" {(SCHEMA_VERSION, analyzer if analyzer in IDS else ENGLISH.id)}: publish again with `vlm4rec index`"
        )


def in_order(releases: Mapping[str, ListedRelease]) -> dict[str, ListedRelease]:
    """Return releases by name, the oldest first: by the time in their metadata, else by that in their names."""

    def moment(name: str) -> str:
        meta = releases[name].meta
        return f"{meta.created_at:%Y%m%dt%H%M%S%f}" if meta else made_at(name)

    return {name: releases[name] for name in sorted(releases, key=lambda name: (moment(name), name))}


def made_at(name: str) -> str:
    """Return the time with which the name of a release ends, such as 20250630t120000000; "" if it has none."""
    last = name.rpartition("__")[2]
    return last if _MOMENT.fullmatch(last) else ""


def activated_meanwhile(live: str | None, built: str) -> str:
    """Return the message of a publication that does not replace a release which was activated while it ran."""
    return (
        f"not published: {live or 'no release'} was activated while {built} was built. The new release is complete:"
        f" `vlm4rec releases rollback {built}` activates it, and --force skips this check"
    )


class DamagedIndexError(RunError):
    """The pointer of a folder, or the aliases of a server, name no release that is there.

    Attributes:
        release: the live release that has lost an index, where the other aliases still name it alone.
    """

    def __init__(self, message: str, release: str | None = None) -> None:
        """Keep the release beside the message."""
        super().__init__(message)
        self.release = release


class ForgetError(RunError):
    """Releases of an index could not be cleaned of shoppers; the other ones were.

    Attributes:
        found: how many documents each of the other ones had.
        problems: what stopped the cleaning and what to do, by release or index.
        files: why files of a server may have the deleted documents still; None where they do not.
    """

    def __init__(self, found: Mapping[str, int], problems: Mapping[str, str], files: str | None = None) -> None:
        """Join the problems to one message."""
        super().__init__("; ".join([*problems.values(), *([files] if files else [])]))
        self.found, self.problems, self.files = found, problems, files


class PublicationError(RunError):
    """A publication failed after documents had been refused.

    Attributes:
        refused: rows of `REFUSED`.
    """

    def __init__(self, cause: Vlm4recError, refused: pa.Table) -> None:
        """Take message and exit code over from the cause."""
        super().__init__(str(cause))
        self.exit_code, self.refused = cause.exit_code, refused
