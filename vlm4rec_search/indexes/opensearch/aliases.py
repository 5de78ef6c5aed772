"""The releases on a server: list them, read one, activate one, remove old ones.

A release is three indices (items, profiles, segments). Three aliases under a prefix name the indices of the live
release; one request moves all three.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch, exceptions

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.opensearch.connection import (
    UnreachableError,
    describe_refusal,
    is_transient,
    until_answered,
)
from vlm4rec_search.indexes.opensearch.disk import change_despite_full_disk
from vlm4rec_search.indexes.opensearch.lease import ACTIVATION, Lease, lease
from vlm4rec_search.indexes.opensearch.mapping import INDEX_KINDS, IndexKind, index_name, loading_alias, read_meta
from vlm4rec_search.indexes.release import (
    CURE,
    DamagedIndexError,
    ListedRelease,
    activated_meanwhile,
    check_readable,
    in_order,
)
from vlm4rec_search.search.release import ReleaseMeta

logger = logging.getLogger(__name__)

EF_SEARCH = 200  # where verification has not stored another value
PATIENCE = 60.0  # seconds to wait for another activation, and for a server that went away during ours


class ReleaseCatalogue:
    """The releases under a prefix, and the aliases that name the live one."""

    def __init__(self, client: OpenSearch, prefix: str) -> None:
        """Use a client of `connect`; nothing is sent yet."""
        self.client, self.prefix = client, prefix
        self.aliases: Mapping[IndexKind, str] = {kind: f"{prefix}{kind}" for kind in INDEX_KINDS}

    def index(self, kind: IndexKind, release: str) -> str:
        """Return the name of an index of a release."""
        return index_name(self.prefix, kind, release)

    def live(self) -> str | None:
        """Return the name of the live release, None where nothing is published.

        Raises:
            UsageError: an alias is an index.
            DamagedIndexError: the aliases do not point to one release.
        """
        names, indices = [*self.aliases.values()], self._aliased_indices()
        if taken := [name for name in names if name in indices]:
            raise UsageError(
                f"{taken[0]} is an index on the server, not an alias: rename or delete it, or set VLM4REC_INDEX_PREFIX"
            )
        targets = {
            alias: sorted(index for index, body in indices.items() if alias in body.get("aliases", {}))
            for alias in names
        }
        releases = {self._release_of(index) for aliased in targets.values() for index in aliased}
        has_gaps = any(len(aliased) != 1 for aliased in targets.values())
        if len(releases) > 1 or releases == {""} or (releases and has_gaps):
            listing = "; ".join(
                f"{alias} -> {' and '.join(aliased) or 'nothing'}" for alias, aliased in targets.items()
            )
            foreign = [f"DELETE /{index}/_alias/{alias}" for alias, index in _foreign(targets)]
            lost = releases.pop() if len(releases) == 1 and not foreign else None
            cure = CURE if lost else "`vlm4rec releases rollback RELEASE` sets them and so does `vlm4rec index`"
            if foreign:
                cure = (
                    f"remove them from indices that are none of ours ({', '.join(foreign)}), or set"
                    " VLM4REC_INDEX_PREFIX if they belong to another application"
                )
            raise DamagedIndexError(f"the aliases do not point to one release ({listing}): {cure}", lost)
        return releases.pop() if releases else None

    def live_or_damage(self) -> tuple[str | None, DamagedIndexError | None]:
        """Return the live release; where our own indices behind the aliases are no whole release, None and the error.

        Raises:
            UsageError: an alias is an index.
            DamagedIndexError: an alias names an index of another application.
        """
        try:
            return self.live(), None
        except DamagedIndexError as error:
            names = [*self.aliases.values()]
            for index, body in self._aliased_indices().items():
                if any(not index.startswith(f"{alias}__") for alias in body["aliases"] if alias in names):
                    raise
            return None, error

    def list(self) -> dict[str, ListedRelease]:
        """Return every verified release that has all its indices, the oldest first; of closed ones with the problem."""
        indices = self._release_indices()
        found = self._meta_bodies(indices).items()
        listed = {name: self._read(name, bodies["items"]) for name, bodies in found if _is_complete(bodies)}
        for name, index in self._closed(indices).items():
            if (release := listed.get(name)) and not release.problem:
                problem = RunError(f"{index} is closed: open it with POST /{index}/_open")
                listed[name] = ListedRelease(release.meta, problem)
        return in_order(listed)

    def closed(self) -> dict[str, str]:
        """Return a closed index of every release that has one, by release."""
        return self._closed(self._release_indices())

    def profiles(self) -> dict[str, str]:
        """Return the release of every index of profiles, whole or not; "" for a foreign one that the alias names.

        `_meta` says that an index is ours: another application's may be named like ours.
        """
        alias = self.aliases["profiles"]
        among = {
            "ignore_unavailable": "true",
            "expand_wildcards": "open,closed",
            "filter_path": "*.mappings._meta,*.aliases,*.settings.index.uuid",
        }
        indices = self.client.indices.get(index=f"{alias}__*,{alias}", params=among)
        ours = {index for index, body in indices.items() if index.startswith(f"{alias}__") and "whole" in _meta(body)}
        named = {index for index, body in indices.items() if alias in body.get("aliases", {})}
        return {index: self._release_of(index) if index in ours else "" for index in sorted(ours | named)}

    def activate(self, release: str) -> None:
        """Let all aliases name a release, in one request."""
        actions = []
        for kind, alias in self.aliases.items():
            # by pattern, to remove the alias from whatever release it names at that moment
            actions.append({"remove": {"index": f"{alias}__*", "alias": alias, "must_exist": False}})
            actions.append({"add": {"index": self.index(kind, release), "alias": alias}})
        patterns = ",".join(f"{alias}__*" for alias in self.aliases.values())
        change_despite_full_disk(
            self.client, patterns, lambda: self.client.indices.update_aliases(body={"actions": actions})
        )

    def delete(self, release: str) -> None:
        """Delete all existing indices of a release."""
        indices = ",".join(self.index(kind, release) for kind in INDEX_KINDS)
        self.client.indices.delete(index=indices, ignore_unavailable=True)

    def delete_unfinished(self) -> None:
        """Delete what no release can become: indices that a killed publication marked, or left by one that was lost.

        Only the holder of the publisher's lease may do so. What an alias names stays, even if it is damaged. So do a
        whole release with closed indices, and indices that were restored from a snapshot under another name.
        """
        indices = self._release_indices()
        ours = set(self.aliases.values())
        aliased = {self._release_of(index) for index, body in indices.items() if ours & body.get("aliases", {}).keys()}
        for name, bodies in self._meta_bodies(indices).items():
            if _is_unfinished(bodies) and name not in aliased:
                self.delete(name)
                logger.info("deleted the indices of %s, which was not finished or had lost an index", name)

    def _read(self, name: str, body: Mapping[str, Any]) -> ListedRelease:
        """Read the `_meta` of a release, which another package version may have written."""
        meta = None
        try:
            with suppress(KeyError, TypeError, ValueError):
                meta = read_meta(body)
            check_readable(name, body["schema_version"], body["analyzer"])
        except UsageError as error:
            return ListedRelease(meta, error)
        except KeyError:
            pass
        unreadable = RunError(f"{self.index('items', name)} has no readable metadata")
        return ListedRelease(meta, None if meta else unreadable)

    def _aliased_indices(self) -> dict[str, Any]:
        """Return the indices that our aliases name, with their aliases."""
        names, fields = ",".join(self.aliases.values()), "*.aliases,*.settings.index.uuid"
        indices: dict[str, Any] = self.client.indices.get(index=names, ignore_unavailable=True, filter_path=fields)
        return indices

    def _release_indices(self) -> dict[str, Any]:
        """Return `_meta` and aliases of the indices that are named like ours, and a setting of the closed ones."""
        among = {
            "expand_wildcards": "open,closed",
            "filter_path": "*.mappings._meta,*.aliases,*.settings.index.verified_before_close",
        }
        patterns = ",".join(f"{alias}__*" for alias in self.aliases.values())
        indices: dict[str, Any] = self.client.indices.get(index=patterns, params=among)
        return indices

    def _closed(self, indices: dict[str, Any]) -> dict[str, str]:
        """Return what `closed` does, from what `_release_indices` returned."""
        return {self._release_of(index): index for index, body in reversed(indices.items()) if "settings" in body}

    def _meta_bodies(self, indices: Mapping[str, Any]) -> dict[str, dict[IndexKind, Mapping[str, Any]]]:
        """Return `_meta` of every index of our releases, by release and kind; {} of one with another name in it."""
        bodies: dict[str, dict[IndexKind, Mapping[str, Any]]] = {}
        for kind, alias in self.aliases.items():
            for index, body in indices.items():
                meta = _meta(body)
                name = self._release_of(index)
                if index.startswith(f"{alias}__") and "whole" in meta:
                    if meta.get("name") != name:  # a fresh copy still has the metadata of its source
                        meta = {"whole": False} if loading_alias(index) in body.get("aliases", {}) else {}
                    bodies.setdefault(name, {})[kind] = meta
        return bodies

    def _release_of(self, index: str) -> str:
        """Return the release to which an index belongs, "" for an index of another application."""
        alias = next((alias for alias in self.aliases.values() if index.startswith(f"{alias}__")), None)
        return f"items{index.removeprefix(alias)}" if alias else ""


def _foreign(targets: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Yield the indices of other applications that our aliases name, each after the alias."""
    for alias, indices in targets.items():
        yield from ((alias, index) for index in indices if not index.startswith(f"{alias}__"))


def _meta(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `_meta` of what the server says about an index; that of an index of ours says whether it is `whole`."""
    meta: Mapping[str, Any] = body.get("mappings", {}).get("_meta", {})
    return meta


def _is_complete(bodies: Mapping[IndexKind, Mapping[str, Any]]) -> bool:
    return all(bodies.get(kind, {}).get("whole") for kind in INDEX_KINDS)


def _is_unfinished(bodies: Mapping[IndexKind, Mapping[str, Any]]) -> bool:
    """Return whether an index is marked as unfinished, or the release has lost one and only its own are left."""
    is_marked = any(body.get("whole") is False for body in bodies.values())
    return is_marked or (len(bodies) < len(INDEX_KINDS) and all(bodies.values()))


@dataclass(frozen=True)
class OpenedRelease:
    """The parts of a release that a search needs.

    Attributes:
        meta: its metadata.
        indices: names by kind.
        fields: names that filters may use.
        ef_search: number of candidates with which its approximate search reached the required recall.
        shards: of the index of items.
    """

    meta: ReleaseMeta
    indices: Mapping[IndexKind, str]
    fields: frozenset[str]
    ef_search: int
    shards: int = 1


def find_live_release(catalogue: ReleaseCatalogue) -> str:
    """Return the name of the live release.

    Raises:
        UsageError: nothing is published, or an alias is an index.
        DamagedIndexError: the aliases do not point to one release.
    """
    name = catalogue.live()
    if name is None:
        host = catalogue.client.transport.get_connection().host
        raise UsageError(f"nothing is published in {host} as {catalogue.aliases['items']}: run `vlm4rec index` first")
    return name


def live_ef_search(catalogue: ReleaseCatalogue) -> int:
    """Return the `ef_search` of the live release, `EF_SEARCH` where nothing is published.

    Raises:
        UsageError: an alias is an index, or the release is of another package version.
        RunError: the aliases do not point to one release, or its metadata cannot be read.
    """
    name = catalogue.live()
    return read_release(catalogue, name).ef_search if name else EF_SEARCH


def read_release(catalogue: ReleaseCatalogue, name: str) -> OpenedRelease:
    """Read the metadata of a release.

    Raises:
        UsageError: it does not exist, or is of another package version.
        RunError: its metadata cannot be read.
    """
    index = catalogue.index("items", name)
    try:
        mapping = catalogue.client.indices.get_mapping(index=index)[index]["mappings"]
        body = mapping["_meta"]
        check_readable(name, body["schema_version"], body["analyzer"])
        meta = read_meta(body)
    except exceptions.NotFoundError:
        raise UsageError(f"there is no release {name}: `vlm4rec releases list` shows all releases") from None
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{index} has no readable metadata: {CURE}") from None
    # the mapping of a copy also has the facets of earlier releases
    fields = frozenset(body.get("facets", mapping["properties"]["facets"].get("properties", ())))
    indices = {kind: catalogue.index(kind, name) for kind in INDEX_KINDS}
    return OpenedRelease(meta, indices, fields, int(body.get("ef_search", EF_SEARCH)), int(body.get("shards", 1)))


def activating(catalogue: ReleaseCatalogue) -> AbstractContextManager[Lease]:
    """Keep other processes from activating or removing releases while the block runs; a running load is not waited for.

    Raises:
        HeldError: another process has been activating or removing releases for `PATIENCE` seconds.
    """
    return lease(catalogue.client, catalogue.prefix, ACTIVATION, PATIENCE)


def activate_release(catalogue: ReleaseCatalogue, release: str, held: Lease) -> None:
    """Activate a release in a block of `activating`, and make sure of the outcome.

    When the server's answer is lost, the aliases may have moved or not. So the live release is read, and the request is
    repeated unless it is this one.

    Raises:
        UsageError: an alias is an index.
        DamagedIndexError: an alias names an index of another application too, and nothing has changed.
        RunError: the server refuses and nothing has changed, it stays away and the outcome is unknown, or the aliases
            name another index afterwards.
    """
    catalogue.live_or_damage()  # an activation would leave the alias of a foreign index
    try:
        for attempt in until_answered(PATIENCE):
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    if _is_live(catalogue, release):
                        return
                    held.renew()  # otherwise this request could undo an activation by another process
                catalogue.activate(release)
                if not _is_live(catalogue, release):
                    raise RunError(f"the aliases do not name {release} alone: see `vlm4rec releases list`")
    except (UnreachableError, exceptions.TransportError) as error:
        if not is_transient(error):
            raise
        reason = describe_refusal(error) if isinstance(error, exceptions.TransportError) else str(error)
        raise RunError(
            f"it is unknown whether {release} is live; it is complete and is kept: {reason}; `vlm4rec releases list`"
            " shows it when the server is back"
        ) from None


def check_unchanged(catalogue: ReleaseCatalogue, before: str | None, release: str) -> None:
    """Refuse to replace a release that another process activated while this one was built.

    Args:
        catalogue: of the server's releases.
        before: the live release when the building began, None without a whole one.
        release: the new one, for the message.

    Raises:
        RunError: the live release is not `before`.
    """
    now, damage = catalogue.live_or_damage()
    if before and damage:
        raise damage
    if now != before:
        raise RunError(activated_meanwhile(now, release))


def delete_old(catalogue: ReleaseCatalogue, needed: set[str], retained: int) -> list[str]:
    """Delete all but the newest `retained` and the needed releases, in a block of `activating`.

    Releases with a closed index stay and do not count: somebody has put them aside. A search that has a deleted release
    open opens the live one.

    Returns:
        Names of the deleted releases.
    """
    closed = catalogue.closed()
    names = [name for name in catalogue.list() if name not in closed]
    old = [name for name in names[:-retained] if name not in needed]
    for name in old:
        catalogue.delete(name)
    return old


def _is_live(catalogue: ReleaseCatalogue, release: str) -> bool:
    try:
        return catalogue.live() == release
    except DamagedIndexError:  # the aliases are in the disorder that this activation ends
        return False
