"""The connection of SQLMesh to Spark: its own adapter, which knows JSON and the functions of the macros."""

import os
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import model_validator
from sqlglot import exp
from sqlmesh.core.config import DuckDBConnectionConfig, GatewayConfig
from sqlmesh.core.config.connection import SparkConnectionConfig
from sqlmesh.core.engine_adapter import EngineAdapter
from sqlmesh.core.engine_adapter.spark import SparkEngineAdapter
from sqlmesh.utils.errors import ConfigError, SQLMeshError

from vlm4rec_search.common.settings import Engine
from vlm4rec_search.common.spark.paths import java_option

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NEEDED = {
    "spark.sql.session.timeZone": "UTC",  # the tables have times in UTC
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.jsonGenerator.ignoreNullFields": "false",  # rows as JSON have all their fields, as DuckDB writes them
}
"""Properties of Spark without which the models do not work; they win over a user's own."""


def local_properties(folder: Path) -> dict[str, str]:
    """Return the properties of a Spark on this machine, with its tables and its catalog in a folder."""
    catalog = folder.resolve() / "metastore"
    return {
        "spark.master": "local[*]",
        "spark.driver.memory": "2g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "FATAL",  # what fails is raised here
        "spark.sql.warehouse.dir": str(folder.resolve() / "tables"),
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={catalog};create=true",
        # conditions of many cases need a deep stack
        "spark.driver.extraJavaOptions": f"-Xss8m {java_option('derby.stream.error.file', folder / 'derby.log')}",
        "spark.sql.shuffle.partitions": str(os.cpu_count() or 1),
    }


def check_spark() -> None:
    """Check that Spark can start.

    Raises:
        ConfigError: PySpark or Java is missing.
    """
    if find_spec("pyspark") is None:
        raise ConfigError("Spark needs PySpark: pip install 'vlm4rec-search[spark]'")
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        raise ConfigError(
            "Spark needs Java 17 or later: install a full one, such as Debian's openjdk-17-jre-headless, or set"
            " JAVA_HOME"
        )


class SparkEngine(SparkEngineAdapter):  # type: ignore[misc]
    """SQLMesh's adapter, for models that are written in DuckDB's dialect."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the arguments of SQLMesh."""
        super().__init__(*args, **kwargs)
        self._known_functions: set[str] = set()

    def _to_sql(self, expression: exp.Expr, quote: bool = True, **kwargs: Any) -> str:
        return str(super()._to_sql(for_spark(expression), quote, **kwargs))

    def _execute(self, sql: str, track_rows_processed: bool = False, **kwargs: Any) -> None:
        from vlm4rec_search.common.spark.worker import register_functions

        register_functions(self.spark, sql, self._known_functions)
        super()._execute(sql, track_rows_processed, **kwargs)

    def _ensure_pyspark_df(self, generic_df: Any, target_columns_to_types: Any = None, **kwargs: Any) -> Any:
        types = target_columns_to_types and {name: for_spark(kind) for name, kind in target_columns_to_types.items()}
        return super()._ensure_pyspark_df(generic_df, types, **kwargs)


def for_spark(expression: exp.Expr) -> exp.Expr:
    """Return an expression of DuckDB's dialect in a form that sqlglot writes for Spark without loss.

    JSON is text, and a table that is made of a value has the word LATERAL.

    Raises:
        SQLMeshError: the expression aggregates rows into a list in an order, which sqlglot would drop.
    """
    found = expression.copy()
    for kind in found.find_all(exp.DataType):
        if kind.is_type(exp.DataType.Type.JSON):
            kind.set("this", exp.DataType.Type.TEXT)
    for table in list(found.find_all(exp.Table)):
        if isinstance(table.this, exp.Inline):
            table.replace(exp.Lateral(this=table.this, alias=table.args.get("alias")))
    for aggregate in found.find_all(exp.ArrayAgg):
        if aggregate.find(exp.Order):
            raise SQLMeshError("Spark has no ordered ARRAY_AGG: write @in_order(key, columns)")
    return found


class SparkConnection(SparkConnectionConfig):  # type: ignore[misc]
    """The connection, with `SparkEngine` as its adapter. It imports PySpark when it is opened."""

    @model_validator(mode="before")
    @classmethod
    def _engine_import_validator(cls, data: Any) -> Any:
        return data

    @property
    def _engine_adapter(self) -> type[EngineAdapter]:
        return SparkEngine

    @property
    def _static_connection_kwargs(self) -> dict[str, Any]:
        check_spark()
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        return dict(super()._static_connection_kwargs)

    def session(self) -> "SparkSession":
        """Return the session, which is opened if there is none."""
        session: SparkSession = self._static_connection_kwargs["spark"]
        return session


def asked_gateway(arguments: Sequence[str]) -> str | None:
    """Return the gateway that the arguments of `sqlmesh` name, if it is one of ours."""
    options = " ".join(arguments).replace("--gateway=", "--gateway ").split()
    named = [value for option, value in pairwise(options) if option == "--gateway" and value in get_args(Engine)]
    return named[-1] if named else None


def spark_gateway(folder: Path) -> GatewayConfig:
    """Return the gateway to Spark: the one that `SPARK_CONF_DIR` describes, or else one on this machine.

    SQLMesh's state is in a DuckDB file beside the folder, because Spark cannot hold it.

    Args:
        folder: of the tables and the catalog of a Spark on this machine.
    """
    return GatewayConfig(
        connection=_connection(folder),
        state_connection=DuckDBConnectionConfig(database=str(folder.with_name(f"{folder.name}_state.duckdb"))),
        test_connection=DuckDBConnectionConfig(),
    )


def spark_session(folder: Path) -> "SparkSession":
    """Return the session of the Spark that `spark_gateway` connects to.

    Raises:
        ConfigError: PySpark or Java is missing.
    """
    return _connection(folder).session()


def _connection(folder: Path) -> SparkConnection:
    own = {} if os.environ.get("SPARK_CONF_DIR") else local_properties(folder)
    return SparkConnection(config={**own, **NEEDED})
