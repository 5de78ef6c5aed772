"""The spending cap of a run, and token counts that a server does not report."""

from pathlib import Path

import pytest
from helpers.caption_server import CaptionServer, Reply, answer, serving
from helpers.colour_catalogue import write_catalogue
from helpers.workspace import Workspace

from vlm4rec_search.captioning.estimate import estimate_captions
from vlm4rec_search.captioning.run import run_captions
from vlm4rec_search.common.cache import CostMeter, Prices
from vlm4rec_search.common.settings import Settings

ITEMS = [(f"i{n:02}", (10 + n, 0, 0), 0) for n in range(30)]


def write_settings(folder: Path, server: CaptionServer, **options: object) -> Settings:
    given = {
        "captioner": "openai:llava",
        "openai_url": server.url,
        "openai_workers": 2,
        "caption_canary": "off",
        **options,
    }
    return write_catalogue(folder, *ITEMS, price_in=10, price_out=100, **given)


def test_a_call_costs_the_mean_of_those_that_cost_something() -> None:
    meter = CostMeter(Prices(10, 100), cap=0.1)
    assert meter.allows(3)  # 3 x (1500 x 10 + 120 x 100) / 1e6 = 0.081
    assert not meter.allows(4)  # 0.108
    assert not meter.allows(1, unanswered=1)  # what a call costs is not known
    meter.add_overhead(2000, 0)  # 0.02, which says nothing of a call
    assert not meter.allows(3)
    assert meter.allows(2)
    meter = CostMeter(Prices(10, 100), cap=0.1)
    meter.add(0, 0)  # a server's error
    assert not meter.allows(4)
    meter.add(1000, 100)  # 0.02
    assert meter.allows(4)  # 0.02 + 4 x 0.02
    assert meter.allows(1, unanswered=3)
    assert not meter.allows(1, unanswered=4)
    assert not meter.allows(5)


def test_the_first_call_reveals_a_model_that_costs_far_more_than_assumed(tmp_path: Path) -> None:
    """20,000 tokens at 10 and 1,000 at 100 for a million: 0.3 a call, where 0.027 is assumed."""
    usage = {"prompt_tokens": 20_000, "completion_tokens": 1_000}
    dear = Reply(body={"choices": [{"message": {"content": "A plain red mug."}}], "usage": usage})
    with serving(lambda title, earlier: dear) as server:
        summary = run_captions(write_settings(tmp_path, server, openai_workers=16), max_cost=0.7)
    assert (summary.computed, summary.left) == (2, 28)
    assert summary.cost == pytest.approx(0.6)


def test_the_cap_holds_for_a_server_that_reports_no_tokens(tmp_path: Path) -> None:
    """Prompt and photo: 142 tokens at 10, answer: 5 at 100, for a million: 0.00192 a call, 20 of which are 0.0384."""
    silent = Reply(body={"choices": [{"message": {"content": "A plain red mug, new."}}]})
    with serving(lambda title, earlier: silent) as server:
        options = write_settings(tmp_path, server)
        summary = run_captions(options, max_cost=0.04)
        assert (summary.computed, summary.left) == (20, 10)
        assert summary.cost == pytest.approx(0.0384, abs=0.0001)
        assert summary.tokens_out == summary.computed * (len("A plain red mug, new.") // 4)
        assert run_captions(options).left == 0


def test_lost_answers_count_towards_the_cap(tmp_path: Path) -> None:
    with serving(lambda title, earlier: Reply(200, '{"choices": [') if title != "Item i00" else answer("ok")) as server:
        summary = run_captions(write_settings(tmp_path, server, openai_workers=1), limit=2, max_cost=1.0)
    assert (summary.computed, summary.failed) == (1, 1)
    assert summary.tokens_out == 7 + 6 * 150
    assert summary.tokens_in > 30 + 6 * 100


def test_a_run_that_the_cap_ended_says_so(workspace: Workspace) -> None:
    with serving(lambda title, earlier: answer("A plain red mug.")) as server:
        write_settings(workspace.folder, server)
        own = {"CAPTIONER": "openai:llava", "OPENAI_URL": server.url, "PRICE_IN": "10", "PRICE_OUT": "100"}
        own["CAPTION_CANARY"] = "off"
        workspace.settings |= {f"VLM4REC_{name}": value for name, value in own.items()}
        printed = workspace.vlm4rec("captions", "run", "--max-cost", "0.0285")
        assert "The spending cap ended the run: 2 photos are left; continue with a higher --max-cost" in printed
        assert "The spending cap" not in workspace.vlm4rec("captions", "run", "--max-cost", "10")


def test_estimated_hours_depend_on_seconds_per_call_workers_and_limits(tmp_path: Path) -> None:
    with serving(lambda title, earlier: Reply(body=answer("A plain red mug.").body, delay=0.1)) as server:
        options = write_settings(tmp_path, server)
        before = estimate_captions(options)
        assert (before.hours, before.pace) == (None, "")
        limited = options.model_copy(update={"openai_rpm": 60, "openai_tpm": 81_000})
        unmeasured = estimate_captions(limited)
        assert unmeasured.hours == pytest.approx(30 * 1620 / 81_000 / 60)  # 0.01; requests alone 30 / 60 / 60
        assert unmeasured.pace == "at least; seconds of a call are not known: 81,000 assumed tokens a minute"
        run_captions(options, limit=10)
        after = estimate_captions(options)
        assert (after.todo, after.measured) == (20, 10)
        assert after.hours is not None
        assert 20 * 0.1 / 2 / 3600 <= after.hours < 20 * 5 / 2 / 3600
        assert "s a call measured, 2 at once" in after.pace
        slow = estimate_captions(options.model_copy(update={"openai_rpm": 1}))
        assert slow.hours == pytest.approx(20 / 60)
        assert slow.pace == "1 requests a minute"
