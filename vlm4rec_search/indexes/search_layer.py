"""A snapshot of the warehouse's search layer: the tables that a release is made of, all read at one moment."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeAlias, TypeVar, Union

import duckdb
import pyarrow as pa

from vlm4rec_search.common.analyzer import ENGLISH, Analyzer, load_analyzer
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.warehouse import in_environment, schema
from vlm4rec_search.indexes.release import new_release
from vlm4rec_search.search.release import ReleaseMeta

if TYPE_CHECKING:
    import pandas as pd

Frame: TypeAlias = Union[pa.Table, "pd.DataFrame", duckdb.DuckDBPyRelation]
_BATCH = 10_000  # rows in memory while a table is read
_MEMORY = "2GB"  # of DuckDB while it sorts a table; what does not fit goes to a folder beside the warehouse
FrameT = TypeVar("FrameT", bound=Frame, covariant=True)


@dataclass(frozen=True)
class SearchTables(Generic[FrameT]):
    """The tables that a release is made of; `MODELS` names the model and the columns of each.

    Attributes:
        documents: one row for each item.
        users: one row for each shopper.
        popularity: how often each item was taken, and its score.
        neighbours: pairs of items that the same shoppers took.
        segments: the popular items of each segment.
        facets: the values that filters compare, by item and field.
        terms: the weighted words of each item.
        ease: pairs of items with the weight of the first in the score of the second.
        fitted: the learned vectors of items, empty without a fitted system.
        photos: the vectors of photos, of `PHOTOS`; None for a release without them.
    """

    documents: FrameT
    users: FrameT
    popularity: FrameT
    neighbours: FrameT
    segments: FrameT
    facets: FrameT
    terms: FrameT
    ease: FrameT
    fitted: FrameT
    photos: FrameT | None = None


class Model(NamedTuple):
    """A model of the search layer: its name, the columns that publication needs, and the order of its rows."""

    name: str
    columns: tuple[str, ...]
    order: str

    def require_columns(self, present: Collection[str]) -> None:
        """Check that a table has the columns that publication needs.

        Raises:
            UsageError: some are missing, such as those of a newer package that an edited model lacks.
        """
        missing = [column for column in self.columns if column not in present]
        if missing:
            raise UsageError(
                f"{self.name} has no column {', '.join(missing)}: run `sqlmesh plan`; if that changes nothing, take the"
                f" column over into models/{self.name.replace('.', '/')}.*, see `vlm4rec upgrade --diff`"
            )


_TEXTS = ("title", "description", "caption", "details")
_ITEM = ("item_id", *_TEXTS, "category", "price", "available", "image", "attributes")
_USER = (
    "user_id", "items", "vector", "history", "seen", "terms", "interests", "behaviour", "shoppers", "repeats",
    "segment", "categories", "fitted",
)  # fmt: skip
# one model for each field of `SearchTables` but the optional photos
MODELS = {
    "documents": Model(
        "search.item_documents", (*_ITEM, "vector", "encoder", "captioner", "content_hash"), order="item_id"
    ),
    "users": Model("search.user_documents", _USER, order="user_id"),
    "popularity": Model("search.item_popularity", ("item_id", "shoppers", "recent", "score"), order="rank"),
    "neighbours": Model("search.item_neighbours", ("item_id", "neighbour_id", "similarity"), order="item_id, rank"),
    "segments": Model("search.segment_popularity", ("segment", "item_id", "shoppers"), order="segment, rank"),
    "facets": Model("search.item_facets", ("item_id", "field", "value", "number"), order="item_id, field, value"),
    "terms": Model("search.item_terms", ("item_id", "term", "word", "weight", "rank"), order="item_id, rank"),
    "ease": Model("search.ease_weights", ("item_id", "neighbour_id", "weight"), order="item_id, rank"),
    "fitted": Model("embeddings.fitted_items", ("item_id", "fit", "vector"), order="item_id"),
}
PHOTOS = Model("embeddings.image_embeddings", ("item_id", "encoder", "vector"), order="item_id")
_PROVENANCE = """
    SELECT
      ANY_VALUE(documents.encoder), ANY_VALUE(LEN(documents.vector)), ANY_VALUE(documents.captioner),
      (SELECT ANY_VALUE(prompt) FROM captions.item_captions), (SELECT ANY_VALUE(as_of) FROM histories.as_of),
      -- the view of an environment contains the name of SQLMesh's table behind it, which ends with the version
      (SELECT ANY_VALUE(regexp_extract(sql, 'item_documents__([0-9]+)', 1))
       FROM duckdb_views() WHERE schema_name = ? AND view_name = 'item_documents'),
      (SELECT ANY_VALUE(recipe) FROM embeddings.item_texts),
      (SELECT ANY_VALUE(popularity_days) FROM profiles.pace),
      (SELECT MAX(TRY_CAST(attributes ->> 'received' AS TIMESTAMP)) FROM raw.interactions
       WHERE file LIKE 'events/interactions/%')
    FROM search.item_documents AS documents
"""
# The tables of prod: the schemas of other environments contain `__`, and so do those of SQLMesh.
_VIEWS = """
    SELECT sql FROM duckdb_views()
    WHERE NOT internal AND NOT contains(schema_name, '__') ORDER BY schema_name, view_name
"""


@dataclass(frozen=True)
class SearchLayer:
    """A snapshot of the search layer, and what produced it.

    Attributes:
        tables: the rows.
        encoder: id of the sentence encoder, with its revision.
        dimension: of the encoder's vectors.
        captioner: id of the captioner, with its revision.
        prompt: id of the caption prompt.
        as_of: the moment up to which the tables count events.
        table_version: SQLMesh's version of search.item_documents; None for tables that come from no warehouse.
        text_recipe: which texts of an item are embedded; None for tables that come from no warehouse.
        popularity_days: how many days before the latest event popularity counts; None for tables that come from no
            warehouse.
        events_until: when the newest event that the tables have from the log of events was received, in UTC; None
            without one.
        versions: hash of SQLMesh's versions of all tables of prod, of `as_of` and of numbers of rows, which changes
            with any model, raw file, or setting of the tables; None for other tables.
    """

    tables: SearchTables[pa.Table]
    encoder: str
    dimension: int
    captioner: str
    prompt: str
    as_of: datetime | None
    table_version: str | None = None
    text_recipe: str | None = None
    popularity_days: float | None = None
    events_until: datetime | None = None
    versions: str | None = None

    def new_release(self, checks: str) -> ReleaseMeta:
        """Return the metadata of a new release of these tables; `checks` is the verdict of the expectation suites."""
        learned = self.tables.fitted.slice(0, 1).to_pylist()
        fitted = (learned[0]["fit"], len(learned[0]["vector"])) if learned else (None, None)
        photos = self.tables.photos.slice(0, 1).to_pylist() if self.tables.photos is not None else []
        image = (photos[0]["encoder"], len(photos[0]["vector"])) if photos else (None, None)
        return replace(
            new_release(self.encoder, self.dimension, self.captioner, self.prompt, self.as_of, *image),
            checks=checks,
            analyzer=self.analyzer.id,
            table_version=self.table_version,
            fitted=fitted[0],
            fitted_dimension=fitted[1],
            popularity_days=self.popularity_days,
            events_until=self.events_until,
        )

    @property
    def analyzer(self) -> Analyzer:
        """The analyzer that made the words of the tables; English where no item has a word."""
        terms = self.tables.terms
        return load_analyzer(terms["analyzer"][0].as_py()) if len(terms) else ENGLISH


def read_search_layer(
    connection: duckdb.DuckDBPyConnection, environment: str = "prod", photos: bool = False
) -> SearchLayer:
    """Read a snapshot of the search layer of an environment; its rows lie in temporary files (TMPDIR).

    Args:
        connection: to the warehouse; its memory is limited from now on.
        environment: of SQLMesh.
        photos: also the vectors of photos.

    Raises:
        UsageError: search.item_documents is empty, a column is missing, or there are no vectors of photos.
    """
    connection.execute(f"SET memory_limit = '{_MEMORY}'")
    names = [schema("search", environment)]
    provenance = connection.execute(in_environment(_PROVENANCE, environment), names).fetchone()
    if provenance is None or provenance[0] is None:
        raise UsageError("search.item_documents is empty: look at staging.rejected_items, then run `sqlmesh plan`")
    tables = {name: _read_model(connection, model, environment) for name, model in MODELS.items()}
    of_photos = _read_model(connection, PHOTOS, environment) if photos else None
    if of_photos is not None and len(of_photos) == 0:
        raise UsageError(
            f"{PHOTOS.name} is empty, so that no release can have vectors of photos: set VLM4REC_IMAGE_ENCODER to"
            " another one than none and run `sqlmesh plan`, or set VLM4REC_INDEX_PHOTOS=false"
        )
    search_layer = SearchLayer(SearchTables(**tables, photos=of_photos), *provenance)
    if schema("search", environment) != "search":
        return search_layer
    views = [sql for (sql,) in connection.execute(_VIEWS).fetchall()]
    # `sqlmesh run` writes new rows under the same views.
    rows = [f"{name} {len(table)}" for name, table in tables.items()]
    versions = "\n".join([*views, str(search_layer.as_of), *rows])
    return replace(search_layer, versions=sha256(versions.encode()).hexdigest()[:16])


def _read_model(connection: duckdb.DuckDBPyConnection, model: Model, environment: str) -> pa.Table:
    """Return the rows of a model, mapped from a file that goes with the table: they need not fit into memory."""
    query = f"SELECT * FROM {model.name} ORDER BY {model.order}"  # noqa: S608  names of this module
    rows = connection.execute(in_environment(query, environment)).to_arrow_reader(_BATCH)
    model.require_columns(rows.schema.names)
    with NamedTemporaryFile(prefix="vlm4rec-", suffix=".arrow") as file:
        with pa.ipc.new_file(file, rows.schema) as writer:
            for batch in rows:
                writer.write(batch)
        file.flush()
        return pa.ipc.open_file(pa.memory_map(file.name)).read_all()
