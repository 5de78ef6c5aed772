"""Real `sqlmesh plan` commands: what they rebuild, which results they compute, and how they resume."""

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


@pytest.fixture
def shop(planned_shop: Workspace) -> Workspace:
    return planned_shop


def computed_by_last_run(workspace: Workspace) -> dict[str, int]:
    """Return, by kind of model call, the number of results that the newest run computed."""
    kinds = ("caption", "image", "sentence")
    return {row["kind"]: row["computed"] for row in workspace.json("ledger")["rows"] if row["kind"] in kinds}


def test_a_plan_computes_each_result_once_and_notices_new_data(shop: Workspace) -> None:
    assert shop.query("SELECT COUNT(*) FROM search.item_documents") == [(100,)]
    assert shop.computed("caption") == [100]
    assert "No changes to plan" in shop.plan()
    assert len(shop.computed("caption")) == 1, "an unchanged folder needs no captioner"

    # One new item needs one call of each model.
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
    assert computed_by_last_run(shop) == {"caption": 1, "sentence": 1, "image": 1}

    # Renamed photos need none.
    (shop.data / "images").rename(shop.data / "photos")
    items.write_text(items.read_text().replace("images/", "photos/"))
    shop.plan()
    assert shop.query("SELECT COUNT(*) FROM captions.item_captions WHERE status = 'ok' AND image LIKE 'photos/%'") == [
        (101,)
    ]
    assert computed_by_last_run(shop) == {"caption": 0, "sentence": 0, "image": 0}


def make_photo(path: Path) -> None:
    Image.linear_gradient("L").convert("RGB").save(path)


def test_a_plan_rebuilds_only_models_that_depend_on_a_changed_file(shop: Workspace) -> None:
    documents = "SELECT item_id, content_hash FROM search.item_documents ORDER BY ALL"
    before = shop.query(documents)
    log = shop.data / "interactions.csv.gz"
    drop_last_line(log)
    planned = shop.plan()
    assert "histories.user_histories" in planned
    assert "search.user_documents" in planned
    assert "captions.item_captions" not in planned
    assert "embeddings.image_embeddings" not in planned
    # The text recipe is judged on the log, so that its table and those below it are built again, from the cache. The
    # recipe in force stays, so that nothing in them changes and a release sends no document.
    assert computed_by_last_run(shop)["sentence"] == 0
    assert shop.query(documents) == before


def drop_last_line(log: Path) -> None:
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


def test_open_readers_do_not_block_a_new_publication(shop: Workspace) -> None:
    """A search process and an analyst's connection stay open while tables and index are built and published again."""
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
        assert changes == {"documents": 99, "added": 0, "changed": 1, "deleted": 1}, (
            "the content hash detects the new price"
        )
        assert answer() == ["100", first], "open readers keep their release and copy"
        readers.communicate()
    assert shop.json("search", "--text", "chair")["release"] == summary["release"]


def test_a_plan_of_another_folder_in_dev_leaves_prod_unchanged(shop: Workspace) -> None:
    before = shop.query("FROM search.item_documents ORDER BY item_id")
    shop.vlm4rec("shop", "--to", "other", "--items", "30", "--shoppers", "10", "--seed", "3", "--clean")
    other = Workspace(shop.folder, {"VLM4REC_DATA_DIR": "other"})
    other.plan("dev")
    assert shop.query("SELECT COUNT(*) FROM search__dev.item_documents") == [(30,)]
    assert shop.query("FROM search.item_documents ORDER BY item_id") == before
    assert "No changes to plan" in shop.plan()
    assert other.json("check", "--environment", "dev")["success"]


def test_a_killed_plan_resumes_with_the_captions_it_stored(workspace: Workspace) -> None:
    workspace.vlm4rec("shop", "--to", "data", "--items", "500", "--shoppers", "30", "--clean")
    planning = workspace.start("sqlmesh", "-p", str(ROOT), "plan", "--auto-apply", "--no-prompts", "--skip-tests")
    deadline = time.monotonic() + 120
    while not (done := count_stored_captions(workspace)) and time.monotonic() < deadline and planning.poll() is None:
        time.sleep(0.02)
    planning.send_signal(signal.SIGKILL)
    planning.communicate()
    done = count_stored_captions(workspace)
    assert 0 < done < 500, f"killed in the middle of captioning, with {done} captions stored"
    workspace.plan()
    assert workspace.computed("caption") == [done, 500 - done]
    assert workspace.query("SELECT COUNT(*) FROM captions.item_captions WHERE status = 'ok'") == [(500,)]


def count_stored_captions(workspace: Workspace) -> int:
    """Return the number of captions in the cache."""
    file = workspace.folder / ".cache" / "vlm4rec" / "results.sqlite"
    if not file.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM results WHERE kind = 'caption'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # the table is not created yet
