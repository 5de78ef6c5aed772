"""The warehouse shared by processes: a plan that writes, readers that stay open, copies that are replaced."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from helpers.largest_file import largest_file
from sqlglot import exp, parse_one

from vlm4rec_search.common import warehouse
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.pipeline import connection
from vlm4rec_search.pipeline.connection import warehouse_connection
from vlm4rec_search.profiles.histories import vector_column

# The view names its catalog, as the views of SQLMesh do.
TABLES = """
create schema search;
create table search.numbers as select range as number from range(3);
create view search.view as select * from warehouse.search.numbers
"""
SUM = "select sum(number)::int from search.view"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(TABLES)
    return path


@contextmanager
def running(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run Python code in another process; the block begins when the code prints `ready`."""
    command = [sys.executable, "-c", f"import duckdb, os, sys\n{code}", *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        try:
            yield other
        finally:
            other.kill()


WRITER = """
connection = duckdb.connect(sys.argv[1])
connection.execute("insert into search.numbers values (10)")
print("ready", flush=True)
sys.stdin.readline()
"""
ANALYST = f"""
connection = duckdb.connect(sys.argv[1], read_only=True)
print("ready", flush=True)
sys.stdin.readline()
print(connection.execute("{SUM}").fetchone()[0], flush=True)
"""


def read_sum(path: Path) -> int:
    with warehouse.read(path) as connection:
        row = connection.execute(SUM).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("environment", "name"),
    [("prod", "search"), ("PROD", "search"), ("dev", "search__dev"), ('My-"Env"; x', "search__my__env___x")],
)
def test_schemas_have_the_names_of_sqlmesh(environment: str, name: str) -> None:
    assert warehouse.schema("search", environment) == name


def test_queries_get_the_schemas_of_an_environment() -> None:
    query = (
        "with a as (from search.numbers) "
        "select a.number, regexp_matches('b', '(?i)\\bB$') from a join staging.items using (x)"
    )
    rewritten = warehouse.in_environment(query, "dev")
    assert '"search__dev".numbers' in rewritten
    assert '"staging__dev".items' in rewritten
    assert r"'(?i)\bB$'" in rewritten
    assert "FROM a JOIN" in rewritten


def test_rows_of_a_python_model_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Settings(warehouse=tmp_path / "w.duckdb", warehouse_memory="300MB")
    adapter = warehouse_connection(options).create_engine_adapter()
    queries: list[str] = []
    monkeypatch.setattr(adapter, "_execute", lambda sql, *_, **__: (queries.append(sql), adapter.cursor.execute(sql)))
    columns = {"item_id": exp.DataType.build("TEXT"), "vector": exp.DataType.build("FLOAT[]", dialect="duckdb")}
    for write, ids in ((adapter.replace_query, ["a", "b"]), (adapter.insert_append, ["c"])):
        frame = pd.DataFrame({"item_id": ids, "vector": vector_column(np.ones((len(ids), 2), np.float32))})
        write("numbers", frame, target_columns_to_types=columns)
    assert not [query for query in queries if "DROP" in query]  # of a table between, as SQLMesh makes one
    assert len([query for query in queries if query.startswith(("CREATE", "INSERT"))]) == 2
    found = adapter.fetchall("SELECT item_id, vector, TYPEOF(vector) FROM numbers ORDER BY item_id")
    assert found == [(item, [1.0, 1.0], "FLOAT[]") for item in "abc"]
    assert adapter.fetchall("SELECT view_name FROM duckdb_views() WHERE NOT internal") == []
    limits = "SELECT current_setting('memory_limit'), current_setting('disabled_compression_methods')"
    assert adapter.fetchall(limits) == [("286.1 MiB", "ALP,ALPRD")]
    adapter.close()


ITEMS_AND_USERS = """
CREATE SCHEMA s; CREATE TABLE s.items (u TEXT, item TEXT); CREATE TABLE s.users (u TEXT, segment TEXT);
INSERT INTO s.items VALUES ('a', '1'), ('c', '1'), ('a', '2'), ('it''s', '3'), ('é', '4'), ('c', '5'), (NULL, '6');
INSERT INTO s.users VALUES ('b', 'x'), ('c', 'y'), ('z', 'x')
"""
OF_BOTH = """
WITH lists AS (SELECT items.u, LIST_SORT(LIST(items.item)) AS found FROM s.items AS items GROUP BY items.u)
SELECT COALESCE(lists.u, users.u) AS u, lists.found, users.segment
FROM lists FULL JOIN s.users AS users ON users.u = lists.u
"""


OF_ONE = "SELECT items.u, COUNT(*) AS n FROM s.items AS items GROUP BY items.u"


@pytest.mark.parametrize(("sql", "value"), [(OF_BOTH, "COALESCE(lists.u, users.u)"), (OF_ONE, "items.u")])
@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_a_table_in_ranges_of_a_column_has_the_rows_of_the_whole_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, sql: str, value: str
) -> None:
    adapter = warehouse_connection(Settings(warehouse=tmp_path / "w.duckdb")).create_engine_adapter()
    adapter.cursor.execute(ITEMS_AND_USERS)
    query = parse_one(sql, dialect="duckdb")
    expected = adapter.fetchall(f"SELECT * FROM ({sql}) ORDER BY u")
    monkeypatch.setattr(connection, "RANGE", size)
    statements: list[str] = []
    run = adapter.cursor.execute
    monkeypatch.setattr(adapter, "_execute", lambda sql, *_, **__: (statements.append(sql), run(sql)))
    properties = {"in_ranges_of": exp.Literal.string("u")}
    for _ in range(2):  # the second time in place of the first table
        statements.clear()
        adapter.replace_query("s.documents", query, table_properties=properties)
        ids = {row[0] for row in expected if row[0] is not None}
        assert len([each for each in statements if each.startswith(("CREATE", "INSERT"))]) == -(-len(ids) // size)
        assert adapter.fetchall("SELECT * FROM s.documents ORDER BY u") == expected
    broken = query.copy().where(f"CASE WHEN {value} = 'é' THEN error('full') ELSE TRUE END")
    with pytest.raises(duckdb.Error, match="full"):
        adapter.replace_query("s.documents", broken, table_properties=properties)
    assert adapter.fetchall("SELECT * FROM s.documents ORDER BY u") == expected, "the former table stays"
    adapter.close()


def test_read_closes_its_connection(path: Path) -> None:
    with warehouse.read(path) as connection:
        assert connection.execute(SUM).fetchone() == (3,)
    with pytest.raises(duckdb.ConnectionException):
        connection.execute("select 1")
    duckdb.connect(path).close()


def test_mistakes_are_refused_in_one_line(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no warehouse at .*none\.duckdb: run `sqlmesh plan` first"):
        read_sum(tmp_path / "none.duckdb")
    (tmp_path / "text.duckdb").write_text("words " * 5000)
    with pytest.raises(UsageError, match="is not a DuckDB database"):
        read_sum(tmp_path / "text.duckdb")
    with pytest.raises(UsageError, match="Run `sqlmesh plan`"), warehouse.read(path) as connection:
        connection.execute("from search__dev.view")


def test_a_writer_is_reported_with_its_process_id(path: Path, tmp_path: Path) -> None:
    with running(WRITER, path) as plan:
        for call in (lambda: read_sum(path), lambda: warehouse.copy_warehouse(path, tmp_path / "published")):
            with pytest.raises(RunError, match=rf"is locked by another process \(PID {plan.pid}\)") as error:
                call()
            assert "\n" not in str(error.value)
    assert not (tmp_path / "published").exists()


def test_a_reader_blocks_a_plan(path: Path, tmp_path: Path) -> None:
    warehouse.check_writable(tmp_path / "none.duckdb")
    warehouse.check_writable(path)
    with running(ANALYST, path) as reader, pytest.raises(RunError, match=rf"\(PID {reader.pid}\)"):
        warehouse.check_writable(path)


def test_a_writer_in_this_process_is_reported(path: Path) -> None:
    with duckdb.connect(path), pytest.raises(RunError, match="is locked by this process"):
        read_sum(path)


def test_the_copy_includes_the_write_ahead_log(path: Path, tmp_path: Path) -> None:
    with running(WRITER, path) as plan:
        os.kill(plan.pid, signal.SIGKILL)
    assert Path(f"{path}.wal").exists()
    copy = warehouse.copy_warehouse(path, tmp_path / "published")
    assert read_sum(copy) == 13
    assert [file.name for file in copy.parent.iterdir()] == ["warehouse.duckdb"]


def test_readers_go_on_while_the_copy_is_replaced(path: Path, tmp_path: Path) -> None:
    copy = warehouse.copy_warehouse(path, tmp_path / "published")
    with running(ANALYST, copy) as analyst:
        with duckdb.connect(path) as plan:  # the analyst's connection does not lock the warehouse
            plan.execute("insert into search.numbers values (100)")
        assert warehouse.copy_warehouse(path, copy.parent) == copy
        output, _ = analyst.communicate("go\n")
        assert output == "3\n"
    assert read_sum(copy) == 103


def test_a_plan_cannot_write_while_the_copy_is_made(path: Path, tmp_path: Path) -> None:
    attempt = "print('ready', flush=True)\nsys.stdin.readline()\nduckdb.connect(sys.argv[1])"
    with running(attempt, path) as plan, warehouse.read(path):
        plan.communicate("go\n")
        assert plan.returncode == 1


def test_a_log_left_beside_the_old_copy_is_not_replayed(path: Path, tmp_path: Path) -> None:
    copy = warehouse.copy_warehouse(path, tmp_path / "published")
    copy.chmod(0o644)
    with running(WRITER, copy) as analyst:
        os.kill(analyst.pid, signal.SIGKILL)
    assert read_sum(copy) == 13
    assert read_sum(warehouse.copy_warehouse(path, copy.parent)) == 3


def test_the_log_of_an_old_file_goes_before_the_file_and_stays_with_it_after_an_error(path: Path) -> None:
    with running(WRITER, path) as plan:
        os.kill(plan.pid, signal.SIGKILL)
    with pytest.raises(ZeroDivisionError), warehouse.replacing_database(path):
        raise ZeroDivisionError
    assert Path(f"{path}.wal").exists()
    with pytest.raises(FileNotFoundError), warehouse.replacing_database(path):
        pass  # without a new file the replacement fails: a kill would end it there, too
    assert not Path(f"{path}.wal").exists()
    assert read_sum(path) == 3


def test_after_an_error_the_log_of_the_new_file_is_removed_with_it(path: Path) -> None:
    with (
        pytest.raises(duckdb.Error, match="Could not write file"),
        warehouse.replacing_database(path) as part,
        duckdb.connect() as connection,
        largest_file(50_000),  # the log has room, the file has not
    ):
        connection.execute(f"ATTACH '{part}' AS new; CREATE TABLE new.numbers AS SELECT 1 AS number")
        assert Path(f"{part}.wal").exists()
        warehouse.detach(connection, "new")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert read_sum(path) == 3


def test_the_copy_refuses_the_folder_of_the_warehouse_and_unwritable_ones(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folder of the warehouse itself"):
        warehouse.copy_warehouse(path, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot publish to"):
        warehouse.copy_warehouse(path, tmp_path / "file")
    assert read_sum(path) == 3


def test_folders_of_killed_runs_are_removed_after_an_hour(path: Path, tmp_path: Path) -> None:
    old, young = tmp_path / "published/.publishing-old", tmp_path / "published/.publishing-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 3601, time.time() - 3601))
    warehouse.copy_warehouse(path, tmp_path / "published")
    assert (old.exists(), young.exists()) == (False, True)
