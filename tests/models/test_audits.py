"""Every audit of every model passes a good table and fails on a bad row, for each column that it names."""

import copy
import math
from collections.abc import Callable, Iterator
from datetime import datetime

import duckdb
import pytest
from helpers.table_rows import GOOD, Row
from sqlglot import exp
from sqlmesh import Context, Model
from sqlmesh.core.audit import Audit

from vlm4rec_search.pipeline.spark_tables import JSON_COLUMNS
from vlm4rec_search.search.ranking import DURATIONS

Table = list[Row]
Arguments = dict[str, exp.Expr]


def good(model: str) -> Table:
    rows = [dict(row) for row in GOOD[model]]
    return rows[:1] if model in ("histories.as_of", "profiles.pace") else rows


def changed(table: Table, at: int = 1, /, **values: object) -> Table:
    rows = copy.deepcopy(table)
    rows[min(at, len(rows) - 1)].update(values)
    return rows


def columns(arguments: Arguments) -> list[str]:
    return [column.name for column in arguments["columns"].find_all(exp.Column)]


def name(arguments: Arguments, key: str) -> str:
    column = arguments[key].find(exp.Column)
    assert column is not None, f"{key} is {arguments[key]!r}: a string here would be tested as a literal"
    return column.name


# For each column of a condition, a value that breaks it.
BREAKS: dict[str, Callable[[Table], object]] = {
    **dict.fromkeys(("value", "value_cap", "repeat_cap", "similarity"), lambda _: 0.0),
    **dict.fromkeys(("weight", "recent", "number", "score"), lambda _: float("inf")),
    **dict.fromkeys(DURATIONS, lambda _: 0.0),
    **dict.fromkeys(("shoppers_half_life_days", "regularisation"), lambda _: 0.0),
    "items": lambda _: [{"item_id": "a", "score": 0.0}],
    "item_id": lambda table: table[1]["neighbour_id"],
    "neighbour_id": lambda table: table[1]["item_id"],
}

# For each kind of audit, the tables that it has to refuse.
BAD: dict[str, Callable[[Table, Arguments], Iterator[Table]]] = {
    "not_null": lambda table, given: (changed(table, **{column: None}) for column in columns(given)),
    "unique_values": lambda table, given: (changed(table, **{c: table[0][c]}) for c in columns(given)),
    "unique_combination_of_columns": lambda table, _: iter([[*table, table[0]]]),
    "accepted_values": lambda table, given: iter([changed(table, **{name(given, "column"): "bogus"})]),
    "at_least": lambda table, given: (
        changed(table, **{name(given, "column"): value})
        for value in (-1.0, *([math.nan, math.inf] if isinstance(table[0][name(given, "column")], float) else []))
    ),
    "forall": lambda table, given: (
        changed(table, **{column.name: BREAKS[column.name](table)}) for column in given["criteria"].find_all(exp.Column)
    ),
    "has_default": lambda table, _: iter([changed(table, event_type="other"), [*table, table[1]]]),
    "no_markup": lambda table, given: (
        changed(table, **{name(given, "column"): text}) for text in ("<b>Sale</b>", "P.when(function(A) {})")
    ),
    "one_row": lambda table, _: iter([[], table * 2]),
    "in_time": lambda table, given: iter([changed(table, **{name(given, "column"): datetime(2999, 1, 1)})]),
    "in_order": lambda table, given: iter([changed(table, **{name(given, "time"): datetime(2000, 1, 1)})]),
    "unit_vectors": lambda table, given: (
        changed(table, **{name(given, "column"): vector}) for vector in ([0.5, 0.5], [float("nan"), 1.0], [0.0, 0.0])
    ),
    "one_dimension": lambda table, given: iter([changed(table, **{name(given, "column"): [1.0, 0.0, 0.0]})]),
    "caption_or_error": lambda table, _: iter(
        [
            changed(table, 0, caption=" "),
            changed(table, 0, caption=None),
            changed(table, error=None),
            changed(table, caption="A hat."),
        ]
    ),
}


def findings(model: Model, audit: Audit, arguments: Arguments, table: Table) -> int:
    """Return the number of rows that the audit of the model finds wrong in the table."""
    query = model.render_audit_query(audit, **{**arguments, "this_model": exp.to_table("rows")})
    with duckdb.connect() as connection:
        types = {column: kind.sql("duckdb") for column, kind in (model.columns_to_types or {}).items()}
        connection.execute(f"CREATE TABLE rows ({', '.join(f'{column} {kind}' for column, kind in types.items())})")
        for row in table:
            marks = ", ".join(f"CAST(${key} AS {types[key]})" for key in row)
            connection.execute(f"INSERT INTO rows ({', '.join(row)}) VALUES ({marks})", row)
        return len(connection.execute(query.sql("duckdb")).fetchall())


def test_every_audit_passes_good_rows_and_refuses_bad_ones(context: Context) -> None:
    models = {model.name: model for model in context.models.values()}
    assert models.keys() == GOOD.keys()
    for model_name, model in models.items():
        for audit, arguments in model.audits_with_args:
            where = f"{audit.name} of {model_name}"
            assert findings(model, audit, arguments, good(model_name)) == 0, f"{where} refuses good rows"
            bad = list(BAD[audit.name](good(model_name), arguments))
            assert bad, f"{where} has no bad case"
            for table in bad:
                assert findings(model, audit, arguments, table) > 0, f"{where} accepts {table}"


def test_every_model_says_what_it_is(context: Context) -> None:
    for model in context.models.values():
        assert model.description, f"{model.name} has no title comment"
        assert model.grains, f"{model.name} has no grain"
        assert model.audits, f"{model.name} has no audit"
        described = model.column_descriptions.keys()
        assert (model.columns_to_types or {}).keys() == described, f"{model.name} has columns without a description"


def test_the_copy_of_the_tables_of_spark_knows_which_columns_are_json(context: Context) -> None:
    types = {model.name: model.columns_to_types or {} for model in context.models.values()}
    json = {(name, column) for name, kinds in types.items() for column, kind in kinds.items() if kind.is_type("json")}
    assert json == set(JSON_COLUMNS.items())


@pytest.mark.parametrize("audit", sorted(BAD))
def test_every_kind_of_audit_is_in_use(audit: str, context: Context) -> None:
    assert any(audit == used.name for model in context.models.values() for used, _ in model.audits_with_args)
