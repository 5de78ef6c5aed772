"""More like an item: what the command asks, and what is said where nothing is known of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.six_items import RANKING, documents, given, meta, popularity

from vlm4rec_search import Query, open_index
from vlm4rec_search.cli import main
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.search.searcher import Searcher


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_release(tmp_path, given(documents(), None, popularity().assign(shoppers=[100, 90, 8, 1])), meta())
    return tmp_path


@pytest.fixture
def index(folder: Path) -> Iterator[Searcher]:
    with open_index(str(folder), ranking=RANKING) as opened:
        yield opened


@pytest.mark.usefixtures("hashing_encoder")
def test_popularity_counts_where_it_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = folder / "rules.yaml"
    rules.write_text("scenarios: {plain: {}, loud: {weights: {popularity: 1}}}")
    monkeypatch.setenv("VLM4REC_RULES", str(rules))

    def names(*more: str) -> set[str]:
        asked = ["similar", "--item", "a", "--index", str(folder), "--explain", "--json", *more]
        found = CliRunner().invoke(main, asked)
        return {leg["name"] for leg in json.loads(found.stdout)["hits"][0]["explanation"]["legs"]}

    without = names()
    assert names("--scenario", "plain") == names("--scenario", "loud", "--weight", "semantic=1") == without
    assert names("--weight", "popularity=1") == names("--scenario", "loud") == without | {"popularity"}


@pytest.mark.usefixtures("hashing_encoder")
def test_a_pin_is_not_like_an_item(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = folder / "rules.yaml"
    rules.write_text(
        "scenarios: {shelf: {}}\nrules:\n- {action: pin, items: [f]}\n"
        "- {action: pin, items: [e], when: {scenario: shelf}}"
    )
    monkeypatch.setenv("VLM4REC_RULES", str(rules))

    def first(command: str, option: str, *more: str) -> str:
        found = CliRunner().invoke(main, [command, option, "a", "--index", str(folder), "--json", *more])
        return str(json.loads(found.stdout)["hits"][0]["item_id"])

    assert first("search", "--items") == "f"
    assert first("similar", "--item") == "b"
    assert first("similar", "--item", "--scenario", "shelf") == "e"


def test_an_item_that_nobody_bought_with_another_is_told(index: Searcher) -> None:
    answer = index.search(Query(items=["f"], mode="behaviour"))
    assert answer.tier == "popularity"
    assert (
        answer.note
        == "a behaviour search finds nothing for these items, so the answer is what is popular with all shoppers"
    )
    assert index.search(Query(items=["a"], mode="behaviour")).note is None
    assert index.search(Query(items=["a"], text="lamp", mode="lexical")).note is None


def test_recent_shoppers_are_counted_without_the_older_ones(index: Searcher) -> None:
    hits = index.search(Query(user="nobody", k=2, explain=True)).hits
    # b has 7 recent ones and 90 / 101 of one for all that it ever had
    assert hits[0].score == pytest.approx(7 + 90 / 101, abs=1e-5)
    reason = hits[0].explanation
    assert reason is not None
    assert reason.sentence == "It is popular (7 shoppers first chose it in the last 30 days)."


def test_an_item_of_history_and_session_is_told_once(index: Searcher) -> None:
    reason = index.search(Query(user="u1", items=["a"], mode="behaviour", k=1, explain=True)).hits[0].explanation
    assert reason is not None
    # of b: a weighs 1 in the history and 1 in the session, each with a similarity of 0.5
    assert [(part.item_id, part.share) for part in reason.bought_with] == [("a", 1.0)]
    assert reason.bought_rest == 0.0
