"""The frame of the benchmarks: ratios by round, growth, what is kept and skipped, and the report."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import measure_all
from benchmarks.compare import growth
from benchmarks.measure import Act, Contest, Value, exponent, run
from benchmarks.report import RESULTS, Results, quantity, render
from benchmarks.rooms import ROOMS

MACHINE = {
    "cores": 2, "processor": "any", "memory_gib": 8.0, "system": "Linux", "python": "3.11", "threads": "not set",
    "load_at_start": 0.1, "commit": "abc", "versions": {"numpy": "2"},
}  # fmt: skip


def reading(values: Iterable[float]) -> Act:
    """Return an act that measures these values, one after the other."""
    left = iter(values)
    return lambda: Value(next(left))


def contest() -> Contest:
    """Two ways of ours and one rival, three rounds; a second rival cannot be made."""
    made = Contest(rounds=(3, 3))
    made.ours("search", reading([10.0, 40.0, 90.0]), per=10, costs=lambda: [("scan", 0.75)], warm=False)
    made.rival("scan", lambda: reading([2.0, 4.0, 6.0]), ["search"], note="no filters", warm=False)
    made.rival("absent", no_module, ["search"])
    return made


def no_module() -> Act:
    raise ImportError("No module named 'absent'")


def test_a_ratio_is_taken_in_each_round_and_the_spread_is_that_of_the_rounds() -> None:
    measured = run(contest())
    (figure,) = measured["figures"]
    assert (figure["path"], figure["rival"], figure["rounds"]) == ("search", "scan", 3)
    assert (figure["ours"], figure["theirs"]) == (4.0, 4.0)  # medians, ours for one of ten units
    assert (figure["ratio"], figure["low"], figure["high"]) == (1.0, 0.5, 1.5)
    assert figure["costs"] == [("scan", 0.75)]
    assert measured["missing"] == {"absent": "ImportError: No module named 'absent'"}


def test_the_order_of_the_ways_turns_each_round() -> None:
    called: list[str] = []

    def noting(name: str) -> Act:
        return lambda: called.append(name)

    made = Contest(rounds=(2, 2))
    made.ours("a", noting("a"), costs=lambda: [], warm=False)
    made.rival("b", lambda: noting("b"), ["a"], warm=False)
    made.rival("c", lambda: noting("c"), ["a"], warm=False)
    run(made)
    assert "".join(called) == "abc" + "bca"


def test_a_way_that_fails_is_a_line_and_the_others_are_measured() -> None:
    made = contest()
    made.rival("breaks", lambda: reading([1.0]), ["search"], warm=False)
    measured = run(made)
    assert [figure["rival"] for figure in measured["figures"]] == ["scan"]
    assert measured["missing"]["breaks"].startswith("StopIteration")


def test_costs_are_those_below_the_functions_that_only_hand_on() -> None:
    def busy(steps: int) -> int:
        return sum(number * number for number in range(steps))

    def work() -> None:
        def inner() -> None:
            busy(300_000)
            sorted(range(1_000))

        inner()

    made = Contest(rounds=(1, 1))
    made.ours("work", work)
    made.compare(["work"], "work")
    costs = run(made)["figures"][0]["costs"]
    assert "genexpr" in costs[0][0] or "sum" in costs[0][0]
    assert costs[0][1] > 0.3


def test_growth_is_the_exponent_of_the_size() -> None:
    assert exponent([400, 4_000, 40_000], [0.2, 2.0, 20.0]) == pytest.approx(1.0)
    assert exponent([10, 100], [1.0, 100.0]) == pytest.approx(2.0)
    assert exponent([400], [1.0]) is None


def test_what_is_finished_is_kept_and_skipped_unless_it_is_asked_for_again(tmp_path: Path) -> None:
    asked: list[int] = []

    def measuring(stop_at: int = 0) -> Callable[[str, int], dict[str, Any]]:
        def measure(_: str, size: int) -> dict[str, Any]:
            if size == stop_at:
                raise KeyboardInterrupt
            asked.append(size)
            return run(contest())

        return measure

    file, work = tmp_path / "results.json", [("search", 400), ("search", 4_000), ("search", 40_000)]
    with pytest.raises(KeyboardInterrupt):
        measure_all(work, Results(file), False, measuring(stop_at=40_000), MACHINE)
    measure_all(work, Results(file), False, measuring(), MACHINE)
    assert asked == [400, 4_000, 40_000]
    measure_all(work[:1], Results(file), True, measuring(), MACHINE)
    assert asked == [400, 4_000, 40_000, 400]
    assert len(Results(file).figures) == 3
    failed = {"figures": [], "missing": {"all": "the process ended with 1"}}
    measure_all(work[:1], Results(file), True, lambda name, size: failed, MACHINE)
    assert Results(file).has("search", 400)  # what was measured stays


def test_the_report_shows_ratio_spread_growth_costs_and_what_is_missing(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    for size in (400, 4_000):
        results.replace("search", size, run(contest()), "2026-11-28 20:00", MACHINE, 0.4)
    page = (tmp_path / "results.md").read_text("utf-8")
    assert (
        "| search | scan (no filters) | 400 | 4.00 s | 4.00 s | **1.00** | 0.50 to 1.50 | 3 | 0.4 | 2026-11-28" in page
    )
    assert "Growth: search 0.00; others: scan 0.00." in page.replace("-0.00", "0.00")
    assert "- top costs of search at 4,000: `scan` 75%" in page
    assert "- not measured: absent at 4,000: ImportError: No module named 'absent'" in page
    assert "Repeat: `python -m benchmarks search --again --sizes 400 4000`" in page
    assert "2 cores (any), 8.0 GiB" in page
    assert "- not measured: Loading OpenSearch, `python -m benchmarks load`" in page
    assert (quantity(0.00045, "s"), quantity(123_456_789, "bytes")) == ("450 µs", "123 MB")


def test_a_thousand_searches_are_calculated_from_the_largest_size(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    for size, seconds in ((400, 0.001), (4_000, 0.002)):
        made = Contest(rounds=(1, 1))
        made.ours("hybrid", reading([seconds]), costs=lambda: [], warm=False)
        made.rival("scan", lambda: reading([0.001]), ["hybrid"], warm=False)
        results.replace("search", size, run(made), "2026-11-28 20:00", MACHINE, 0.4)
    row = "| a thousand searches with a text, embedded | search, 4,000 | 2.00 ms | 2.00 seconds |"
    assert row in (tmp_path / "results.md").read_text("utf-8")


def test_results_md_belongs_to_results_json() -> None:
    results = Results()
    assert RESULTS.with_suffix(".md").read_text("utf-8") == render(results)
    names = {room.name for room in ROOMS}
    assert {figure["room"] for figure in results.figures} <= names
    for figure in results.figures:
        assert figure["low"] <= figure["ratio"] <= figure["high"], figure
        assert figure["run"] in results.runs
    text = json.dumps(results.figures + results.missing)
    assert "/home/" not in text
    assert "/tmp/" not in text  # noqa: S108


def test_two_commits_are_compared_by_the_first_rival_that_both_have() -> None:
    def measured(ratio: float, rival: str = "scan") -> dict[str, Any]:
        return {"figures": [{"path": "search", "rival": rival, "ratio": ratio}], "missing": {}}

    assert growth([measured(3.0), measured(2.0)], [measured(1.0), measured(2.0)]) == {"search": [3.0, 1.0]}
    assert growth([measured(3.0)], [measured(1.0, "another")]) == {}
