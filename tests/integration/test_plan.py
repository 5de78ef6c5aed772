"""What `sqlmesh plan` rebuilds, computes and refuses, seen from the outside with real commands."""

import gzip
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.workspace import ROOT, Workspace
from PIL import Image

SMALL = ("shop", "--to", "data", "--items", "100", "--shoppers", "60")


@pytest.fixture
def shop(workspace: Workspace) -> Workspace:
    workspace.vlm4rec(*SMALL, "--clean")
    return workspace


def last_run(workspace: Workspace) -> dict[str, int]:
    """Return by kind of model call what the newest run of each kind computed."""
    kinds = ("caption", "image", "sentence")
    return {row["kind"]: row["computed"] for row in workspace.json("ledger")["rows"] if row["kind"] in kinds}


def test_a_plan_computes_each_result_once_and_sees_new_data(shop: Workspace) -> None:
    shop.plan()
    assert shop.query("SELECT COUNT(*) FROM search.item_documents") == [(100,)]
    assert shop.computed("caption") == [100]
    assert "No changes to plan" in shop.plan()
    assert len(shop.computed("caption")) == 1, "an unchanged folder starts no model"

    # 1% new items cost exactly that many model calls.
    items = shop.data / "items.csv"
    lines = items.read_text().splitlines()
    header, first = lines[0].split(","), lines[1].split(",")
    photo = first[header.index("image")]
    new = shop.data / "images" / "new.png"
    make_photo(new)
    row = lines[1].replace(first[0], "brand-new", 1).replace(photo, "images/new.png")
    items.write_text("\n".join([*lines, row]) + "\n")
    shop.plan()
    assert shop.query("SELECT COUNT(*) FROM search.item_documents") == [(101,)]
    assert shop.computed("caption") == [100, 1]
    assert last_run(shop) == {"caption": 1, "sentence": 1, "image": 1}

    # Renamed photos cost none.
    (shop.data / "images").rename(shop.data / "photos")
    items.write_text(items.read_text().replace("images/", "photos/"))
    shop.plan()
    assert shop.query("SELECT COUNT(*) FROM captions.item_captions WHERE status = 'ok' AND image LIKE 'photos/%'") == [
        (101,)
    ]
    assert last_run(shop) == {"caption": 0, "sentence": 0, "image": 0}


def make_photo(path: Path) -> None:
    Image.linear_gradient("L").convert("RGB").save(path)


def test_only_what_depends_on_a_changed_file_is_rebuilt(shop: Workspace) -> None:
    shop.plan()
    log = shop.data / "interactions.csv.gz"
    with_one_less(log)
    planned = shop.plan()
    assert "histories.user_histories" in planned
    assert "search.user_documents" in planned
    assert "captions.item_captions" not in planned
    assert "embeddings.item_embeddings" not in planned
    assert "search.item_documents" not in planned


def with_one_less(log: Path) -> None:
    with gzip.open(log, "rt") as file:
        lines = file.readlines()
    with gzip.open(log, "wt") as file:
        file.writelines(lines[:-1])


READERS = """
import duckdb, sys
from vlm4rec_search import Query, open_index
index = open_index("index")
copy = duckdb.connect("published/warehouse.duckdb", read_only=True)
for line in sys.stdin:
    documents = copy.execute("SELECT COUNT(*) FROM search.item_documents").fetchone()[0]
    print(documents, index.search(Query(text="chair", k=1)).release, flush=True)
"""


def test_nobody_locks_anybody_out(shop: Workspace) -> None:
    """A search process and an analyst stay open while the tables and the index are built and published again."""
    shop.plan()
    shop.vlm4rec("publish-tables")
    first = shop.json("index")["release"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", READERS], cwd=shop.folder, env=shop.environment, stdin=pipe, stdout=pipe, text=True
    ) as readers:

        def answer() -> list[str]:
            assert readers.stdin is not None
            assert readers.stdout is not None
            readers.stdin.write("\n")
            readers.stdin.flush()
            return readers.stdout.readline().split()

        assert answer() == ["100", first]
        items = shop.data / "items.csv"
        header, cheaper, *others, _ = items.read_text().splitlines()
        price = cheaper.split(",")[header.split(",").index("price")]
        items.write_text("\n".join([header, cheaper.replace(price, "1.99"), *others]) + "\n")
        shop.plan()
        shop.vlm4rec("publish-tables")
        summary = shop.json("index")
        changes = {name: summary[name] for name in ("documents", "added", "changed", "deleted")}
        assert changes == {"documents": 99, "added": 0, "changed": 1, "deleted": 1}, "the hash follows the content"
        assert answer() == ["100", first], "readers that were open go on with what they had"
        readers.communicate()
    assert shop.json("search", "--text", "chair")["release"] == summary["release"]


def test_another_folder_in_dev_leaves_prod_untouched(shop: Workspace) -> None:
    shop.plan()
    before = shop.query("FROM search.item_documents ORDER BY item_id")
    shop.vlm4rec("shop", "--to", "other", "--items", "30", "--shoppers", "10", "--seed", "3", "--clean")
    other = Workspace(shop.folder, {"VLM4REC_DATA_DIR": "other"})
    other.plan("dev", "--include-unmodified")
    assert shop.query("SELECT COUNT(*) FROM search__dev.item_documents") == [(30,)]
    assert shop.query("FROM search.item_documents ORDER BY item_id") == before
    assert "No changes to plan" in shop.plan()
    assert other.json("check", "--environment", "dev")["success"]


def test_a_killed_plan_resumes_where_it_was(workspace: Workspace) -> None:
    workspace.vlm4rec("shop", "--to", "data", "--items", "500", "--shoppers", "30", "--clean")
    planning = workspace.start("sqlmesh", "-p", str(ROOT), "plan", "--auto-apply", "--no-prompts", "--skip-tests")
    deadline = time.monotonic() + 120
    while not (done := captions_done(workspace)) and time.monotonic() < deadline and planning.poll() is None:
        time.sleep(0.02)
    planning.send_signal(signal.SIGKILL)
    planning.communicate()
    done = captions_done(workspace)
    assert 0 < done < 500, f"killed in the middle of captioning, with {done} captions kept"
    workspace.plan()
    assert workspace.computed("caption") == [done, 500 - done]
    assert workspace.query("SELECT COUNT(*) FROM captions.item_captions WHERE status = 'ok'") == [(500,)]


def captions_done(workspace: Workspace) -> int:
    """Return the number of captions that the cache holds by now."""
    file = workspace.folder / ".cache" / "vlm4rec" / "results.sqlite"
    if not file.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM results WHERE kind = 'caption'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # not created yet
