"""SQLMesh's connection to the warehouse, by which rows of Python models are written once, and large tables in parts.

SQLMesh writes each data frame into a table of its own, and copies that into the table of the model. Here the database
reads the frame where it is.

SQLMesh runs the query of a model as a whole, and DuckDB holds the lists that it collects in memory. A model with
`physical_properties (in_ranges_of = 'user_id')` is computed for `RANGE` shoppers at a time: each of its sources has to
have this column, and the rows of a shopper have to depend on those of the same shopper alone. Each part reads all
sources again, so that a million shoppers take about twice the time of a single query.
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
        parts = [] if column is None else self._parts(source_queries[0].query_factory(), column.name)
        if len(parts) <= 1:
            super()._create_table_from_source_queries(table_name, source_queries, *args, **kwargs)
            return
        # An error between two parts must not leave a table with some of the shoppers.
        table = exp.to_table(table_name)
        incomplete, whole = table.copy(), table.this.copy()
        incomplete.set("this", exp.to_identifier(f"{table.name}__parts", quoted=True))
        queries = [SourceQuery(query_factory=lambda part=part: part) for part in parts]
        super()._create_table_from_source_queries(incomplete, queries, *args, **kwargs | {"replace": True})
        self.cursor.begin()
        try:
            self.execute(exp.Drop(this=table, kind="TABLE", exists=True))
            self.rename_table(incomplete, exp.Table(this=whole))
            self.cursor.commit()
        except Exception:
            self.cursor.rollback()
            raise

    def _parts(self, query: exp.Query, column: str) -> list[exp.Query]:
        """Return queries that have the rows of a query together, each for `RANGE` values of a column."""
        sources = [exp.select(column).from_(table.copy()) for table in _sources(query)]
        values = exp.union(*sources, distinct=True) if len(sources) > 1 else sources[0].distinct()
        place, total = f"ROW_NUMBER() OVER (ORDER BY {column}) AS place", "COUNT(*) OVER () AS total"
        numbered = exp.select(column, place, total).from_(values.subquery()).where(f"NOT {column} IS NULL")
        last_ones = exp.select(column).from_(numbered.subquery()).where(f"place % {RANGE} = 0 AND place < total")
        bounds = [None, *(value for (value,) in self.fetchall(last_ones.order_by(column))), None]
        return [_within(query, column, low, high) for low, high in pairwise(bounds)]


def _sources(query: exp.Query) -> list[exp.Table]:
    """Return the tables that a query reads, without those that its WITH clause defines."""
    return [table for table in query.find_all(exp.Table) if table.db]


def _within(query: exp.Query, column: str, low: str | None, high: str | None) -> exp.Query:
    """Return a query of which each source has only the rows with low < column <= high; None is no bound.

    Rows without a value are in the part without a lower bound.
    """
    query, value = query.copy(), exp.column(column)
    if low is None and high is None:
        return query
    above = None if low is None else exp.GT(this=value, expression=exp.Literal.string(low))
    up_to = None if high is None else exp.LTE(this=value, expression=exp.Literal.string(high))
    rows = exp.or_(up_to, exp.Is(this=value, expression=exp.null())) if above is None else exp.and_(above, up_to)
    for table in _sources(query):
        name = exp.to_identifier(table.alias_or_name, quoted=True)
        table.replace(exp.select("*").from_(table.copy()).where(rows).subquery(name))
    return query


class _WarehouseConnection(DuckDBConnectionConfig):  # type: ignore[misc]
    @property
    def _engine_adapter(self) -> type[DuckDBEngineAdapter]:
        return _WarehouseAdapter


def warehouse_connection(settings: Settings) -> DuckDBConnectionConfig:
    """Return the connection of a plan to the warehouse of the settings."""
    options = connection_options(settings.warehouse_memory)
    return _WarehouseConnection(database=str(settings.warehouse), connector_config=options)
