"""The gate on real tables: a release whose items have the texts and vectors of other items is refused."""

import csv
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.six_items import RANKING
from helpers.workspace import Workspace

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.evaluation.gate import Verdict, judge_release
from vlm4rec_search.indexes import open_releases
from vlm4rec_search.pipeline import publish

GROUPS = ("wool hat", "clay vase", "desk lamp", "silk scarf", "oak chair", "tin mug", "rain boot", "felt rug")


def write_data(folder: Path) -> None:
    """Write 160 items whose titles name one of 8 groups, and 150 users who take six items of one group on six days."""
    draw = np.random.default_rng(5)
    folder.mkdir()
    with (folder / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "title"])
        rows.writerows([f"i{item:03d}", f"{GROUPS[item % 8]} number {item}"] for item in range(160))
    with (folder / "interactions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp"])
        for user in range(150):
            taken = draw.choice(20, 6, replace=False) * 8 + user % 8
            days = np.sort(draw.choice(28, 6, replace=False)) + 1
            rows.writerows(
                [f"u{user:03d}", f"i{item:03d}", f"2025-02-{day:02d} {user % 24:02d}:{user % 60:02d}:00"]
                for item, day in zip(taken, days, strict=True)
            )


def test_a_worse_release_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    write_data(workspace.data)
    workspace.settings["VLM4REC_RANKING"] = str(
        RANKING
    )  # vectors and words: what co-purchases know would hide the fall
    workspace.plan()
    monkeypatch.chdir(workspace.folder)
    for name in [name for name in os.environ if name.startswith("VLM4REC_")]:
        monkeypatch.delenv(name)
    for name, value in workspace.environment.items():
        if name.startswith("VLM4REC_"):
            monkeypatch.setenv(name, value)
    settings = Settings()
    releases = open_releases("index", settings)
    with read(settings.warehouse) as connection:
        good = publish.read_search_layer(connection)
    assert judge_release(settings, 0.01, releases, good) is None, "nothing to compare with yet"
    releases.publish(good.tables, good.new_release("passed"), incremental=False, force=False)
    # Every item gets the title and the vector of another item.
    wrong = np.random.default_rng(1).permutation(good.tables.documents.num_rows)
    documents = good.tables.documents
    for name in ("title", "vector"):
        place = documents.column_names.index(name)
        documents = documents.set_column(place, name, documents[name].take(wrong))
    bad = replace(good, tables=replace(good.tables, documents=documents))
    with pytest.raises(RunError, match="not published: the new release is worse than items__"):
        publish._require_gate(partial(judge_release, settings, 0.01), releases, bad, force=False)
    with pytest.raises(UsageError, match="from 0 to 1"):
        judge_release(settings, -0.1, releases, good)


@pytest.mark.parametrize(
    ("high", "p", "passed"),
    [(-0.02, 0.01, False), (-0.01, 0.01, True), (0.0, 0.3, True), (-0.05, 1.0, True)],
    ids=["surely-worse", "at-tolerance", "unsure", "one-user"],
)
def test_only_a_certain_fall_beyond_the_tolerance_is_refused(high: float, p: float, passed: bool) -> None:
    verdict = Verdict("r", 100, 0.3, 0.25, -0.08, high, 0.01, p)
    assert verdict.passed is passed
    assert ("too few users to refuse it, p = 1" in str(verdict)) == (p == 1.0)
    assert str(verdict).startswith("nDCG@10 0.3000 -> 0.2500 (-0.0500, 95% interval -0.0800 to")
