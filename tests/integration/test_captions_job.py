"""Captioning ahead of a plan: order, limits, cost, failures, and killed processes."""

import random
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path

import duckdb
import pytest
from helpers.colour_catalogue import WORKERS, install_colour_captioner, read_calls, write_catalogue
from helpers.workspace import Workspace

from vlm4rec_search.captioning.estimate import estimate_captions
from vlm4rec_search.captioning.run import preview_captions, read_items_by_priority, run_captions
from vlm4rec_search.common.cache import FILE, Cache
from vlm4rec_search.common.errors import UsageError


def count_captions(cache: Path) -> int:
    """Return the number of captions in the cache."""
    try:
        with sqlite3.connect(f"file:{cache / FILE}?mode=ro", uri=True, timeout=30) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM results WHERE kind = 'caption'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # not created yet


def test_five_kills_lose_no_more_than_the_calls_in_flight(workspace: Workspace) -> None:
    folder, cache = workspace.folder, workspace.folder / ".cache" / "vlm4rec"
    workspace.settings |= {"VLM4REC_CAPTIONER": "colour:30", **install_colour_captioner(folder)}
    write_catalogue(folder, *[(f"i{n:03}", (n, 100, 200), 0) for n in range(100)])
    draw = random.Random(5)
    for kill in range(1, 6):
        wanted = len(read_calls(folder, "end")) + draw.randint(3, 9)
        running = workspace.start("vlm4rec", "captions", "run")
        while len(read_calls(folder, "end")) < wanted and running.poll() is None:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.04)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert running.returncode == -signal.SIGKILL, "the process was killed during its work"
        assert len(read_calls(folder)) - count_captions(cache) <= kill * WORKERS
    started, done = len(read_calls(folder)), count_captions(cache)
    assert 15 <= done < 100
    summary = workspace.json("captions", "run")
    assert (summary["computed"], summary["statuses"]) == (100 - done, {"ok": 100})
    assert len(read_calls(folder)) == started + 100 - done, "no finished call is repeated"


def test_ctrl_c_keeps_finished_captions_and_prints_one_line(workspace: Workspace) -> None:
    folder, cache = workspace.folder, workspace.folder / ".cache" / "vlm4rec"
    workspace.settings |= {"VLM4REC_CAPTIONER": "colour:30", **install_colour_captioner(folder)}
    write_catalogue(folder, *[(f"i{n:03}", (n, 100, 200), 0) for n in range(200)])
    running = workspace.start("vlm4rec", "captions", "run")
    while len(read_calls(folder, "end")) < 10 and running.poll() is None:
        time.sleep(0.001)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 1, (out, err)
    assert "Traceback" not in out + err
    assert err.splitlines()[-1] == "Error: stopped; finished work is kept"
    done = count_captions(cache)
    assert len(read_calls(folder)) - WORKERS <= done < 200
    assert workspace.json("captions", "run")["computed"] == 200 - done


def test_the_priority_is_popularity_and_recency(tmp_path: Path) -> None:
    settings = write_catalogue(
        tmp_path, ("a", (1, 0, 0), 1), ("b", (2, 0, 0), 4), ("c", (3, 0, 0), 0), ("d", (4, 0, 0), 0)
    )
    with duckdb.connect(str(settings.warehouse)) as connection:
        connection.execute("INSERT INTO histories.user_histories VALUES ('d', '2025-01-11'), ('a', '2025-01-06')")
    priorities = [(item.item_id, round(item.priority, 4)) for item in read_items_by_priority(settings)]
    # 0.7 x 4/4 + 0.3 x 0/10 days; 0.7 x 2/4 + 0.3 x 5/10; 0.7 x 1/4 + 0.3 x 10/10; nothing
    assert priorities == [("b", 0.7), ("a", 0.5), ("d", 0.475), ("c", 0.0)]


def test_a_limit_takes_the_items_of_highest_priority_and_no_photo_is_captioned_twice(colour: Path) -> None:
    settings = write_catalogue(
        colour, ("a", (10, 0, 0), 1), ("b", (20, 0, 0), 3), ("c", (30, 0, 0), 0), ("d", (40, 0, 0), 2)
    )
    summary = run_captions(settings, limit=2)
    assert sorted(read_calls(colour)) == ["20 0 0", "40 0 0"]
    assert summary.statuses == {"ok": 2, "pending": 2}
    assert run_captions(settings).computed == 2
    assert run_captions(settings).computed == 0
    assert set(Counter(read_calls(colour)).values()) == {1}


def test_an_item_beyond_the_limit_with_the_photo_and_title_of_another_has_its_caption(colour: Path) -> None:
    settings = write_catalogue(colour, ("a", (10, 0, 0), 1), ("b", (10, 0, 0), 0), ("c", (30, 0, 0), 0))
    with duckdb.connect(str(settings.warehouse)) as connection:
        connection.execute("UPDATE staging.items SET title = 'Mug'")
    assert run_captions(settings, limit=1).statuses == {"ok": 2, "pending": 1}


def test_a_spending_cap_ends_the_run_and_the_ledger_shows_the_cost(colour: Path) -> None:
    # 100 tokens in at 10 and 10 out at 100 for a million: 0.002 a call; the first is taken to cost 0.027
    settings = write_catalogue(colour, *[(f"i{n}", (10 + n, 0, 0), 0) for n in range(20)], price_in=10, price_out=100)
    assert run_captions(settings, max_cost=0.02).computed == 0
    first = run_captions(settings, max_cost=0.031)
    assert (first.computed, first.left) == (15, 5), "one call alone, then as many as 0.031 pays for"
    rest = run_captions(settings.model_copy(update={"caption_max_cost": 0.2}))
    assert (rest.computed, rest.left) == (5, 0)
    with Cache(settings.cache) as cache:
        rows = cache.ledger()
    assert [(row.origin, row.computed, row.tokens_in) for row in rows] == [
        ("run", 0, 0),
        ("run", 15, 1500),
        ("run", 5, 500),
    ]
    assert rows[1].cost == pytest.approx(0.03)
    with pytest.raises(UsageError, match="a cap on spend needs prices"):
        run_captions(settings.model_copy(update={"price_in": 0.0, "price_out": 0.0}), max_cost=1.0)


def test_failures_are_retried_on_demand_only(colour: Path) -> None:
    settings = write_catalogue(colour, ("blue", (0, 0, 255), 0), ("good", (90, 90, 90), 0))
    first = run_captions(settings)
    assert (first.computed, first.failed, first.statuses) == (1, 1, {"ok": 1, "refused": 1})
    assert run_captions(settings).failed == 0, "a run does not repeat a refused call"
    again = run_captions(settings, retry=("refused",))
    assert (again.computed, again.failed, again.tokens_in) == (0, 1, 100)
    assert Counter(read_calls(colour)) == {"0 0 255": 2, "90 90 90": 1}


def test_an_unusable_answer_is_kept_until_a_retry_replaces_it(colour: Path) -> None:
    settings = write_catalogue(colour, ("black", (0, 0, 0), 0))

    def title(text: str) -> None:
        with duckdb.connect(str(settings.warehouse)) as connection:
            connection.execute("UPDATE staging.items SET title = ?", [text])

    title("sorry, no. I cannot say what this is.")
    assert run_captions(settings).statuses == {"refused": 1}, "an answer that declines is also a refusal"
    retried = run_captions(settings, retry=("refused",))
    assert (retried.computed, retried.statuses) == (1, {"refused": 1})
    assert len(read_calls(colour)) == 2


def test_an_estimate_counts_items_and_uses_measured_tokens(colour: Path) -> None:
    settings = write_catalogue(colour, *[(f"i{n}", (10 + n, 0, 0), 0) for n in range(5)], price_in=10, price_out=100)
    before = estimate_captions(settings)
    assert (before.items, before.cached, before.todo, before.measured) == (5, 0, 5, 0)
    assert (before.tokens_in, before.tokens_out, before.hours) == (5 * 1500, 5 * 120, None)
    assert before.cost == pytest.approx(5 * 0.027)
    assert [row.answer for row in preview_captions(settings, 2)] == [
        "An item of the colour 10 0 0.",
        "An item of the colour 11 0 0.",
    ]
    after = estimate_captions(settings)
    assert (after.cached, after.todo, after.measured) == (2, 3, 2)
    assert (after.tokens_in, after.tokens_out) == (300, 30)
    assert after.cost == pytest.approx(3 * 0.002)
    assert after.hours is not None


def test_a_preview_shows_earlier_failures_and_captions_pending_items_only(colour: Path) -> None:
    settings = write_catalogue(colour, ("blue", (0, 0, 255), 1), ("good", (90, 90, 90), 0))
    for _ in range(2):
        assert [row.status for row in preview_captions(settings, 2)] == ["refused", "ok"]
    assert Counter(read_calls(colour)) == {"0 0 255": 1, "90 90 90": 1}


def test_a_run_before_the_first_plan_is_an_error(workspace: Workspace) -> None:
    assert "no warehouse at warehouse.duckdb: run `sqlmesh plan` first" in workspace.vlm4rec("captions", "run", code=2)
    wrong = workspace.vlm4rec("captions", "retry", "--status", "lost", code=2)
    assert "unknown status lost: choose from failed, refused" in wrong
