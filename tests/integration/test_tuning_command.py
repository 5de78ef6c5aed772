"""`vlm4rec tune` from a log to a configuration that searches use."""

import csv
import re
from datetime import datetime, timedelta

import duckdb
import pytest
import yaml
from helpers.workspace import Workspace

from vlm4rec_search.common.settings import settings
from vlm4rec_search.evaluation.protocol import Protocol
from vlm4rec_search.evaluation.snapshots import workbench
from vlm4rec_search.evaluation.tuning.windows import count_shoppers
from vlm4rec_search.search.query import KINDS
from vlm4rec_search.search.ranking import load_ranking

USERS, ITEMS = 150, 60


def write(workspace: Workspace, users: int = USERS, steps: int = 8) -> None:
    """Write shoppers who walk along the items, so that what others took next is what to show."""
    workspace.data.mkdir()
    with (workspace.data / "items.csv").open("w", newline="") as file:
        rows = [(f"i{item:02d}", f"thing of kind {item * 7 % 11}") for item in range(ITEMS)]
        csv.writer(file).writerows([("item_id", "title"), *rows])
    taken = [(user, (user + step) % ITEMS, step) for step in range(steps) for user in range(users)]
    start = datetime(2025, 1, 1)
    log = [(f"u{user:03d}", f"i{item:02d}", start + timedelta(days=step, minutes=user)) for user, item, step in taken]
    with (workspace.data / "interactions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("user_id", "item_id", "timestamp"), *log])


def test_a_tuned_configuration_is_what_searches_use(workspace: Workspace) -> None:
    assert "--version" in workspace.vlm4rec("tune", "--version", " ", code=2)
    assert "make it first" in workspace.vlm4rec("tune", "--to", "nowhere/ranking.yaml", code=2)
    assert "300" in workspace.vlm4rec("tune", "--users", "20", code=2)
    write(workspace)
    workspace.choose_ranking()
    workspace.plan()
    before = (workspace.folder / "warehouse.duckdb").read_bytes()

    found = workspace.json("tune", "--no-tables", "--candidates", "all", "--users", "300", "--version", "walk-1")
    values = {row["system"]: row["nDCG@10"] for row in found["rows"]}
    assert found["users"] == 300  # a third of them in each window
    assert found["tried"] > 300
    assert values["chosen"] >= max(values.values()) - 0.01 > 0  # the best kind alone is no better beyond chance
    assert set(values) == {"chosen", "equal weights", *KINDS}
    assert all(row["low"] <= row["difference"] <= row["high"] for row in found["differences"])
    assert "nDCG@10" in found["reason"]
    assert (workspace.folder / "warehouse.duckdb").read_bytes() == before, "the warehouse is only read"

    ranking = yaml.safe_load((workspace.folder / "ranking.yaml").read_text("utf-8"))
    assert ranking == found["ranking"]
    told = workspace.run("vlm4rec", "index", told=True)  # chooses as well, and the release holds the choice
    assert "tables of earlier moments: 4/4" in told
    assert "steps of the choice: 10/10" in told
    assert f"on {count_all(workspace)} histories of 3 earlier windows" in " ".join(told.split())
    answer = workspace.json("search", "--user", "u003")
    assert answer["ranking"].startswith("shop-")
    with duckdb.connect(str(workspace.folder / "releases.duckdb"), read_only=True) as records:
        (recorded,) = records.execute("SELECT ranking->>'version', chosen FROM releases").fetchall()
    assert (recorded[0], recorded[1].split()[0]) == (answer["ranking"], answer["ranking"])
    again = workspace.run("vlm4rec", "index", told=True)
    assert "no table has changed since the ranking" in again
    assert "earlier moments" not in again, "no window is planned"
    with duckdb.connect(str(workspace.folder / "releases.duckdb"), read_only=True) as records:
        rows = records.execute("SELECT ranking->>'version', chosen, chosen_from FROM releases").fetchall()
    assert rows[0] == rows[1]
    assert rows[0][:2] == recorded
    workspace.settings["VLM4REC_RANKING"] = "ranking.yaml"
    workspace.plan()
    workspace.vlm4rec("index")
    assert workspace.json("search", "--user", "u003")["ranking"] == "walk-1"


def count_all(workspace: Workspace) -> int:
    """Return the shoppers of all windows, counted without tables."""
    with workspace.inside(), workbench(settings()) as bench:
        return count_shoppers(bench, Protocol(), 1_000)


@pytest.mark.usefixtures("in_process")
def test_where_too_few_shoppers_come_back_no_moment_is_planned_and_the_weights_are_equal(workspace: Workspace) -> None:
    write(workspace, users=50, steps=4)
    workspace.choose_ranking()
    workspace.plan()
    own = workspace.folder / "ranking.yaml"
    own.write_text("version: by-hand\n")
    told = workspace.vlm4rec("tune", "--no-tables", "--candidates", "all", code=1)
    assert "earlier moments, to choose" not in told
    found = re.search(
        "no ranking can be chosen, so nothing is written to ranking.yaml: after earlier moments (.+) shoppers with at"
        " least 2 items came back for a new one, and a choice needs 100",
        told,
    )
    assert found
    assert 50 < int(found[1]) < 100
    assert own.read_text() == "version: by-hand\n"
    workspace.vlm4rec("index")
    assert workspace.json("search", "--user", "u003")["ranking"] == "default-3"


@pytest.mark.usefixtures("in_process")
def test_leave_one_out_uses_no_ranking_of_a_release_and_warns_of_a_file(workspace: Workspace) -> None:
    write(workspace, users=20)
    workspace.plan()
    own = load_ranking().model_copy(update={"version": "shop-1"})
    (workspace.folder / "own.yaml").write_text(own.model_dump_json())
    workspace.settings["VLM4REC_RANKING"] = "own.yaml"
    workspace.vlm4rec("index")
    workspace.settings["COLUMNS"] = "80"
    systems = "product-lexical,product-hybrid,product-behaviour"
    left = ("evaluate", "--protocol", "leave-one-out", "--systems", systems, "--candidates", "all")
    told = workspace.run("vlm4rec", *left, told=True)
    (of_behaviour, gain) = (line for line in told.splitlines() if line.startswith("product-behaviour  "))
    assert re.fullmatch(r"product-behaviour +\S+ +\S+ \[\S+ \S+\] +\d+% +\d+% +\d+%", of_behaviour.rstrip())
    assert re.fullmatch(r"product-behaviour +[+-]\S+ \[\S+ \S+\] +\S+  (better|worse|may be chance)", gain.rstrip())
    told = " ".join(told.split())
    assert "nDCG@10 of product-hybrid minus that of each other system" in told
    assert "use the ranking shop-1 of VLM4REC_RANKING: it must not have been chosen on this log" in told
    workspace.choose_ranking()
    assert workspace.json("search", "--user", "u003")["ranking"] == "shop-1", "that of the release"
    told = " ".join(workspace.run("vlm4rec", *left, told=True).split())
    assert f"use the packaged ranking {load_ranking().version}, since one that was chosen" in told
