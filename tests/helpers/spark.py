"""Spark in tests: whether it can start here, the settings of a small one, and its tables as rows."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from helpers.workspace import Workspace

_MISSING = [
    *(["PySpark (pip install 'vlm4rec-search[spark]')"] if find_spec("pyspark") is None else []),
    *(["Java 17 or later"] if not os.environ.get("JAVA_HOME") and shutil.which("java") is None else []),
]
needs_spark = pytest.mark.skipif(bool(_MISSING), reason=f"Spark needs {' and '.join(_MISSING)}")


def small_spark(folder: Path) -> dict[str, str]:
    """Return the properties of a Spark for little data: two cores, and no generated code, which takes time to compile.

    Args:
        folder: of its tables and catalog.
    """
    from vlm4rec_search.common.spark.engine import local_properties

    own = local_properties(folder)
    quick = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC"  # half of the time is compilation
    return {
        **own,
        "spark.driver.extraJavaOptions": f"{own['spark.driver.extraJavaOptions']} {quick}",
        "spark.master": "local[2]",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.adaptive.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }


def write_configuration(folder: Path, properties: dict[str, str]) -> None:
    """Write the folder that `SPARK_CONF_DIR` names."""
    folder.mkdir()
    lines = [f"{name} {value}" for name, value in properties.items()]
    (folder / "spark-defaults.conf").write_text("\n".join(lines) + "\n", "utf-8")


def use_spark(workspace: Workspace) -> None:
    """Let the plans of a folder run on a small Spark."""
    configuration = workspace.folder / "conf"
    write_configuration(configuration, small_spark(workspace.folder / "spark"))
    workspace.settings |= {"VLM4REC_ENGINE": "spark", "SPARK_CONF_DIR": str(configuration)}
