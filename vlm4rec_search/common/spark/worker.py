"""What runs in Spark's Python workers: DuckDB expressions on batches of values."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

import duckdb
import pandas as pd
import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.functions import arrow_udf

from vlm4rec_search.common.spark.functions import SPARK_TYPES, ValueFunction, functions_of

Input = TypeVar("Input")
Result = TypeVar("Result")


def map_in_workers(
    session: SparkSession,
    compute: Callable[[Sequence[Input]], Sequence[Result]],
    chunk: int,
    inputs: Sequence[Input],
) -> list[Result]:
    """Return what `compute` makes of the inputs, in their order, computed in Spark's Python workers by `mapInPandas`.

    Args:
        session: of Spark.
        compute: turns inputs into as many results; it is pickled, and so are inputs and results.
        chunk: most inputs of one call of `compute`.
        inputs: of any number.
    """
    chunks = [pickle.dumps(list(inputs[first : first + chunk])) for first in range(0, len(inputs), chunk)]

    def work(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            # what the driver has pickled
            results = [pickle.dumps(list(compute(pickle.loads(inputs)))) for inputs in frame["inputs"]]  # noqa: S301
            yield pd.DataFrame({"number": frame["number"], "results": results})

    rows = pd.DataFrame({"number": range(len(chunks)), "inputs": chunks})
    frame = session.createDataFrame(rows, "number bigint, inputs binary")
    spread = frame.repartition(max(1, min(len(chunks), session.sparkContext.defaultParallelism)))
    found = spread.mapInPandas(work, "number bigint, results binary").collect()
    ordered = sorted((row.number, bytes(row.results)) for row in found)
    return [result for _, results in ordered for result in pickle.loads(results)]  # noqa: S301 - our own workers'


def register_functions(session: SparkSession, sql: str, known: set[str]) -> None:
    """Make the functions of a query known to a Spark session.

    Args:
        session: of Spark.
        sql: the query.
        known: names of the functions that the session has; those of the query are added.
    """
    for function in functions_of(sql):
        if function.name not in known:
            session.udf.register(function.name, spark_function(function))
            known.add(function.name)


def spark_function(function: ValueFunction) -> Callable[..., Any]:
    """Return the Spark function of a DuckDB expression."""

    def evaluate(*columns: pa.Array) -> pa.Array:
        return values(function, *columns)

    return arrow_udf(evaluate, SPARK_TYPES[function.returns])  # type: ignore[no-any-return]


def values(function: ValueFunction, *columns: pa.Array) -> pa.Array:
    """Evaluate a function on arrays of n values, one for each parameter; return an array (n,) in the same order."""
    names = [name for name, _ in function.parameters]
    cursor = _connection().cursor()
    try:
        cursor.register("batch", pa.table(dict(zip(names, columns, strict=True))))
        result = cursor.execute(function.query).to_arrow_table().column(0)
    finally:
        cursor.close()
    return pa.concat_arrays(result.chunks) if result.num_chunks else pa.array([], result.type)


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    """Return the connection of this worker: with one thread, because Spark runs a worker for each core."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET TimeZone = 'UTC'")
    return connection
