"""The search layer of the warehouse, read at one moment."""

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeAlias, TypeVar

import duckdb
import pandas as pd
import pyarrow as pa
from duckdb import DuckDBPyConnection

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.warehouse import in_environment, schema
from vlm4rec_search.indexes.release import ReleaseMeta, new_release

Frame: TypeAlias = pa.Table | pd.DataFrame | duckdb.DuckDBPyRelation
Given = TypeVar("Given", bound=Frame, covariant=True)


@dataclass(frozen=True)
class SearchTables(Generic[Given]):
    """The search layer, by columns of its tables (`tables.REQUIRED`).

    Attributes:
        documents: of search.item_documents.
        users: of search.user_documents.
        popularity: of search.item_popularity.
        neighbours: of search.item_neighbours.
        segments: of search.segment_popularity.
    """

    documents: Given
    users: Given
    popularity: Given
    neighbours: Given
    segments: Given


QUERIES = {
    "documents": "SELECT * FROM search.item_documents ORDER BY item_id",
    "users": "SELECT * FROM search.user_documents ORDER BY user_id",
    "popularity": "SELECT item_id, interactions, recent FROM search.item_popularity ORDER BY rank",
    "neighbours": "SELECT item_id, neighbour_id, similarity FROM search.item_neighbours ORDER BY item_id, rank",
    "segments": "SELECT segment, item_id, interactions FROM search.segment_popularity ORDER BY segment, rank",
}
MADE_BY = """
    SELECT
      ANY_VALUE(documents.encoder), ANY_VALUE(LEN(documents.vector)), ANY_VALUE(documents.captioner),
      (SELECT ANY_VALUE(prompt) FROM captions.item_captions), (SELECT ANY_VALUE(as_of) FROM histories.as_of),
      -- the view of an environment names the table behind it, and so its version
      (SELECT ANY_VALUE(regexp_extract(sql, 'item_documents__([0-9]+)', 1))
       FROM duckdb_views() WHERE schema_name = ? AND view_name = 'item_documents')
    FROM search.item_documents AS documents
"""


@dataclass(frozen=True)
class Handover:
    """The search layer of the warehouse, read at one moment, and what made it."""

    tables: SearchTables[pa.Table]
    encoder: str
    dimension: int
    captioner: str
    prompt: str
    as_of: datetime | None
    table_version: str | None = None  # SQLMesh's, of search.item_documents

    def release(self, checks: str) -> ReleaseMeta:
        """Name a release of these tables, whose suites ended with `checks`."""
        made_by = (self.encoder, self.dimension, self.captioner, self.prompt, self.as_of)
        return new_release(*made_by, checks, self.table_version)


def read_tables(connection: DuckDBPyConnection, environment: str = "prod") -> Handover:
    """Read the search layer of an environment.

    Raises:
        UsageError: there are no documents.
    """
    of = [schema("search", environment)]
    made_by = connection.execute(in_environment(MADE_BY, environment), of).fetchone()
    if made_by is None or made_by[0] is None:
        raise UsageError("search.item_documents is empty: look at staging.rejected_items, then run `sqlmesh plan`")
    frames = {name: _read(connection, query, environment) for name, query in QUERIES.items()}
    return Handover(SearchTables(**frames), *made_by)


def _read(connection: DuckDBPyConnection, query: str, environment: str) -> pa.Table:
    return connection.execute(in_environment(query, environment)).to_arrow_table()
