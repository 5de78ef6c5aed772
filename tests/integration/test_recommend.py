"""`vlm4rec recommend` on both backends: the file holds what single searches answer."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from helpers.backends import Backend, Embedded, Server
from helpers.search_tables import made, shop_tables

from vlm4rec_search import Answer, Query
from vlm4rec_search.cli import main
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import settings
from vlm4rec_search.indexes.many import answer_groups
from vlm4rec_search.pipeline.recommendations import all_users, write_recommendations
from vlm4rec_search.search.ranking import load_ranking
from vlm4rec_search.search.rules import Rule

SOME = ("u00", "u07", "u39", "s00", "nobody")


@pytest.fixture
def here(backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """A folder whose settings name the backend, with a published shop."""
    backend.publish(shop_tables(), made())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLM4REC_INDEX_URL", backend.releases.url)
    monkeypatch.setenv("VLM4REC_ENCODER", "hashing-64")
    if isinstance(backend, Server):
        monkeypatch.setenv("VLM4REC_INDEX_PREFIX", backend.prefix)
    settings.cache_clear()
    return backend


def recommend(*options: str) -> dict[str, object]:
    result = CliRunner().invoke(main, ["recommend", "--json", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_every_shopper_is_written(here: Backend, tmp_path: Path) -> None:
    summary = recommend("--all", "-k", "3")
    table = pq.read_table(tmp_path / "recommendations.parquet")
    people = all_users(here.releases, here.releases.find(None))
    assert table["user_id"].unique().to_pylist() == people
    assert (summary["users"], summary["rows"]) == (len(people), table.num_rows)
    assert set(table["release"].to_pylist()) == {here.releases.live()}


def test_some_shoppers_get_what_a_search_answers(here: Backend, tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_text("\n".join(SOME))
    recommend("--users", "some.txt", "--to", "some.parquet", "--filter", "price=..80")
    rows = pq.read_table(tmp_path / "some.parquet").to_pylist()
    assert list(dict.fromkeys(row["user_id"] for row in rows)) == list(SOME)
    with here.open() as index:
        for user in SOME:
            answer = index.search(Query(user=user, filters=["price=..80"], explain=True))
            told = [hit.explanation for hit in answer.hits if hit.explanation]
            reasons = [each.reasons[0].clause if each.reasons else each.sentence for each in told]
            of_user = [row for row in rows if row["user_id"] == user]
            assert [row["item_id"] for row in of_user] == [hit.item_id for hit in answer.hits]
            assert [row["score"] for row in of_user] == [hit.score for hit in answer.hits]
            assert [row["reason"] for row in of_user] == reasons
            assert {row["tier"] for row in of_user} == {answer.tier}


def leave(answers: Iterable[Answer]) -> int:
    """End a process as the kernel does where memory is short."""
    os._exit(9)


def test_two_processes_write_what_one_writes(
    embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlm4rec_search.pipeline.recommendations.GROUP", 10)
    name = embedded.publish(shop_tables(), made())
    queries = [Query(user=user, k=4, explain=True) for user in all_users(embedded.releases, name)]
    ranking = load_ranking().model_copy(update={"version": "mean-1", "profile": "mean"})
    with embedded.releases.open(name, ranking, [Rule(action="pin", items=("i001",), reason="new")]) as index:
        one, two = (
            write_recommendations(index, queries, tmp_path / f"{number}.parquet", processes=number) for number in (1, 2)
        )
        assert pq.read_table(one.path).equals(pq.read_table(two.path))
        assert (one.tiers, one.empty, one.rows, two.ranking) == (two.tiers, two.empty, two.rows, "mean-1")
        with pytest.raises(RunError, match="run again with --processes 1"):
            list(answer_groups(index, [queries[:2], queries[2:4]], leave, 2))


def test_for_whom_has_to_be_said(tmp_path: Path) -> None:
    for options in ([], ["--all", "--users", "some.txt"]):
        result = CliRunner().invoke(main, ["recommend", *options])
        assert (result.exit_code, "--all" in result.output) == (2, True)
