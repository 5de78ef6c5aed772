"""The releases on a server: which there are, which one answers, and the switch from one to another."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch, exceptions

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes.opensearch.mapping import KINDS, Body, Kind, index_name, read_meta
from vlm4rec_search.indexes.release import ReleaseMeta, check_readable


class Catalogue:
    """The releases under a prefix; each is three indices, and three aliases name the one that answers."""

    def __init__(self, client: OpenSearch, prefix: str) -> None:
        """Look at the server through a client of `connect`."""
        self.client, self.prefix = client, prefix
        self.aliases: Mapping[Kind, str] = {kind: f"{prefix}{kind}" for kind in KINDS}

    def index(self, kind: Kind, release: str) -> str:
        """Return the name of an index of a release."""
        return index_name(self.prefix, kind, release)

    def live(self) -> str | None:
        """Return the release that answers, None where nothing is published.

        Raises:
            UsageError: an alias is an index, or the aliases do not point to one release.
        """
        names, found = list(self.aliases.values()), self._answering()
        if taken := [name for name in names if name in found]:
            raise UsageError(
                f"{taken[0]} is an index on the server, not an alias: rename or delete it, or set VLM4REC_INDEX_PREFIX"
            )
        owners = {name: sorted(one for one, of in found.items() if name in of.get("aliases", {})) for name in names}
        releases = {self._release(one) for many in owners.values() for one in many}
        if len(releases) > 1 or releases == {""} or (releases and any(len(many) != 1 for many in owners.values())):
            told = "; ".join(f"{name} -> {' and '.join(many) or 'nothing'}" for name, many in owners.items())
            raise UsageError(
                f"the aliases do not point to one release ({told}): `vlm4rec releases rollback RELEASE` sets them;"
                " for aliases that are somebody else's set VLM4REC_INDEX_PREFIX"
            )
        return releases.pop() if releases else None

    def whole(self) -> dict[str, ReleaseMeta]:
        """Return what the releases say of themselves that were verified and have all their indices, oldest first.

        Those of a package that says other things of a release are passed over.
        """
        metas: list[ReleaseMeta] = []
        for of in self._metas().values():
            with suppress(KeyError, TypeError, ValueError):
                metas += [read_meta(of["items"])] if _is_whole(of) else []
        return {meta.name: meta for meta in sorted(metas, key=lambda meta: (meta.created_at, meta.name))}

    def switch(self, release: str) -> None:
        """Let all aliases name a release, in one request."""
        actions: list[Body] = []
        for kind, alias in self.aliases.items():
            # by pattern: whatever release answers at that moment is taken away
            actions.append({"remove": {"index": f"{alias}__*", "alias": alias, "must_exist": False}})
            actions.append({"add": {"index": self.index(kind, release), "alias": alias}})
        self.client.indices.update_aliases(body={"actions": actions})

    def delete(self, release: str) -> None:
        """Delete what there is of a release."""
        for kind in KINDS:
            self.client.indices.delete(index=self.index(kind, release), ignore_unavailable=True)

    def sweep(self) -> None:
        """Delete what killed publications left; only whoever has the lease may do so.

        What an alias names stays, however damaged, or restored from a snapshot under another name.
        """
        answering = {self._release(index) for index in self._answering()}
        for name, of in self._metas().items():
            if not _is_whole(of) and name not in answering:
                self.delete(name)

    def _answering(self) -> dict[str, Any]:
        """Return the indices that our aliases name, with their aliases."""
        names, shown = ",".join(self.aliases.values()), "*.aliases,*.settings.index.uuid"
        found: dict[str, Any] = self.client.indices.get(index=names, ignore_unavailable=True, filter_path=shown)
        return found

    def _metas(self) -> dict[str, dict[Kind, Mapping[str, Any]]]:
        """Return `_meta` of every index that a release of ours has, by release and kind."""
        patterns = ",".join(f"{alias}__*" for alias in self.aliases.values())
        found = self.client.indices.get_mapping(index=patterns, filter_path="*.mappings._meta")
        metas: dict[str, dict[Kind, Mapping[str, Any]]] = {}
        for kind, alias in self.aliases.items():
            for index in found:
                meta = found[index]["mappings"]["_meta"]
                name = self._release(index)
                if index.startswith(f"{alias}__") and "whole" in meta:
                    # a fresh copy still says what the index says from which it was made
                    metas.setdefault(name, {})[kind] = meta if meta.get("name") == name else {}
        return metas

    def _release(self, index: str) -> str:
        """Return the release to which an index belongs, "" for none."""
        alias = next((alias for alias in self.aliases.values() if index.startswith(f"{alias}__")), None)
        return f"items{index.removeprefix(alias)}" if alias else ""


def _is_whole(of: Mapping[Kind, Mapping[str, Any]]) -> bool:
    return all(of.get(kind, {}).get("whole") for kind in KINDS)


# What is read of a release on a server before it is searched.

EF_SEARCH = 200  # where verification has not said otherwise


@dataclass(frozen=True)
class Opened:
    """What makes it, its indices, the fields that filters may name, and the `ef_search` that is enough for it."""

    meta: ReleaseMeta
    indices: Mapping[Kind, str]
    fields: frozenset[str]
    ef_search: int


def live(catalogue: Catalogue) -> str:
    """Return the name of the release that answers.

    Raises:
        UsageError: there is none.
    """
    name = catalogue.live()
    if name is None:
        where = catalogue.client.transport.get_connection().host
        raise UsageError(f"nothing is published in {where} as {catalogue.aliases['items']}: run `vlm4rec index` first")
    return name


def live_ef_search(catalogue: Catalogue) -> int:
    """Return what verification has found to be enough for the release that answers, `EF_SEARCH` where none does.

    Raises:
        UsageError: the aliases do not point to one release, or it does not say what made it.
    """
    name = catalogue.live()
    return opened(catalogue, name).ef_search if name else EF_SEARCH


def opened(catalogue: Catalogue, name: str) -> Opened:
    """Read what a release says of itself.

    Raises:
        UsageError: it is not there, or was built for another package version.
    """
    index = catalogue.index("items", name)
    try:
        mapping = catalogue.client.indices.get_mapping(index=index)[index]["mappings"]
        told = mapping["_meta"]
        check_readable(name, told["schema_version"], told["analyzer"])
        meta = read_meta(told)
    except exceptions.NotFoundError:
        raise UsageError(f"there is no release {name}: `vlm4rec releases list` shows those that are") from None
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"{index} does not say what made it: publish again with `vlm4rec index`") from None
    fields = frozenset(mapping["properties"]["facets"].get("properties", ()))
    indices = {kind: catalogue.index(kind, name) for kind in KINDS}
    return Opened(meta, indices, fields, int(told.get("ef_search", EF_SEARCH)))
