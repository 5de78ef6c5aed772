"""A plan on Spark makes the tables that a plan on DuckDB makes, and the commands read them from a copy."""

import pytest
from helpers.spark import needs_spark, use_spark
from helpers.two_engines import check_tables
from helpers.workspace import Workspace

pytestmark = needs_spark


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Workspace]:
    """Return two folders with the same data: a plan on DuckDB, and one on Spark whose tables were fetched."""
    on_duckdb, on_spark = (Workspace(tmp_path_factory.mktemp(name)) for name in ("duckdb", "on Spärk"))
    on_duckdb.vlm4rec("shop", "--to", "data", "--items", "60", "--shoppers", "40")
    with (on_duckdb.data / "items.csv").open("a") as items:
        items.write("broken" + ",x" * 20 + "\n")  # more values than columns
    on_duckdb.plan()
    on_spark.data.symlink_to(on_duckdb.data)
    use_spark(on_spark)
    on_spark.plan()
    on_spark.vlm4rec("fetch-tables")
    return on_duckdb, on_spark


def test_a_plan_on_spark_makes_the_same_tables(engines: tuple[Workspace, Workspace]) -> None:
    """One test, so that one process makes the tables."""
    check_tables(*engines)
    assert engines[1].query("SELECT COUNT(*) FROM raw.broken_records") == [(1,)]
    check_release(engines)
    check_second_plan(engines)
    check_refusals(engines)


def check_release(engines: tuple[Workspace, Workspace]) -> None:
    """Check that releases of both tables give the same answer, and the analysts' copy has all of them."""
    answers = []
    for place in engines:
        place.vlm4rec("index")
        (user,) = place.query("SELECT MIN(user_id) FROM search.user_documents WHERE items > 0")[0]
        answers.append([hit["item_id"] for hit in place.json("search", "--user", user)["hits"]])
    assert answers[0] == answers[1]
    assert len(answers[0]) == 10
    assert engines[1].json("publish-tables")["tables"] > 40


def check_second_plan(engines: tuple[Workspace, Workspace]) -> None:
    """Check that a second plan finds no changes and pays nothing."""
    _, on_spark = engines
    before = on_spark.json("ledger")["rows"]
    assert "No changes" in on_spark.plan()
    assert on_spark.json("ledger")["rows"] == before


def check_refusals(engines: tuple[Workspace, Workspace]) -> None:
    """Check that a file of DuckDB is not replaced, and that moments of the past need DuckDB."""
    on_duckdb, on_spark = engines
    other = Workspace(
        on_spark.folder, {**on_spark.settings, "VLM4REC_WAREHOUSE": str(on_duckdb.folder / "warehouse.duckdb")}
    )
    assert "holds a plan on DuckDB" in other.vlm4rec("fetch-tables", code=2)
    assert "built on DuckDB" in on_spark.vlm4rec("evaluate", code=2)


@pytest.mark.long
def test_a_new_item_is_paid_for_alone(engines: tuple[Workspace, Workspace]) -> None:
    on_duckdb, on_spark = engines
    with (on_duckdb.data / "items.csv").open("a") as items:
        items.write("new,Ash chair,,furniture,12.50,images/new.jpg,true,Ash,winter\n")
    photo = next((on_duckdb.data / "images").glob("*.jpg")).read_bytes()
    (on_duckdb.data / "images" / "new.jpg").write_bytes(photo + b"another hash")
    for place in engines:
        place.plan()
    on_spark.vlm4rec("fetch-tables")
    check_tables(on_duckdb, on_spark)
    for kind in ("caption", "image"):
        assert on_spark.computed(kind)[-1] == 1, kind
    assert on_spark.computed("sentence") == on_duckdb.computed("sentence"), "also of the recipes that are tried"
    assert on_spark.query("SELECT COUNT(*) FROM search.item_documents WHERE item_id = 'new'") == [(1,)]
