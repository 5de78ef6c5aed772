"""What is read of a release on a server before it is searched."""

from collections.abc import Mapping
from dataclasses import dataclass

from opensearchpy import exceptions

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes.opensearch.aliases import Catalogue
from vlm4rec_search.indexes.opensearch.mapping import KINDS, Kind, read_meta
from vlm4rec_search.indexes.release import ReleaseMeta, check_readable

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
