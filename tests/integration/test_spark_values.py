"""Each macro that writes other SQL for Spark gives the same values on Spark as on DuckDB."""

import inspect
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pytest
import sqlglot
from helpers.macro_sql import DUCKDB, SPARK, macros
from helpers.spark import needs_spark, small_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = needs_spark

DECLARED = json.dumps(
    {"mend_texts": True, "time_zone": "Europe/Berlin", "available": ["Vorrätig"], "events": {"x": "view"}}
)
NOTHING = "{}"
TEXTS = [
    None, "", " ", "a", "  Two \t words\n", "\uff37\uff29\uff24\uff25\u3000\uff21", "caf\u0065\u0301",
    "zero\u200bwidth\u00ad", '="00123"',
    "4711.0", "1e+16", "1.23E+12", "NULL", "\\N", "n/a", "Caf\u00c3\u00a9 it\u00e2\u20ac\u2122s",
    "&amp;&lt;b&gt;&#8364;&#x20ac;&nope;&eacute;",
    "<p class='x'>Oak</p><script>alert(1)</script>", "it's \"quoted\" \\ back / slash \u0001 \u007f \u2028",
    "日本語 😀",
    "true", "False", "in stock", "Vorrätig", "out-of-stock", "12", "-3", "nan", "inf", "5d", "1_000", "0x10", "1e400",
    "1.299,00 €", "from 9.99", "USD 1,299.00", "1,299", "1.299", "24,-", "1'299.50", "12.345.678", "10,00,000.5", ".5",
    "2,50-", "--5", "20240230", "99991231",
    "Add to Cart", "addToCart", "refund", "x", "Ansehen!",
    "2024-03-01", "2024-03-01T12:30:00Z", "2024-03-01 12:30:00.123456+05:30", "2024-03-31 02:30:00", "1709294400",
    "1709294400123", "20240301", "20240301123000", "01.03.2024", "13/03/2024", "03/13/2024 1:05 PM", "45352.5", "45352",
    "Fri, 01 Mar 2024 12:30:00 GMT", "2024-07-01 10:00:00 America/New_York", "2024-07-01 10:00:00 BST", "31122023",
    "0001-01-01 00:00:00", "2024-W09-5", "events/interactions/2024-03-01.parquet",
    "[]", "[1, 2.50, \"a\", null, {\"b\": []}]", "[broken", "[\"12&quot;\", \"&bsol;\"]", "{\"a\": 1.50, \"b\": null}",
    "{\"b\": \"é\", \"c\": [1], \"a\": \"NULL\"}",
]  # fmt: skip
NUMBERS = [0.0, -0.0, 1.0, 5.25, -0.125, 2.675, 1e16, 1e-7, 123456789.125, 1.7e308, math.inf, -math.inf, math.nan, None]
TIMES = ["1970-01-01 00:00:00", "2024-03-01 12:30:00.123456", "1899-12-31 23:59:59", None]
OBJECTS = [
    None,
    "{}",
    '{"a": 1.50, "b": "x", "c": [1, "é"], "d": {"e": null}, "f": null, "g": true, "h": "NULL"}',
    '{"a": "ä"}',
]
VALUES = {
    "cleaning": {
        "normal_form": ("texts", ("text",)),
        "something": ("texts", ("text", "title", NOTHING)),
        "attributes_text": ("objects", ("object", NOTHING)),
        "may_be_unclean": ("objects", ("object", NOTHING)),
        "without_fraction": ("texts", ("text", "TRUE")),
        "matches": ("texts", ("text", r"'[\p{L} ]{1,80}'")),
        "contains": ("texts", ("text", r"'(?i)<p\b|\d{4}'")),
        "is_cut_id": ("texts", ("text",)),
        "are_floats": ("texts", ("text",)),
        "plain_text": ("texts", ("text",)),
        "decoded": ("texts", ("text", "html.characters")),
        "is_broken_text": ("texts", ("text",)),
        "mended": ("texts", ("text", DECLARED)),
        "without_tags": ("texts", ("text",)),
    },
    "events": {
        "event_name": ("texts", ("text", DECLARED)),
        "is_event": ("texts", ("text",)),
        "event_text": ("numbers", ("CAST(n AS BIGINT)", "'view'", "number")),
        "weight_text": ("numbers", ("'1 x view +1.00'", "CASE WHEN ABS(number) < 1e9 THEN number END", "number")),
    },
    "lists": {
        "list_total": ("numbers", ("[number, 1.5]",)),
        "before_decoding": ("texts", ("text",)),
        "json_text": ("objects", ("object", "'OBJECT'")),
        "is_json": ("texts", ("text",)),
        "json_string": ("texts", ("text",)),
        "json_list": ("texts", ("text", "'a'", "text")),
        "merged_json": ("objects", ("object", """'{"a": 2, "z": null}'""")),
        "json_record": ("objects", ("objects.name", "objects.object")),
        "list_elements": ("texts", ("text",)),
    },
    "numbers": {
        "parse_number": ("texts", ("text", "','")),
        "is_ambiguous_number": ("texts", ("text",)),
        "decimal_sign": ("texts", ("text",)),
        "parse_available": ("texts", ("text", DECLARED)),
        "is_finite": ("numbers", ("number",)),
        "as_number": ("texts", ("text",)),
        "number_text": ("numbers", ("number",)),
    },
    "times": {
        "parse_time": ("texts", ("text", "'dmy'", DECLARED)),
        "time_problem": ("texts", ("text", "NULL", DECLARED)),
        "date_order": ("texts", ("text",)),
        "has_dots": ("texts", ("text",)),
        "are_days": ("texts", ("text",)),
        "epoch": ("times", ("time",)),
        "local_day": ("times", ("time", DECLARED)),
        "is_time": ("times", ("time",)),
    },
}
AGGREGATES = {"are_floats", "are_days"}
ONE_FORM = {"something", "is_finite"}
ELSEWHERE = {"json_entries", "html_characters", "raw_file", "broken_records"}
TABLES = {
    "texts": ("text", TEXTS),
    "numbers": ("number", NUMBERS),
    "times": ("time", TIMES),
    "objects": ("object", OBJECTS),
}


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SparkSession"]:
    from pyspark.sql import SparkSession

    from vlm4rec_search.common.spark.engine import NEEDED

    builder = SparkSession.builder
    for name, value in {**small_spark(tmp_path_factory.mktemp("spark")), **NEEDED}.items():
        builder = builder.config(name, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)  # as the connection of a plan does
        session = builder.getOrCreate()
        yield session
        session.stop()


def both(spark: "SparkSession", on_duckdb: str, on_spark: str) -> tuple[list[Any], list[Any]]:
    """Return the rows of a query on DuckDB, and those of its form for Spark on Spark, as dictionaries."""
    from vlm4rec_search.common.spark.engine import for_spark
    from vlm4rec_search.common.spark.worker import register_functions

    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'America/New_York'")
        for name, (column, values) in TABLES.items():
            kind = {"number": "DOUBLE", "time": "TIMESTAMP", "object": "JSON"}.get(column, "TEXT")
            plain = "TEXT" if kind == "JSON" else kind
            rows = f"SELECT UNNEST($1::{kind}[]) AS {column}, UNNEST(RANGE($2)) AS n, 'a' AS name"
            connection.execute(f"CREATE TABLE {name} AS {rows}", [values, len(values)])
            arrow = connection.sql(
                f"SELECT * REPLACE ({column}::{plain} AS {column}) FROM {name} ORDER BY n"
            ).to_arrow_table()
            spark.createDataFrame(arrow).createOrReplaceTempView(name)
        planned = sqlglot.parse_one(on_duckdb, dialect="duckdb").sql(dialect="duckdb")
        expected = connection.sql(planned).to_arrow_table().to_pylist()
    sql = for_spark(sqlglot.parse_one(on_spark, dialect="duckdb")).sql(dialect="spark")
    register_functions(spark, sql, set())
    return expected, spark.sql(sql).toArrow().to_pylist()


def test_every_macro_with_two_forms_is_tested() -> None:
    two = {
        name
        for module in ("cleaning", "events", "lists", "numbers", "times", "raw_files")
        for name, function in inspect.getmembers(macros(module), inspect.isfunction)
        if re.search(r"evaluator\.gateway", inspect.getsource(function))
    }
    tested = {name for names in VALUES.values() for name in names} - ONE_FORM
    assert two == tested | ELSEWHERE


@pytest.mark.parametrize("table", TABLES)
def test_values_are_equal(spark: "SparkSession", table: str) -> None:
    cases = {
        name: (getattr(macros(module), name), arguments)
        for module, names in VALUES.items()
        for name, (source, arguments) in names.items()
        if source == table and name not in AGGREGATES
    }

    def query(evaluator: object) -> str:
        forms = {name: macro(evaluator, *arguments) for name, (macro, arguments) in cases.items()}
        if "parse_time" in forms:  # some are far outside of Python's calendar
            forms["parse_time"] = macros("times").epoch(evaluator, forms["parse_time"])
        selected = ", ".join(f"{form} AS {name}" for name, form in forms.items())
        html = macros("cleaning").html_characters(evaluator)
        return f"SELECT n, {selected} FROM {table} CROSS JOIN {html} AS html ORDER BY n"

    _, values = TABLES[table]
    expected, found = both(spark, query(DUCKDB), query(SPARK))
    assert len(found) == len(values)
    for one, other in zip(expected, found, strict=True):
        for name in cases:
            a, b = one[name], other[name]
            if name == "json_record":  # of the same values: DuckDB writes 1.50 as 1.5
                a, b = json.loads(a), json.loads(b)
            same = (a == b or (a != a and b != b)) if not isinstance(a, float) else b == pytest.approx(a, nan_ok=True)
            assert same, f"{name} of {values[one['n']]!r}: {a!r} on DuckDB, {b!r} on Spark"


def test_aggregates_are_equal(spark: "SparkSession") -> None:
    ids = "(SELECT text FROM texts WHERE text IN ('4711.0', '1e+16')) AS ids"
    days = "(SELECT text FROM texts WHERE text IN ('45352.5', '45352')) AS days"
    for source, macro in ((ids, "cleaning.are_floats"), (days, "times.are_days"), ("texts", "times.are_days")):
        module, name = macro.split(".")
        form = getattr(macros(module), name)
        expected, found = both(
            spark, *(f"SELECT {form(evaluator, 'text')} AS value FROM {source}" for evaluator in (DUCKDB, SPARK))
        )
        assert found == expected
        assert found == [{"value": source != "texts"}]


def test_fields_of_objects_are_equal(spark: "SparkSession") -> None:
    def query(evaluator: object) -> str:
        entries = macros("lists").json_entries(evaluator, "objects.object")
        fields = "entry.key, entry.value::TEXT AS value, entry.type, entry.id"
        text = macros("lists").json_text(evaluator, "entry.value", "entry.type")
        source = f"objects CROSS JOIN {entries} AS entry"
        return f"SELECT objects.n, {fields}, {text} AS text FROM {source} ORDER BY n, entry.id"

    expected, found = both(spark, query(DUCKDB), query(SPARK))
    assert [list(row.values())[:4] for row in found] == [list(row.values())[:4] for row in expected]
    assert [row["text"] for row in found] == [row["text"] for row in expected]
    assert {"VARCHAR", "ARRAY", "NULL", "DOUBLE", "BOOLEAN", "OBJECT"} == {row["type"] for row in found}


def test_lists_have_the_order_of_their_key(spark: "SparkSession") -> None:
    lists = macros("lists")
    expected, found = both(
        spark,
        *(f"SELECT {lists.in_order(evaluator, '-n', 'n', 'text')} AS rows FROM texts" for evaluator in (DUCKDB, SPARK)),
    )
    assert found == expected
    assert [row["n"] for row in found[0]["rows"]] == list(range(len(TEXTS)))[::-1]


def test_sums_are_rounded_alike(spark: "SparkSession") -> None:
    rounded = macros("numbers").nine_digits(DUCKDB, "number", "ABS(number)")
    query = f"SELECT {rounded} AS value FROM numbers WHERE ABS(number) < 1e308 ORDER BY n"
    expected, found = both(spark, query, query)
    assert [row["value"] for row in expected] == [0.0, 0.0, 1.0, 5.25, -0.125, 2.675, 1e16, 1e-7, 123456789.0]
    assert [row["value"] for row in found] == pytest.approx([row["value"] for row in expected], rel=1e-12)


def test_a_struct_is_null_where_its_first_column_is(spark: "SparkSession") -> None:
    struct = macros("lists").struct_unless_null(DUCKDB, "text", "n")
    expected, found = both(spark, *[f"SELECT n, {struct} AS pair FROM texts ORDER BY n"] * 2)
    assert found == expected
    assert [row["pair"] is None for row in found] == [text is None for text in TEXTS]


def test_an_ordered_aggregate_that_spark_would_not_order_is_refused() -> None:
    from sqlmesh.utils.errors import SQLMeshError

    from vlm4rec_search.common.spark.engine import for_spark

    with pytest.raises(SQLMeshError, match="@in_order"):
        for_spark(sqlglot.parse_one("SELECT ARRAY_AGG(a ORDER BY b) FROM t", dialect="duckdb"))
    assert "LISTAGG" in for_spark(sqlglot.parse_one("SELECT STRING_AGG(a, ',' ORDER BY b) FROM t")).sql("spark")


def test_a_text_of_a_shops_own_table_is_no_json(spark: "SparkSession", tmp_path: Path) -> None:
    from vlm4rec_search.common.errors import RunError
    from vlm4rec_search.common.settings import ExplicitSettings
    from vlm4rec_search.pipeline.spark_tables import fetch_tables

    for layer in ("own", "staging"):
        spark.sql(f"CREATE DATABASE sqlmesh__{layer}")
        spark.sql(f"CREATE DATABASE {layer}")
    spark.sql("CREATE TABLE sqlmesh__own.own__notes__1 USING parquet AS SELECT 'red, {' AS attributes")
    spark.sql("CREATE VIEW own.notes AS SELECT * FROM sqlmesh__own.own__notes__1")
    places = {"warehouse": tmp_path / "warehouse.duckdb", "cache": tmp_path / "cache", "spark": tmp_path / "spark"}
    settings = ExplicitSettings(project=None, **places)
    fetch_tables(settings)
    with duckdb.connect(str(settings.warehouse)) as connection:
        assert connection.execute("FROM own.notes").fetchall() == [("red, {",)]
    spark.sql("CREATE TABLE sqlmesh__staging.staging__items__1 USING parquet AS SELECT 'red, {' AS attributes")
    spark.sql("CREATE VIEW staging.items AS SELECT * FROM sqlmesh__staging.staging__items__1")
    settings.warehouse.unlink()
    with pytest.raises(RunError, match=r"cannot copy staging\.items: "):
        fetch_tables(settings)


def test_workers_encode_what_is_new_and_nothing_else(spark: "SparkSession", tmp_path: Path) -> None:
    from vlm4rec_search.common.cache import Cache
    from vlm4rec_search.common.spark.worker import map_in_workers
    from vlm4rec_search.embeddings.tables import embed_texts

    def embed(count: int, folder: str, session: "SparkSession | None") -> pd.DataFrame:
        texts = pd.DataFrame({"item_id": map(str, range(count)), "text": [f"oak chair {n}" for n in range(count)]})
        return embed_texts(texts, "hashing-64", tmp_path / folder, session=session)

    here, there = embed(600, "here", None), embed(600, "there", spark)
    assert [list(vector) for vector in there["vector"]] == [list(vector) for vector in here["vector"]]
    assert there.drop(columns="vector").equals(here.drop(columns="vector"))
    embed(606, "there", spark)
    with Cache(tmp_path / "there") as cache:
        assert [row.computed for row in cache.ledger() if row.kind == "sentence"] == [600, 6]
    processes = map_in_workers(spark, lambda batch: [(n, os.getpid()) for n in batch], 2, list(range(9)))
    assert [n for n, _ in processes] == list(range(9))
    assert os.getpid() not in {process for _, process in processes}
