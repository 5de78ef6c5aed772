"""Judgments of people: the file, what half a line costs, and how rankings are measured by them."""

import csv
import json
from dataclasses import astuple
from math import log2
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner, Result
from helpers.six_items import RANKING, publish

from vlm4rec_search import Query, open_index
from vlm4rec_search.cli import main
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import settings
from vlm4rec_search.datasets.judgments import Judgment, Judgments, read_judgments
from vlm4rec_search.evaluation.judged import METRICS, evaluate_judged
from vlm4rec_search.search.ranking import load_ranking, write_ranking


def judgment(item: str, value: int = 1) -> Judgment:
    return Judgment("ü,1", 'red\n"lamp"', item, value, "2026-11-28T12:00:00+00:00", "r", "k")


def test_judgments_are_appended_by_several_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "judgments.csv"

    def write(name: str) -> None:
        own = Judgments(path)
        for number in range(20):
            own.add(judgment(f"{name}{number}"))

    threads = [Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["item_id"] for row in rows) == sorted(f"{name}{number}" for name in "abc" for number in range(20))
    assert {tuple(row.values())[:2] for row in rows} == {astuple(judgment("a"))[:2]}


def test_the_latest_judgment_counts_and_half_a_line_harms_no_other(tmp_path: Path) -> None:
    judgments = Judgments(tmp_path / "judgments.csv")
    assert judgments.latest("ü,1", 'red\n"lamp"') == {}
    judgments.add(judgment("a"))
    with judgments.path.open("a") as file:
        file.write("half a")
    judgments.add(judgment("b"))
    judgments.add(judgment("a", 0))
    assert judgments.latest("ü,1", 'red\n"lamp"') == {"a": 0, "b": 1}
    assert judgments.latest("another", "") == {}


def test_a_torn_quote_hides_no_judgment_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    judgments = Judgments(tmp_path / "judgments.csv")
    judgments.add(judgment("a"))
    with judgments.path.open("a") as file:
        file.write('u1,"half a te')
    judgments.add(judgment("b"))
    judgments.add(judgment("c"))
    assert judgments.latest("ü,1", 'red\n"lamp"') == {"a": 1, "b": 1, "c": 1}
    assert judgments.read().unread == (4,)  # a judgment has two lines, because of its query
    told = f"no judgment can be read in line 4 of {judgments.path}"
    assert [record.message for record in caplog.records] == [told]
    assert 'u1,"half a te' in judgments.path.read_text()


@pytest.mark.parametrize(
    ("text", "latest", "unread"),
    [
        ("", {}, ()),
        ("user_id,item_id,judgment\nu1,a,3\nu1,b,x\n\nu1,,1\nu1,c\n", {("u1", "", "a"): 3}, (3, 5, 6)),
        ("query,item_id,judgment\nlamp,a,0\nlamp,a,1\n", {("", "lamp", "a"): 1}, ()),
        ("user_id,que\nu1,,a,1,2026-11-28,r,k\n", {("u1", "", "a"): 1}, (1,)),
        ("a;b\n1;2\n", {}, (1, 2)),
    ],
)
def test_other_files_of_judgments(
    tmp_path: Path, text: str, latest: dict[tuple[str, str, str], int], unread: tuple[int, ...]
) -> None:
    (tmp_path / "judgments.csv").write_text(text)
    found = read_judgments(tmp_path / "judgments.csv")
    assert (found.latest, found.unread) == (latest, unread)


def test_rankings_are_measured_by_judgments(tmp_path: Path) -> None:
    publish(tmp_path / "index")
    own = load_ranking(RANKING)
    popular = own.model_copy(update={"version": "popular", "fallback_chain": ("popularity",)})
    with open_index(str(tmp_path / "index"), ranking=own) as index:
        first, _, third, *_ = [hit.item_id for hit in index.search(Query(user="u1")).hits]
        index.ranking = popular
        other = [hit.item_id for hit in index.search(Query(user="u1")).hits]
        judged = {("u1", "", first): 0, ("u1", "", third): 1, ("u2", "", "f"): 0, ("", "", "a"): 1}
        found = evaluate_judged(index, {"live": own, "popular": popular}, judged)
    assert (found.judgments, found.queries, found.left_out.without_subject) == (3, 2, 1)
    rows = {(row.ranking, row.metric): row for row in found.rows}
    assert {row.metric for row in found.rows} == set(METRICS)
    assert rows["live", "nDCG@10"].value == pytest.approx(1 / log2(3 + 1))  # u2 has nothing to find
    assert rows["live", "nDCG@10, judged only"].value == pytest.approx(1 / log2(2 + 1))
    assert [rows["live", name].queries for name in METRICS] == [1, 1, 2, 2]
    assert rows["live", "P@10"].value == pytest.approx((0.1 + 0.0) / 2)
    assert rows["popular", "nDCG@10"].value == pytest.approx(1 / log2(other.index(third) + 2))
    (difference,) = found.differences
    assert difference.difference == pytest.approx(1 / log2(4) - 1 / log2(other.index(third) + 2))
    assert 0.0 < (rows["live", "Judged@10"].value or 0.0) < 1.0


def test_judgments_without_relevant_items_have_no_ndcg(tmp_path: Path) -> None:
    publish(tmp_path / "index")
    with open_index(str(tmp_path / "index"), ranking=RANKING) as index:
        found = evaluate_judged(index, {"live": index.ranking}, {("u1", "", "e"): 0, ("u2", "", "f"): 0})
        with pytest.raises(UsageError, match=r"there is nothing to measure: .*1 without shopper and text"):
            evaluate_judged(index, {"live": index.ranking}, {("", "", "e"): 1})
    assert [row.value is None for row in found.rows] == [True, True, False, False]
    assert found.differences == ()


def test_an_empty_list_counts_as_0(tmp_path: Path) -> None:
    publish(tmp_path / "index")
    strict = load_ranking(RANKING).model_copy(update={"min_score": 1_000.0})
    with open_index(str(tmp_path / "index"), ranking=strict) as index:
        assert not index.search(Query(user="u1")).hits
        found = evaluate_judged(index, {"live": strict}, {("u1", "", "b"): 1})
        both = evaluate_judged(index, {"live": strict}, {("u1", "", "b"): 1, ("new", "", "b"): 1})
    assert [(row.metric, row.value, row.queries) for row in found.rows] == [(metric, 0.0, 1) for metric in METRICS]
    values = {row.metric: row.value for row in both.rows}
    assert values["P@10"] == pytest.approx((0.0 + 0.1) / 2)


def test_what_no_answer_can_show_is_no_miss_and_is_counted(tmp_path: Path) -> None:
    publish(tmp_path / "index")
    own = load_ranking(RANKING)
    again = own.model_copy(update={"buy_again": 1.0})
    plain = {("u1", "", "b"): 1, ("u2", "", "f"): 0}
    # u1 has a and d, of which d may be bought again; g is in no release; u2 has c.
    beside = {("u1", "", "a"): 1, ("u1", "", "d"): 1, ("u1", "", "g"): 1, ("u2", "lamp", "c"): 1}
    with open_index(str(tmp_path / "index"), ranking=own) as index:
        alone = evaluate_judged(index, {"live": own}, plain)
        found = evaluate_judged(index, {"live": own}, {**plain, **beside})
        both = evaluate_judged(index, {"live": own, "again": again}, {**plain, **beside})
        with pytest.raises(UsageError, match="left out: 1 of items that the shopper has, 1 of items that the release"):
            evaluate_judged(index, {"live": own}, {("u1", "", "a"): 1, ("u1", "", "g"): 1})
    assert found.rows == alone.rows
    assert (found.judgments, found.left_out.owned, found.left_out.missing) == (2, 3, 1)
    assert list(found.left_out.describe()) == [
        "judgments left out: 3 of items that the shopper has, 1 of items that the release lacks"
    ]
    assert (both.judgments, both.left_out.owned) == (3, 2), "d is what one of the rankings shows"


def test_a_query_that_nobody_can_ask_costs_no_other_one(tmp_path: Path) -> None:
    publish(tmp_path / "index")
    plain = {("u1", "", "b"): 1}
    long = "x" * 10_001
    with open_index(str(tmp_path / "index"), ranking=RANKING) as index:
        alone = evaluate_judged(index, {"live": index.ranking}, plain)
        given = {**plain, ("", "  ", "b"): 1, ("u1", long, "b"): 1, ("u1", long, "c"): 0}
        found = evaluate_judged(index, {"live": index.ranking}, given)
    assert found.rows == alone.rows
    assert [(each.text, each.judgments) for each in found.left_out.unasked] == [("  ", 1), (long, 2)]
    told, blank, too_long = found.left_out.describe()
    assert told == "judgments left out: 3 of queries that cannot be asked"
    assert blank == "cannot be asked: text '  ': the text is empty"
    assert too_long.endswith("xxx ...': the text has 10,001 characters: use at most 10,000")


def evaluate(*options: str) -> Result:
    return CliRunner().invoke(main, ["evaluate", *options], catch_exceptions=False)


def test_the_command_measures_what_the_page_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "index")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLM4REC_RANKING", str(RANKING))
    monkeypatch.setenv("VLM4REC_ENCODER", "hashing-4")
    monkeypatch.setenv("COLUMNS", "120")
    settings.cache_clear()
    nothing = evaluate("--judgments")
    assert nothing.exit_code == 2
    assert "served/judgments.csv has none" in nothing.output
    assert evaluate("--judgments", "nope.csv").output == "Error: there is no file nope.csv\n"
    judgments = Judgments(settings().judgments_file)
    judgments.add(Judgment("u1", "", "b", 1, "2026-11-28T12:00:00+00:00", "r", "k"))
    with judgments.path.open("a") as file:
        file.write('u1,"half\n,  ,b,1,,,\n')
    write_ranking(load_ranking(RANKING).model_copy(update={"version": "other-1"}), tmp_path / "other.yaml")
    shown = evaluate("--judgments", "--ranking", "other=other.yaml")
    assert shown.exit_code == 0, shown.output
    assert "live (test-1)" in shown.output
    assert "other (other-1)" in shown.output
    assert "nDCG@10 of live minus other: +0.0000" in shown.output
    assert "no judgment can be read in line 3 of served/judgments.csv" in shown.output
    assert "cannot be asked: text '  ': the text is empty" in shown.output
    found = json.loads(evaluate("--judgments", "served/judgments.csv", "--json").stdout)
    assert (found["judgments"], found["unread_lines"], len(found["rows"])) == (1, [3], len(METRICS))
    of_a_split = ("--users", "5", "--repeat", "--protocol", "time", "--seed", "7", "--systems", "bm25")
    ignored = evaluate("--judgments", *of_a_split)
    assert (ignored.exit_code, ignored.output) == (
        2,
        "Error: --judgments measures the live release by judgments alone: leave out --protocol, --systems, --repeat,"
        " --users, --seed\n",
    )
    assert "leave out --candidates" in evaluate("--judgments", "--candidates", "known").output
    missing = evaluate("--judgments", "--ranking", "x=nope.yaml").output
    assert missing == "Error: cannot read the ranking configuration nope.yaml (No such file or directory)\n"
    assert evaluate("--ranking", "other=other.yaml").exit_code == 2
