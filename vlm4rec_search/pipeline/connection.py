"""SQLMesh's connection to the warehouse, by which the rows of Python models are written once.

SQLMesh writes each data frame into a table of its own, and copies that into the table of the model. Here the database
reads the frame where it is.
"""

import typing as t

from sqlglot import exp
from sqlmesh.core.config import DuckDBConnectionConfig
from sqlmesh.core.engine_adapter import DuckDBEngineAdapter
from sqlmesh.core.engine_adapter.shared import SourceQuery

from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.warehouse import connection_options


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


class _WarehouseConnection(DuckDBConnectionConfig):  # type: ignore[misc]
    @property
    def _engine_adapter(self) -> type[DuckDBEngineAdapter]:
        return _WarehouseAdapter


def warehouse_connection(settings: Settings) -> DuckDBConnectionConfig:
    """Return the connection of a plan to the warehouse of the settings."""
    options = connection_options(settings.warehouse_memory)
    return _WarehouseConnection(database=str(settings.warehouse), connector_config=options)
