"""The indices of a release on a server: their names, strict mappings, and `_meta` with the release's metadata."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from vlm4rec_search.common.analyzer import Analyzer, load_analyzer
from vlm4rec_search.common.bm25 import BOOSTS, K1, B
from vlm4rec_search.indexes.opensearch.storage import Storage
from vlm4rec_search.search.release import ReleaseMeta

Body = dict[str, Any]  # JSON for the server
IndexKind = Literal["items", "profiles", "segments"]

INDEX_KINDS: tuple[IndexKind, ...] = ("items", "profiles", "segments")
ID_COLUMNS: Mapping[IndexKind, str] = {"items": "item_id", "profiles": "user_id", "segments": "segment"}
LONGEST_ID = 512  # bytes, of the server's `_id`
LONGEST_VALUE = 8_191  # characters of a keyword, since a term has at most 32,766 bytes; filters ignore longer values
DEFAULT = Storage()
_FIELDS = 1_000  # fields of a mapping: the server's default limit
VECTORS = ("vector", "fitted", "photo")  # the fields of vectors of an item, of which a release may lack the last two
_TIMES = ("created_at", "as_of", "events_until")

_KEYWORD: Body = {"type": "keyword", "ignore_above": LONGEST_VALUE}
_STORED: Body = {"type": "object", "enabled": False}
_SOURCE_ONLY: Body = {"type": "keyword", "index": False, "doc_values": False}  # for a terms lookup, which reads _source
_READ: Body = {"index": False, "doc_values": False, "store": True}  # read without parsing the whole _source
_HASH: Body = {"type": "keyword", "index": False}  # doc values, read without _source
_COUNT: Body = {"type": "long", "index": False}  # for aggregations


def index_name(prefix: str, kind: IndexKind, release: str) -> str:
    """Return the name of one of the three indices of a release; the index of items has the release's own name."""
    return f"{prefix}{kind}{release.removeprefix('items')}"


def loading_alias(index: str) -> str:
    """Return the alias that an index has while it is loaded, and a copy from the beginning."""
    return f"{index}__loading"


def field_name(field: str) -> str:
    """Return the name of a field below `facets` and `numbers`: percent-encoded, since dots and stars mean paths."""
    return quote(field, safe="").replace(".", "%2E") or "%"


def index_body(
    kind: IndexKind,
    meta: ReleaseMeta,
    facets: Iterable[str],
    storage: Storage = DEFAULT,
    count_nodes: Callable[[], int] = lambda: 1,
) -> Body:
    """Return settings and mappings of a new index; its `_meta` says that the release is not complete yet.

    Args:
        kind: of the documents.
        meta: of the release.
        facets: fields that filters may use.
        storage: shards, copies, and how the server stores vectors.
        count_nodes: asks for the data nodes of the cluster.
    """
    properties = dict(_PROPERTIES[kind])
    if kind == "items":
        properties |= _item_properties(meta, facets, storage)
    settings: Body = {
        **_spread(kind, meta, storage, count_nodes),
        "mapping.total_fields.limit": _FIELDS + 2 * len(properties.get("facets", {}).get("properties", {})),
    }
    if kind == "items":
        # vectors stay in _source: OpenSearch 3.5.0 fails to derive them from the graph after a merge ("Already closed")
        settings |= {"knn": True, "knn.derived_source.enabled": False}
        settings |= {
            "analysis": analysis(load_analyzer(meta.analyzer)),
            "similarity.default": {"type": "BM25", "k1": K1, "b": B},
        }
    return {
        "settings": {"index": settings},
        "mappings": {"dynamic": "strict", "_meta": {**meta.to_json(), "whole": False}, "properties": properties},
    }


def _spread(
    kind: IndexKind, meta: ReleaseMeta, storage: Storage, count_nodes: Callable[[], int]
) -> Mapping[str, object]:
    if kind == "items":
        return storage.settings(meta.documents, meta.dimension, count_nodes)
    return storage.profile_settings(meta.users if kind == "profiles" else 0)


def analysis(analyzer: Analyzer) -> Body:
    """Return the settings with which a server makes the terms of our analyzer: its steps as filters, in their order."""
    language = analyzer.language
    char_filters: Body = _pattern_filters("join", analyzer.joins)
    if analyzer.mapped:
        mappings = [f"{_escaped(letter)} => {_escaped(whole)}" for letter, whole in analyzer.mapped.items()]
        char_filters["letters"] = {"type": "mapping", "mappings": mappings}
    char_filters |= _pattern_filters("replace", analyzer.replacements)
    filters: Body = {}
    if language.possessive:
        filters["possessive"] = {"type": "stemmer", "language": "possessive_english"}
    filters["lower"] = {"type": "lowercase"}
    if analyzer.stop_words:
        filters["stop"] = {"type": "stop", "stopwords": sorted(analyzer.stop_words)}
    if language.stemmer == "porter_stem":
        filters["stem"] = {"type": "porter_stem"}
    elif language.stemmer:
        filters["stem"] = {"type": "stemmer", "language": language.stemmer}
    if language.bigrams:
        filters["bigrams"] = {"type": "cjk_bigram"}
    steps = {"char_filter": list(char_filters), "tokenizer": "standard", "filter": list(filters)}
    return {
        "char_filter": char_filters,
        "filter": filters,
        "analyzer": {analyzer.name: {"type": "custom", **steps}},
    }


def _pattern_filters(name: str, replacements: Iterable[tuple[str, str]]) -> Body:
    return {
        f"{name}_{number}": {"type": "pattern_replace", "pattern": pattern, "replacement": replacement}
        for number, (pattern, replacement) in enumerate(replacements)
    }


def _escaped(letters: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else f"\\u{ord(letter):04x}" for letter in letters)


def read_meta(body: Mapping[str, Any]) -> ReleaseMeta:
    """Return the metadata in `_meta`; an optional field that version 0.1 did not write is None.

    Raises:
        KeyError, ValueError: `_meta` does not hold the metadata of a release.
    """
    needed = [field.name for field in fields(ReleaseMeta) if field.name in body or field.default is not None]
    values = {name: body[name] for name in needed}
    times = {name: datetime.fromisoformat(values[name]) for name in _TIMES if values.get(name)}
    return ReleaseMeta(**{**values, **times})


def _item_properties(meta: ReleaseMeta, facets: Iterable[str], storage: Storage) -> Body:
    names = [field_name(field) for field in facets]
    analyzer = load_analyzer(meta.analyzer).name
    dimensions = {"vector": meta.dimension, "fitted": meta.fitted_dimension, "photo": meta.image_dimension}
    return {
        **{field: {"type": "text", "analyzer": analyzer, "store": field == "title"} for field in BOOSTS},
        "facets": {"properties": dict.fromkeys(names, _KEYWORD)},
        "numbers": {"properties": {name: {"type": "double"} for name in names}},
        **{
            field: {"type": "knn_vector", "dimension": dimensions[field], **_method(storage)}
            for field in vector_fields(meta)
        },
    }


def vector_fields(meta: ReleaseMeta) -> list[str]:
    """Return the fields of `VECTORS` that a release has."""
    made_by = {"vector": meta.encoder, "fitted": meta.fitted, "photo": meta.image_encoder}
    return [field for field in VECTORS if made_by[field]]


_HNSW: Body = {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"}


def _method(storage: Storage) -> Body:
    """Return how vectors are stored. The compression is named, since a newer server may have another default.

    on_disk: the graph has fewer bits for each number; the server compares its hits again with the full vectors.
    """
    method = {**_HNSW, "engine": "faiss"} if storage.vectors == "faiss" else _HNSW
    mode = {"mode": "on_disk"} if storage.vectors == "on_disk" or storage.level != "1x" else {}
    return {**mode, "compression_level": storage.level, "method": method}


_PROPERTIES: Mapping[IndexKind, Body] = {
    "items": {
        "item_id": {"type": "keyword"},
        "category": {"type": "keyword"} | _READ,  # filters use its facet
        "price": {"type": "double", "store": True},
        "available": {"type": "boolean"},
        "image": {"type": "keyword", "index": False, "doc_values": False},
        "attributes": _STORED,
        "popularity": {"type": "float"},
        "shoppers": _COUNT,
        "recent_shoppers": _COUNT,
        "words": _STORED,
        "neighbours": {
            "properties": {"item_id": {"type": "keyword"} | _READ, "similarity": {"type": "double"} | _READ}
        },
        "ease": {"properties": {"item_id": {"type": "keyword"} | _READ, "weight": {"type": "double"} | _READ}},
        "content_hash": _HASH,
        "body_hash": _HASH,
    },
    "profiles": {
        "user_id": {"type": "keyword"},
        "items": {"type": "integer", "index": False},
        "vector": {"type": "float", "index": False, "doc_values": False},
        "history": _STORED,
        "seen": _SOURCE_ONLY,
        "terms": _STORED,
        "interests": _STORED,
        "behaviour": _STORED,
        "shoppers": _STORED,
        "repeats": _STORED,
        "fitted": {"type": "float", "index": False, "doc_values": False},
        "segment": _KEYWORD,
        "categories": _KEYWORD,
        "body_hash": _HASH,
    },
    "segments": {"segment": _KEYWORD, "items": _STORED, "body_hash": _HASH},
}
