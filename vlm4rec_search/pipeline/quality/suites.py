"""Expectation suites as YAML files: a table, a query that measures it, and rules in Great Expectations' own form."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.patterns import MARKUP, REFUSAL
from vlm4rec_search.common.warehouse import in_environment

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from pandas import DataFrame

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
MACROS = "macros.sql"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Meta(_Strict):
    """What an expectation says to people: the reason for the rule."""

    notes: Text


class Expectation(_Strict):
    """One rule, as Great Expectations configures it; a failed `warning` does not fail the suite."""

    type: Text
    kwargs: dict[str, object] = {}
    severity: Literal["critical", "warning"] = "critical"
    meta: Meta


class Suite(_Strict):
    """One suite: `query` derives the columns that the rules speak of, `ids` name those that show a row in examples."""

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
    """Read every `<name>.yaml` of the folder in the order of names, or the suite `only`.

    Raises:
        UsageError: no suite there, no suite of that name, or a file that cannot be read or is not a suite.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if not files:
        raise UsageError(f"no expectation suites (*.yaml) in {folder}")
    if only is not None and only not in files:
        raise UsageError(f"unknown suite {only!r}: choose one of {', '.join(files)}")
    return [_load(path) for name, path in files.items() if only in (None, name)]


def _load(path: Path) -> Suite:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        return Suite.model_validate({"name": path.stem, **content} if isinstance(content, dict) else content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}: {where + ': ' if where else ''}{first['msg']}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None


def define_macros(connection: "DuckDBPyConnection", folder: Path) -> None:
    """Define the temporary macros of the suites: `has_markup`, `is_refusal`, and `macros.sql` of the folder.

    Raises:
        UsageError: the file is not valid SQL.
    """
    import duckdb
    from sqlglot import exp

    for name, regex in (("has_markup", MARKUP), ("is_refusal", REFUSAL)):
        pattern = exp.Literal.string(regex).sql("duckdb")
        connection.execute(f"CREATE OR REPLACE TEMP MACRO {name}(text) AS REGEXP_MATCHES(text, {pattern})")
    path = folder / MACROS
    if not path.is_file():
        return
    try:
        connection.execute(path.read_text("utf-8"))
    except duckdb.Error as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None


def measure(connection: "DuckDBPyConnection", suite: Suite, environment: str = "prod") -> "DataFrame":
    """Run the suite's query in an environment and return its rows; vectors never leave DuckDB.

    Raises:
        UsageError: the query is not valid SQL, or asks for a column that the tables do not have.
    """
    import duckdb
    from sqlglot.errors import SqlglotError

    try:
        return connection.sql(in_environment(suite.query, environment)).df()
    except duckdb.CatalogException:
        raise  # a missing table: `warehouse.read` says what to do
    except (SqlglotError, duckdb.Error) as error:
        detail = str(error).strip().splitlines()[0]
        raise UsageError(f"{suite.file}: the query fails: {detail}") from None
