"""A run in which nothing comes back ends early and says so; single bad photos do not end it."""

from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from helpers.caption_server import Behaviour, CaptionServer, Reply, answer, refusal, serving
from helpers.colour_catalogue import write_catalogue
from helpers.workspace import Workspace

from vlm4rec_search.captioning.generate import MAX_FAILURES_IN_A_ROW, CircuitBreaker
from vlm4rec_search.captioning.run import look_up_captions, run_captions
from vlm4rec_search.common.cache import Cache, Failure
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import Settings

ITEMS = [(f"i{n:03}", (n, 0, 0), 0) for n in range(100)]
WORKERS = 8
BAD = refusal(400, "the image does not fit the context")


def settings(folder: Path, server: CaptionServer) -> Settings:
    options = {"captioner": "openai:llava", "openai_url": server.url, "openai_workers": WORKERS}
    return write_catalogue(folder, *ITEMS, **options)


def test_calls_that_all_fail_alike_end_the_run_and_nothing_is_lost(tmp_path: Path) -> None:
    broken: list[Behaviour] = [lambda title, earlier: BAD]
    with serving(lambda title, earlier: broken[-1](title, earlier)) as server:
        options = settings(tmp_path, server)
        with pytest.raises(
            RunError, match=r"llava@1: \d+ calls in a row failed \(400: the image .* `vlm4rec captions run`"
        ):
            run_captions(options)
        assert MAX_FAILURES_IN_A_ROW <= len(server.calls) < MAX_FAILURES_IN_A_ROW + WORKERS
        with Cache(options.cache) as cache:
            assert look_up_captions(options, cache).count_statuses()["failed"] == len(server.calls), (
                "each failure is kept"
            )
        broken.append(lambda title, earlier: answer("A red mug."))
        rest = run_captions(options)
        assert rest.computed == 100 - rest.statuses["failed"]
        assert run_captions(options, retry=("failed",)).statuses == {"ok": 100}


def test_what_fails_for_ever_keeps_nothing_else_from_its_turn(tmp_path: Path) -> None:
    """The first 60 of 100 stay bad: a first retry ends after about 40 of them, the next ones begin where it ended."""
    mended: list[bool] = []
    with serving(lambda title, earlier: answer("ok") if mended and int(title[-3:]) >= 60 else BAD) as server:
        options = settings(tmp_path, server)
        for retry in ((), (), ()):
            with suppress(RunError):
                run_captions(options, retry=retry)
        mended.append(True)
        for _ in range(4):
            with suppress(RunError):
                run_captions(options, retry=("failed",))
        with Cache(options.cache) as cache:
            assert look_up_captions(options, cache).count_statuses() == {"failed": 60, "ok": 40}


def test_failures_for_other_reasons_in_turn_end_the_run_too(tmp_path: Path) -> None:
    asked = count()
    other = refusal(400, "something else")
    with (
        serving(lambda title, earlier: BAD if next(asked) % 2 else other) as server,
        pytest.raises(RunError, match="calls in a row failed"),
    ):
        run_captions(settings(tmp_path, server))


def test_single_failures_between_answers_end_nothing(tmp_path: Path) -> None:
    asked = count()
    with serving(lambda title, earlier: answer("ok") if next(asked) % 20 == 0 else BAD) as server:
        summary = run_captions(settings(tmp_path, server))
    assert (summary.computed, summary.failed, summary.broken) == (5, 95, None)


def test_refusals_and_answers_close_the_circuit_again() -> None:
    breaker = CircuitBreaker("m@1")
    failure = Failure("failed", "tried 6 times: 500: oops")
    breaker.record([failure] * (MAX_FAILURES_IN_A_ROW - 1))
    breaker.record([Failure("refused", "no")])
    breaker.record([failure] * 20)
    breaker.record([])
    breaker.record([failure] * (MAX_FAILURES_IN_A_ROW - 21))
    breaker.check()
    breaker.record([Failure("failed", "tried 5 times: 429: slow down")])
    with pytest.raises(RunError, match=rf"m@1: {MAX_FAILURES_IN_A_ROW} calls in a row failed \(tried 5 times: 429"):
        breaker.check()
    breaker.record([failure, {"caption": "a caption at the end of a batch"}])
    breaker.check()


def make_unreadable(folder: Path, *names: str) -> None:
    for name in names:
        (folder / "data" / "images" / f"{name}.png").write_bytes(b"no photo " + name.encode())


def test_unreadable_photos_do_not_count_as_failed_calls(tmp_path: Path) -> None:
    with serving(lambda title, earlier: answer("ok")) as server:
        options = settings(tmp_path, server)
        make_unreadable(tmp_path, *(name for name, *_ in ITEMS[:60]))
        assert run_captions(options).statuses == {"wrong_type": 60, "ok": 40}


def test_unreadable_photos_between_failed_calls_do_not_close_the_circuit(tmp_path: Path) -> None:
    with serving(lambda title, earlier: BAD) as server:
        options = settings(tmp_path, server)
        make_unreadable(tmp_path, *(name for name, *_ in ITEMS[::2]))
        with pytest.raises(RunError, match="calls in a row failed"):
            run_captions(options)


def test_a_run_of_nothing_but_failures_has_exit_code_1(workspace: Workspace) -> None:
    behave: list[Reply] = [BAD]
    with serving(lambda title, earlier: behave[-1]) as server:
        write_catalogue(workspace.folder, ("a", (9, 0, 0), 0))
        workspace.settings |= {"VLM4REC_CAPTIONER": "openai:llava", "VLM4REC_OPENAI_URL": server.url}
        told = workspace.vlm4rec("captions", "run", code=1)
        assert "this run produced failures only: 400: the image does not fit" in told
        assert "1 failed" in told
        behave.append(answer(None, refusal="No."))
        assert '"refused": 1' in workspace.vlm4rec("captions", "retry", "--json"), "a refusal is an answer"
