"""`vlm4rec recommend`: what stands in the file is what single searches answer."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.search_tables import SHOPPERS, made, shop, tables

from vlm4rec_search import Query
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.indexes.embedded.followed import FollowedFolder
from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases
from vlm4rec_search.indexes.many import answer_many
from vlm4rec_search.pipeline.recommendations import SCHEMA, all_users, read_users, write_recommendations
from vlm4rec_search.search.backend import AccessError, Reader, SentRequest, UnavailableError
from vlm4rec_search.search.ranking import load_ranking
from vlm4rec_search.search.rules import Rule
from vlm4rec_search.search.searcher import Searcher


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedReleases:
    found = EmbeddedReleases(tmp_path_factory.mktemp("index"))
    found.publish(tables(shop()), made(), False, False)
    return found


@pytest.fixture(scope="module")
def index(releases: EmbeddedReleases) -> Iterator[Searcher]:
    with releases.open(releases.find(None)) as opened:
        yield opened


def test_all_shoppers_get_what_single_searches_answer(index: Searcher, releases: EmbeddedReleases) -> None:
    people = [*all_users(releases, index.release.name), "nobody"]
    assert len(people) == SHOPPERS + 4
    queries = [Query(user=user, k=7, explain=place % 4 > 0) for place, user in enumerate(people)]
    ranking = load_ranking()
    for profile in ("interests", "mean"):
        index.ranking = ranking.model_copy(update={"profile": profile})
        for query, answer in zip(queries, answer_many(index, queries), strict=True):
            alone = index.search(query)
            assert (answer.user, answer.tier, answer.ranking) == (alone.user, alone.tier, alone.ranking)
            assert answer.hits == alone.hits, query.user
    index.ranking = None


def test_a_field_that_no_item_has_is_refused_as_in_a_search(index: Searcher) -> None:
    for query in (Query(user="u01", collapse="colours"), Query(user="u01", count=["colours"])):
        for answer in (index.search, lambda query: next(answer_many(index, [query]))):
            with pytest.raises(UsageError, match="no item has the field 'colours'"):
                answer(query)


class Forgetful(FollowedFolder):
    """Leaves every other request without an answer, as a busy server does."""

    asked = 0

    def reader(self, sent: list[SentRequest] | None = None) -> Reader:
        self.asked += 1
        if self.asked % 2:
            raise UnavailableError("busy")
        return super().reader(sent)


def test_a_search_that_a_server_leaves_unanswered_is_asked_again(
    index: Searcher, releases: EmbeddedReleases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlm4rec_search.indexes.many.WORKERS", 1)
    queries = [Query(user=user, k=3) for user in all_users(releases, index.release.name)][:3]
    backend = Forgetful(releases.folder)
    with Searcher(backend, None) as busy:
        answers = list(answer_many(busy, queries))
    assert [answer.hits for answer in answers] == [index.search(query).hits for query in queries]
    assert backend.asked == 2 * len(queries)


def test_a_server_that_refuses_access_ends_a_batch_at_once(
    index: Searcher, releases: EmbeddedReleases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlm4rec_search.indexes.many.WORKERS", 1)
    queries = [Query(user=user, k=3) for user in all_users(releases, index.release.name)][:3]
    backend, asked = FollowedFolder(releases.folder), []

    def refuse(user_id: str, *, interests: bool = False) -> None:
        asked.append(user_id)
        raise AccessError("check VLM4REC_INDEX_USER")

    monkeypatch.setattr(backend.opened, "user", refuse)
    with Searcher(backend, None) as refused, pytest.raises(AccessError, match="VLM4REC_INDEX_USER"):
        write_recommendations(refused, queries, tmp_path / "recommendations.parquet")
    assert (asked, list(tmp_path.iterdir())) == ([queries[0].user], [])


def test_the_file_has_a_row_for_each_hit(index: Searcher, releases: EmbeddedReleases, tmp_path: Path) -> None:
    queries = [Query(user=user, k=3, explain=True) for user in all_users(releases, index.release.name)]
    item = index.search(Query(user="nobody")).hits[-1].item_id
    index.rules = [Rule(action="pin", items=(item,), reason="new")]
    batch = write_recommendations(index, queries, tmp_path / "new" / "recommendations.parquet")
    index.rules = ()
    table = pq.read_table(batch.path)
    assert table.schema.equals(SCHEMA)
    assert (batch.users, batch.rows, batch.empty) == (len(queries), table.num_rows, 0)
    assert sum(batch.tiers.values()) == len(queries)
    assert {"profile"} < set(batch.tiers)
    rows = table.to_pylist()
    assert [(row["user_id"], row["rank"]) for row in rows] == [(q.user, rank) for q in queries for rank in (1, 2, 3)]
    assert all(row["reason"] and row["release"] == index.release.name for row in rows)
    reasons = {row["reason"] for row in rows if row["item_id"] == item and row["rank"] == 1}
    assert reasons == {"It is pinned by a rule (new)."}


def test_an_interrupted_file_leaves_the_old_one(index: Searcher, tmp_path: Path) -> None:
    path = tmp_path / "recommendations.parquet"
    path.write_text("old")
    queries = [Query(user="u00", explain=True), Query(user="u01", filters=["no_such_field=1"], explain=True)]
    with pytest.raises(UsageError, match="no_such_field"):
        write_recommendations(index, queries, path)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["recommendations.parquet"]


def test_a_name_by_which_no_forgetting_finds_the_file_is_refused(index: Searcher, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mails: the name of the file has to end with \.parquet$"):
        write_recommendations(index, [], tmp_path / "mails")
    assert write_recommendations(index, [], tmp_path / "MAILS.PARQUET").rows == 0


def test_ids_of_a_file_are_read_once_in_order(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("u2\n\n u1 \nu2\n\uff55\uff12\nu1\u200b\n\u200b\n", "utf-8")
    assert read_users(path) == ["u2", "u1"], "the third u2 has full-width signs"
    path.write_text("\n")
    with pytest.raises(UsageError, match="one a line"):
        read_users(path)
    with pytest.raises(UsageError, match=r"in nope \(No such file or directory\)$"):
        read_users(Path("nope"))
