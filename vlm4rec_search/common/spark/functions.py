"""Functions of values that the macros write in DuckDB's SQL, and that Spark runs in its Python workers.

A macro that is plain SQL for both engines needs nothing of this. Where the two differ (regular expressions, the reading
of times and numbers, JSON, the rounding of printed numbers), DuckDB evaluates the same expression inside a Spark
function, on batches of Arrow arrays. So there is one definition of each rule, and both engines give the same values.
"""

import hashlib
import re
from dataclasses import dataclass

SPARK = "spark"
"""Name of the engine, and of its gateway in `config.py`."""
SPARK_TYPES = {
    "TEXT": "string",
    "JSON": "string",
    "BOOLEAN": "boolean",
    "DOUBLE": "double",
    "BIGINT": "bigint",
    "TEXT[]": "array<string>",
    "STRUCT(key TEXT, value TEXT, type TEXT, id BIGINT)[]": (
        "array<struct<key: string, value: string, type: string, id: bigint>>"
    ),
}
"""DuckDB type of a value -> its type in Spark."""
_TESTING = "testing"  # the stage of YAML tests, which run on DuckDB whatever the gateway is
_PREFIX = "vlm4rec_"


def is_spark(gateway: str | None, stage: object) -> bool:
    """Return whether a macro writes SQL for Spark: `evaluator.gateway` and `evaluator.runtime_stage` say so.

    A macro has to write `evaluator.gateway` in its own body. From that word SQLMesh sees that the SQL of a model
    depends on the engine; without it, a plan on Spark takes the SQL of the last plan on DuckDB from the project's
    `.cache`.
    """
    return gateway == SPARK and stage != _TESTING


@dataclass(frozen=True)
class ValueFunction:
    """A DuckDB expression over named parameters, which is a function in Spark.

    Attributes:
        sql: the expression.
        parameters: name and DuckDB type of each.
        returns: DuckDB type of the value, one of `SPARK_TYPES`.
        source: what the expression reads beside its parameters: a DuckDB subquery of one row, or nothing.
    """

    sql: str
    parameters: tuple[tuple[str, str], ...]
    returns: str
    source: str = ""

    @property
    def name(self) -> str:
        """The name in Spark, which follows from the definition: a function is never replaced by another one."""
        return f"{_PREFIX}{hashlib.sha256(repr(self).encode()).hexdigest()[:24]}"

    @property
    def query(self) -> str:
        """The DuckDB query of the value of each row of the table `batch`, whose columns are the parameters."""
        typed = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in self.parameters)
        beside = f" CROSS JOIN {self.source}" if self.source else ""
        return f"SELECT CAST({self.sql} AS {self.returns}) AS value FROM (SELECT {typed} FROM batch){beside}"  # noqa: S608


_FUNCTIONS: dict[str, ValueFunction] = {}  # those that a macro has written in this process, by name


class Value:
    """The SQL of one value, for the engine of the plan.

    A macro gives the SQL of its arguments, writes its expression over `arguments`, and returns `sql` of it.
    """

    def __init__(self, gateway: str | None, stage: object, *given: str | tuple[str, str]) -> None:
        """Take the arguments of a macro.

        Args:
            gateway: `evaluator.gateway`.
            stage: `evaluator.runtime_stage`.
            given: SQL of texts; of other types, SQL and DuckDB type.
        """
        self.is_spark = is_spark(gateway, stage)
        pairs = [(argument, "TEXT") if isinstance(argument, str) else argument for argument in given]
        self._given = tuple(sql for sql, _ in pairs)
        self._parameters = tuple((f"given{number}", kind) for number, (_, kind) in enumerate(pairs))

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the expression calls the arguments."""
        return tuple(name for name, _ in self._parameters) if self.is_spark else self._given

    def sql(self, returns: str, expression: str, source: str = "") -> str:
        """Return the SQL of the value.

        Args:
            returns: DuckDB type of the value: one of `SPARK_TYPES`, or TIMESTAMP.
            expression: DuckDB expression over `arguments`.
            source: a DuckDB subquery of one row, which the expression reads on Spark.
        """
        if not self.is_spark:
            return expression
        if returns == "TIMESTAMP":  # as a number: Arrow's types of times are several
            number = f"LIST_TRANSFORM([{expression}], t -> CASE WHEN ISFINITE(t) THEN EPOCH_US(t) END)[1]"
            return f"CAST(TIMESTAMP_MICROS({self._call('BIGINT', number, source)}) AS TIMESTAMP)"
        return self._call(returns, expression, source)

    def _call(self, returns: str, expression: str, source: str) -> str:
        function = ValueFunction(expression, self._parameters, returns, source)
        _FUNCTIONS[function.name] = function
        return f"{function.name}({', '.join(self._given)})"


def functions_of(sql: str) -> list[ValueFunction]:
    """Return the functions that a query for Spark uses.

    Raises:
        KeyError: no macro of this process has written one of them.
    """
    names = {name.lower() for name in re.findall(rf"(?i)\b{_PREFIX}[0-9a-f]{{24}}\b", sql)}
    return [_FUNCTIONS[name] for name in sorted(names)]
