"""The SQLMesh project: warehouse, lint rules, and the variables from which a plan detects new data and models."""

import gc
import sys
from pathlib import Path

from sqlmesh.core.config import (
    CategorizerConfig,
    Config,
    DuckDBConnectionConfig,
    GatewayConfig,
    LinterConfig,
    ModelDefaultsConfig,
    NameInferenceConfig,
    PlanConfig,
)
from sqlmesh.utils.errors import ConfigError

from vlm4rec_search.common.errors import Vlm4recError
from vlm4rec_search.common.logging import configure_logging
from vlm4rec_search.common.settings import use_project
from vlm4rec_search.common.spark.engine import asked_gateway, spark_gateway
from vlm4rec_search.common.spark.functions import SPARK
from vlm4rec_search.pipeline.changes import rebuild_below_every_change
from vlm4rec_search.pipeline.connection import warehouse_connection
from vlm4rec_search.pipeline.variables import project_variables

# SQLMesh makes millions of small objects, the trees of SQL, which stay: to look for garbage after every 700 of them
# takes a fifth of a plan.
gc.set_threshold(100_000, 50, 100)
configure_logging()
rebuild_below_every_change()
try:
    settings = use_project(Path(__file__).resolve().parent)
    variables = project_variables(settings)
except Vlm4recError as error:
    raise ConfigError(str(error)) from None

# SQLMesh connects to every gateway that it knows: it gets to know the one that is used.
engine = asked_gateway(sys.argv) or settings.engine
if engine == SPARK:
    gateway = spark_gateway(settings.spark)
else:
    gateway = GatewayConfig(
        connection=warehouse_connection(settings),
        test_connection=DuckDBConnectionConfig(),
    )

config = Config(
    project="vlm4rec",
    gateways={engine: gateway},
    default_gateway=engine,
    model_defaults=ModelDefaultsConfig(dialect="duckdb", start="2010-01-01", cron="@daily"),
    model_naming=NameInferenceConfig(infer_names=True),
    variables=variables,
    # An environment shows all tables, the unchanged ones as views, so that `vlm4rec check --environment dev` can run.
    plan=PlanConfig(auto_categorize_changes=CategorizerConfig.all_full(), include_unmodified=True),
    disable_anonymized_analytics=True,
    linter=LinterConfig(
        enabled=True,
        rules=[
            "ambiguousorinvalidcolumn",
            "invalidselectstarexpansion",
            "noambiguousprojections",
            "nomissingaudits",
            "nomissingunittest",
            "noselectstar",
        ],
    ),
)
