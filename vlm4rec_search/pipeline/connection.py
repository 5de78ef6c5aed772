"""SQLMesh's connection to the warehouse, by which rows of Python models are written once, and large tables in parts.

SQLMesh writes each data frame into a table of its own, and copies that into the table of the model. Here the database
reads the frame where it is.

SQLMesh runs the query of a model as a whole, and DuckDB holds the lists that it collects in memory. A model with
`physical_properties (in_ranges_of = 'user_id')` is computed for `RANGE` shoppers after the others: each of its sources
has to have this column, and the rows of a shopper have to depend on those of the same shopper alone.
"""

import typing as t
from itertools import pairwise

from sqlglot import exp
from sqlmesh.core.config import DuckDBConnectionConfig
from sqlmesh.core.engine_adapter import DuckDBEngineAdapter
from sqlmesh.core.engine_adapter.shared import SourceQuery

from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.warehouse import connection_options

RANGE = 50_000
"""Values of the column in one part: `search.user_documents` takes up to 1.5 GB for so many shoppers."""


class _WarehouseAdapter(DuckDBEngineAdapter):  # type: ignore[misc]  # sqlmesh has no types here
    def _df_to_source_queries(
        self,
        df: t.Any,
        target_columns_to_types: dict[str, exp.DataType],
        batch_size: int,
        target_table: t.Any,
        source_columns: list[str] | None = None,
    ) -> list[SourceQuery]:
        name = self._get_temp_table(target_table).name
        self.cursor.register(name, df)
        rows = exp.select(*self._casted_columns(target_columns_to_types, source_columns)).from_(exp.to_table(name))
        return [SourceQuery(query_factory=lambda: rows, cleanup_func=lambda: self.cursor.unregister(name))]

    def _create_table_from_source_queries(
        self, table_name: t.Any, source_queries: list[SourceQuery], *args: t.Any, **kwargs: t.Any
    ) -> None:
        column = (kwargs.get("table_properties") or {}).get("in_ranges_of")
        if column is not None:
            parts = self._parts(source_queries[0].query_factory(), column.name)
            source_queries = [SourceQuery(query_factory=lambda part=part: part) for part in parts]
        super()._create_table_from_source_queries(table_name, source_queries, *args, **kwargs)

    def _parts(self, query: exp.Query, column: str) -> list[exp.Query]:
        """Return queries that have the rows of a query together, each for `RANGE` values of a column."""
        sources = [exp.select(column).from_(table.copy()) for table in _sources(query)]
        numbered = exp.select(column, f"ROW_NUMBER() OVER (ORDER BY {column}) AS number").from_(
            exp.union(*sources, distinct=True).subquery()
        )
        last_ones = exp.select(column).from_(numbered.subquery()).where(f"number % {RANGE} = 0").order_by(column)
        bounds = [None, *(value for (value,) in self.fetchall(last_ones)), None]
        return [_within(query, column, low, high) for low, high in pairwise(bounds)]


def _sources(query: exp.Query) -> list[exp.Table]:
    """Return the tables that a query reads, without those that its WITH clause defines."""
    return [table for table in query.find_all(exp.Table) if table.db]


def _within(query: exp.Query, column: str, low: str | None, high: str | None) -> exp.Query:
    """Return a query of which each source has only the rows with low < column <= high; None is no bound."""
    query = query.copy()
    bounds = ((exp.GT, low), (exp.LTE, high))
    rows = [
        kind(this=exp.column(column), expression=exp.Literal.string(value))
        for kind, value in bounds
        if value is not None
    ]
    for table in _sources(query) if rows else []:
        name = exp.to_identifier(table.alias_or_name, quoted=True)
        table.replace(exp.select("*").from_(table.copy()).where(*rows).subquery(name))
    return query


class _WarehouseConnection(DuckDBConnectionConfig):  # type: ignore[misc]
    @property
    def _engine_adapter(self) -> type[DuckDBEngineAdapter]:
        return _WarehouseAdapter


def warehouse_connection(settings: Settings) -> DuckDBConnectionConfig:
    """Return the connection of a plan to the warehouse of the settings."""
    options = connection_options(settings.warehouse_memory)
    return _WarehouseConnection(database=str(settings.warehouse), connector_config=options)
