"""Expectation suites as YAML files: a table, a query that measures it, and rules in the form of Great Expectations."""

from pathlib import Path
from typing import Annotated, Literal

import duckdb
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlglot.errors import SqlglotError

from vlm4rec_search.common.errors import UsageError, first_line, one_line
from vlm4rec_search.common.patterns import MARKUP, MOJIBAKE, REFUSAL
from vlm4rec_search.common.sql import quote_name, quote_text
from vlm4rec_search.common.warehouse import in_environment
from vlm4rec_search.common.yaml_files import read_yaml

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
MACROS = "macros.sql"
# Of a purchase that is delivered twice the row of the log counts.
_IS_MISTAKE = """
CREATE OR REPLACE TEMP MACRO is_mistake(reason) AS
    reason NOT IN ('forgotten', 'the purchase is in the log of the shop, too')
"""
FINITE = " is finite"  # ends the name of a column that says whether a measured number is one
EXPOSURE = "ranking.exposure"  # no table of the warehouse: its suites read `exposure`, see `Exposure.to_json`


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Meta(_Strict):
    """Notes for people: the reason for the rule."""

    notes: Text


class Expectation(_Strict):
    """One rule in Great Expectations' configuration; a failed `warning` does not fail the suite."""

    type: Text
    kwargs: dict[str, object] = {}
    severity: Literal["critical", "warning"] = "critical"
    meta: Meta


class Suite(_Strict):
    """One suite. The rules apply to the columns of `query`; the columns `ids` identify a row in examples."""

    name: Text
    table: Annotated[str, StringConstraints(pattern=r"^\w+\.\w+$")]
    description: Text
    ids: list[Text] = Field(min_length=1)
    query: Text
    expectations: list[Expectation] = Field(min_length=1)

    @property
    def file(self) -> str:
        """The file name, for messages."""
        return f"{self.name}.yaml"


def load_suites(folder: Path, only: str | None = None) -> list[Suite]:
    """Read every `<name>.yaml` of the folder in the order of names, or the one file that `only` names.

    Raises:
        UsageError: the folder has no suite, or none of that name, or a file cannot be read or is invalid.
    """
    names = suite_names(folder)
    if only is not None and only not in names:
        raise UsageError(f"unknown suite {only!r}: choose one of {', '.join(names)}")
    files = [folder / f"{name}.yaml" for name in (names if only is None else [only])]
    return [read_yaml(path, Suite, "the suite", defaults={"name": path.stem}) for path in files]


def suite_names(folder: Path) -> list[str]:
    """Return the names of the suites of a folder, which are those of their files, in order.

    Raises:
        UsageError: the folder has no suite.
    """
    names = [path.stem for path in sorted(folder.glob("*.yaml"))]
    if not names:
        raise UsageError(f"no expectation suites (*.yaml) in {folder}")
    return names


def define_macros(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Define the macros of the suites: those of the package, such as `has_markup`, and those of `macros.sql`.

    Raises:
        UsageError: the file is not valid SQL.
    """
    for name, regex in (("has_markup", MARKUP), ("has_mojibake", MOJIBAKE), ("is_refusal", REFUSAL)):
        connection.execute(f"CREATE OR REPLACE TEMP MACRO {name}(text) AS REGEXP_MATCHES(text, {quote_text(regex)})")
    connection.execute(_IS_MISTAKE)
    path = folder / MACROS
    if not path.is_file():
        return
    try:
        connection.execute(path.read_text("utf-8"))
    except duckdb.Error as error:
        raise UsageError(f"{path}: {one_line(error)}") from None


def measure(connection: duckdb.DuckDBPyConnection, suite: Suite, environment: str = "prod") -> pd.DataFrame:
    """Run the suite's query in an environment and return its rows.

    Where numbers that a rule is about are NaN or infinite, a further column, named with `FINITE`, says in which rows:
    in a frame NaN is the same as NULL, which rules skip.

    Raises:
        UsageError: the query is not valid SQL, or names a column that the tables lack.
    """
    try:
        rows = connection.sql(in_environment(suite.query, environment))
        judged = [rule.kwargs.get("column") for rule in suite.expectations]
        kinds = zip(rows.columns, map(str, rows.types), strict=True)
        numbers = [name for name, kind in kinds if name in judged and kind in ("FLOAT", "DOUBLE")]
        checks = [f"isfinite({quote_name(name)}) AS {quote_name(name + FINITE)}" for name in numbers]
        frame = rows.project(", ".join(["*", *checks])).df()
    except (SqlglotError, duckdb.Error) as error:
        if "Table with name" in str(error):
            raise  # `warehouse.read` has a hint for it
        raise UsageError(f"{suite.file}: the query fails: {first_line(error)}") from None
    return frame.drop(columns=[name + FINITE for name in numbers if not frame[name + FINITE].eq(False).any()])
