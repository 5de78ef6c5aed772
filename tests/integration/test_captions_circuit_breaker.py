"""A run in which every call fails ends early with a clear error; single bad photos do not end it."""

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


def write_settings(folder: Path, server: CaptionServer) -> Settings:
    options = {"captioner": "openai:llava", "openai_url": server.url, "openai_workers": WORKERS}
    return write_catalogue(folder, *ITEMS, **options)


def test_failures_in_a_row_end_the_run_and_no_result_is_lost(tmp_path: Path) -> None:
    behaviours: list[Behaviour] = [lambda title, earlier: BAD]
    with serving(lambda title, earlier: behaviours[-1](title, earlier)) as server:
        options = write_settings(tmp_path, server)
        with pytest.raises(
            RunError, match=r"llava@1: \d+ calls in a row failed \(400: the image .* `vlm4rec captions run`"
        ):
            run_captions(options)
        assert MAX_FAILURES_IN_A_ROW <= len(server.calls) < MAX_FAILURES_IN_A_ROW + WORKERS
        with Cache(options.cache) as cache:
            assert look_up_captions(options, cache).count_statuses()["failed"] == len(server.calls), (
                "each failure is recorded"
            )
        behaviours.append(lambda title, earlier: answer("A red mug."))
        rest = run_captions(options)
        assert rest.computed == 100 - rest.statuses["failed"]
        assert run_captions(options, retry=("failed",)).statuses == {"ok": 100}


def test_permanent_failures_do_not_block_the_other_photos(tmp_path: Path) -> None:
    """The first 60 of 100 photos keep failing. A retry ends after about 40 of them; the next one takes the others."""
    is_repaired: list[bool] = []
    with serving(lambda title, earlier: answer("ok") if is_repaired and int(title[-3:]) >= 60 else BAD) as server:
        options = write_settings(tmp_path, server)
        for retry in ((), (), ()):
            with suppress(RunError):
                run_captions(options, retry=retry)
        is_repaired.append(True)
        for _ in range(4):
            with suppress(RunError):
                run_captions(options, retry=("failed",))
        with Cache(options.cache) as cache:
            assert look_up_captions(options, cache).count_statuses() == {"failed": 60, "ok": 40}


def test_alternating_failures_end_the_run_as_well(tmp_path: Path) -> None:
    requests = count()
    other = refusal(400, "something else")
    with (
        serving(lambda title, earlier: BAD if next(requests) % 2 else other) as server,
        pytest.raises(RunError, match="calls in a row failed"),
    ):
        run_captions(write_settings(tmp_path, server))


def test_failures_between_answers_do_not_end_the_run(tmp_path: Path) -> None:
    requests = count()
    with serving(lambda title, earlier: answer("ok") if next(requests) % 20 == 0 else BAD) as server:
        summary = run_captions(write_settings(tmp_path, server))
    assert (summary.computed, summary.failed, summary.failure) == (5, 95, None)


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
        options = write_settings(tmp_path, server)
        make_unreadable(tmp_path, *(name for name, *_ in ITEMS[:60]))
        assert run_captions(options).statuses == {"wrong_type": 60, "ok": 40}


def test_unreadable_photos_between_failed_calls_do_not_close_the_circuit(tmp_path: Path) -> None:
    with serving(lambda title, earlier: BAD) as server:
        options = write_settings(tmp_path, server)
        make_unreadable(tmp_path, *(name for name, *_ in ITEMS[::2]))
        with pytest.raises(RunError, match="calls in a row failed"):
            run_captions(options)


def test_a_run_with_failures_only_has_exit_code_1(workspace: Workspace) -> None:
    behave: list[Reply] = [BAD]
    with serving(lambda title, earlier: behave[-1]) as server:
        write_catalogue(workspace.folder, ("a", (9, 0, 0), 0))
        workspace.settings |= {"VLM4REC_CAPTIONER": "openai:llava", "VLM4REC_OPENAI_URL": server.url}
        printed = workspace.vlm4rec("captions", "run", code=1)
        assert "this run produced failures only: 400: the image does not fit" in printed
        assert "1 failed" in printed
        behave.append(answer(None, refusal="No."))
        assert '"refused": 1' in workspace.vlm4rec("captions", "retry", "--json"), "a refusal is an answer"
