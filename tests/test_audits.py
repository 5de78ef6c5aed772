"""Every audit of every model passes a good table and fails on a bad row, for each column that it names."""

import copy
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlglot import exp
from sqlmesh import Context, Model

Row = dict[str, Any]
Table = list[Row]
Arguments = dict[str, exp.Expr]

ROOT = Path(__file__).parents[1]
NOON, LATER = datetime(2025, 3, 1, 12), datetime(2025, 3, 2, 12)
LOG = {"user_id": "u", "item_id": "a", "event_type": "view", "value": 1.0}
VECTOR = {"encoder": "tiny@1", "vector": [0.6, 0.8]}
ITEM = {"title": "Oak chair", "available": True, "price": 3.0}

# Two good rows of each table, which differ in their keys.
GOOD: dict[str, tuple[Row, Row]] = {
    "raw.items": ({"row_number": 1, "attributes": "{}"}, {"row_number": 2, "attributes": "{}"}),
    "raw.interactions": ({"row_number": 1, "attributes": "{}"}, {"row_number": 2, "attributes": "{}"}),
    "staging.judged_items": ({"row_number": 1}, {"row_number": 2}),
    "staging.judged_interactions": ({"row_number": 1}, {"row_number": 2}),
    "staging.items": ({"item_id": "a", **ITEM}, {"item_id": "b", **ITEM}),
    "staging.interactions": (
        {"row_number": 1, "interacted_at": NOON, **LOG},
        {"row_number": 2, "interacted_at": NOON, **LOG},
    ),
    "staging.rejected_items": (
        {"row_number": 1, "reason": "no id", "record": "{}"},
        {"row_number": 2, "reason": "no id", "record": "{}"},
    ),
    "staging.rejected_interactions": (
        {"row_number": 1, "reason": "no item id", "record": "{}"},
        {"row_number": 2, "reason": "no item id", "record": "{}"},
    ),
    "histories.as_of": ({"as_of": LATER, "newest": NOON}, {"as_of": LATER, "newest": NOON}),
    "histories.user_histories": (
        {"position": 1, "interacted_at": NOON, **LOG},
        {"position": 2, "interacted_at": LATER, **LOG},
    ),
    "captions.item_captions": (
        {"item_id": "a", "status": "ok", "caption": "A chair.", "captioner": "attributes@1"},
        {"item_id": "b", "status": "missing", "error": "no file", "captioner": "attributes@1"},
    ),
    "embeddings.item_texts": (
        {"item_id": "a", "text": "Oak chair", "source": "title"},
        {"item_id": "b", "text": "Oak chair", "source": "caption"},
    ),
    "embeddings.item_embeddings": ({"item_id": "a", **VECTOR}, {"item_id": "b", **VECTOR}),
    "embeddings.image_embeddings": (
        {"item_id": "a", "encoder": "tiny@1", "photo_hash": "f0", "vector": [0.6, 0.8]},
        {"item_id": "b", "encoder": "tiny@1", "photo_hash": "f1", "vector": [1.0, 0.0]},
    ),
    "profiles.profile_weights": (
        {"user_id": "u", "item_id": "a", "weight": 1.0, "why": "mean"},
        {"user_id": "u", "item_id": "b", "weight": 1.0, "why": "mean"},
    ),
    "profiles.user_profiles": (
        {"user_id": "u", "items": 1, "length": 1.0, "vector": [0.6, 0.8]},
        {"user_id": "v", "items": 1, "length": 0.5, "vector": [1.0, 0.0]},
    ),
    "profiles.term_weights": (
        {"user_id": "u", "term": "chair", "word": "chairs", "weight": 1.0, "rank": 1},
        {"user_id": "u", "term": "oak", "word": "oak", "weight": 0.5, "rank": 2},
    ),
    "search.item_popularity": (
        {"item_id": "a", "interactions": 2, "rank": 1},
        {"item_id": "b", "interactions": 1, "rank": 2},
    ),
    "search.item_documents": (
        {"item_id": "a", "captioner": "attributes@1", "content_hash": "f0", **ITEM, **VECTOR},
        {"item_id": "b", "captioner": "attributes@1", "content_hash": "f1", **ITEM, **VECTOR},
    ),
    "search.user_documents": (
        {"user_id": "u", "items": 1, "vector": [0.6, 0.8], "history": [], "seen": [], "terms": []},
        {"user_id": "v", "items": 1, "vector": [0.6, 0.8], "history": [], "seen": [], "terms": []},
    ),
}


def good(model: str) -> Table:
    rows = [dict(row) for row in GOOD[model]]
    return rows[:1] if model == "histories.as_of" else rows


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


# For each kind of audit, the tables that it has to refuse.
BAD: dict[str, Callable[[Table, Arguments], Iterator[Table]]] = {
    "not_null": lambda table, given: (changed(table, **{column: None}) for column in columns(given)),
    "unique_values": lambda table, given: (changed(table, **{c: table[0][c]}) for c in columns(given)),
    "unique_combination_of_columns": lambda table, _: iter([[*table, table[0]]]),
    "accepted_values": lambda table, given: iter([changed(table, **{name(given, "column"): "bogus"})]),
    "at_least": lambda table, given: iter([changed(table, **{name(given, "column"): -0.5})]),
    "forall": lambda table, _: (changed(table, value=value) for value in (0.0, -1.0)),
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


def findings(model: Model, audit: str, table: Table) -> int:
    """Return the number of rows that the audit of the model finds wrong in the table."""
    definition, arguments = next((a, given) for a, given in model.audits_with_args if a.name == audit)
    query = model.render_audit_query(definition, **{**arguments, "this_model": exp.to_table("rows")})
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
            assert findings(model, audit.name, good(model_name)) == 0, f"{where} refuses good rows"
            bad = list(BAD[audit.name](good(model_name), arguments))
            assert bad, f"{where} has no bad case"
            for table in bad:
                assert findings(model, audit.name, table) > 0, f"{where} accepts {table}"


def test_every_model_says_what_it_is(context: Context) -> None:
    for model in context.models.values():
        assert model.description, f"{model.name} has no title comment"
        assert model.grains, f"{model.name} has no grain"
        assert model.audits, f"{model.name} has no audit"
        described = model.column_descriptions.keys()
        assert (model.columns_to_types or {}).keys() == described, f"{model.name} has columns without a description"


@pytest.mark.parametrize("audit", sorted(BAD))
def test_every_kind_of_audit_is_in_use(audit: str, context: Context) -> None:
    assert any(audit == used.name for model in context.models.values() for used, _ in model.audits_with_args)
