"""Shortlists of a large release: what they find, and that filters and exclusions hold."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from helpers.six_items import documents, given, meta, popularity

from vlm4rec_search import Query
from vlm4rec_search.common.vectors import Vectors, unit
from vlm4rec_search.indexes.embedded import store as stores
from vlm4rec_search.indexes.embedded.arrays import arrays_folder
from vlm4rec_search.indexes.embedded.backend import EmbeddedBackend
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.embedded.shortlist import Shortlist, distances, sign_bits, try_lengths
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.search.searcher import Searcher

ITEMS, WIDTH, LENGTH = 8_000, 128, 700


def clustered() -> Vectors:
    draw = np.random.default_rng(4)
    centres = draw.standard_normal((40, WIDTH))
    rows = centres[draw.integers(0, 40, ITEMS)] + 0.8 * draw.standard_normal((ITEMS, WIDTH))
    return unit(rows.astype(np.float32))


def test_a_sign_that_differs_counts_as_much_as_its_component() -> None:
    rows = np.array([[0.5, -0.5, 0.1], [-0.5, -0.5, 0.1], [-0.5, 0.5, 0.0]], dtype=np.float32)
    signs = sign_bits([rows[:2], rows[2:]])
    assert signs.shape == (1, 3)
    assert distances(signs, rows[0]).tolist() == [0, 3, 7]  # the weights of the components are 3, 3 and 1


def test_a_shortlist_holds_allowed_documents_only_and_enough_of_them() -> None:
    vectors = clustered()
    listed = Shortlist(sign_bits([vectors]), 300)
    allowed = np.arange(ITEMS) % 3 == 0
    found = listed.documents(vectors[5], allowed, 10)
    assert found is not None
    assert len(found) >= 300
    assert allowed[found].all()
    assert (np.diff(found) > 0).all()


def test_where_fewer_are_allowed_than_listed_all_of_them_are() -> None:
    vectors = clustered()
    allowed = np.zeros(ITEMS, dtype=np.bool_)
    allowed[[3, 77, 4_000]] = True
    found = Shortlist(sign_bits([vectors]), 300).documents(vectors[5], allowed, 10)
    assert found is not None
    assert found.tolist() == [3, 77, 4_000]


def test_deep_queries_and_small_catalogues_are_scanned_whole() -> None:
    vectors = clustered()
    listed = Shortlist(sign_bits([vectors]), 300)
    assert listed.documents(vectors[5], None, 200) is not None
    assert listed.documents(vectors[5], None, 1_000) is None


def test_lengths_that_find_too_few_do_not_pass() -> None:
    draw = np.random.default_rng(1)
    vectors = unit(np.abs(draw.standard_normal((ITEMS, WIDTH))).astype(np.float32))  # one sign says nothing
    vectors[: ITEMS // 2] *= np.where(draw.random((ITEMS // 2, WIDTH)) < 0.5, -1, 1)  # and drawn ones mislead
    assert not try_lengths(
        vectors, sign_bits([vectors]), [unit(draw.standard_normal((5, WIDTH)).astype(np.float32))]
    ).passed
    rows = clustered()
    assert try_lengths(rows, sign_bits([rows]), [rows[:5]]).passed


def _use(path: Path, length: int) -> None:
    """Let a release use shortlists of some length; those of so few vectors with so few signs did not pass the trial."""
    store = Store(path)
    assert store.signs.keys() == {"semantic"}
    assert store.shortlists == {}
    store.close()
    with duckdb.connect(str(path)) as connection:
        ((kind, kept, ten, deep, queries),) = connection.execute("FROM shortlists").fetchall()
        assert (kind, kept, queries) == ("semantic", None, 49)
        assert 0.5 < deep < 0.98
        assert deep < ten <= 1.0
        connection.execute("UPDATE shortlists SET length = ?", [length])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Searcher, Searcher]]:
    """The same catalogue with and without shortlists; shopper u1 has seen the 20 items nearest to the profile."""
    vectors = clustered()
    ids = [f"i{number:04d}" for number in range(ITEMS)]
    frame = pd.DataFrame({"item_id": ids, "title": [f"item {number % 50}" for number in range(ITEMS)]})
    frame = frame.assign(description=None, caption=None, details=None, attributes=None, image=None, available=True)
    frame["category"] = [f"c{number % 5}" for number in range(ITEMS)]
    frame = frame.assign(
        price=np.arange(ITEMS) % 10.0, vector=list(vectors), encoder=f"hashing-{WIDTH}@1", captioner="attributes@1"
    )
    frame["content_hash"] = frame["item_id"]
    nearest = np.argsort(-(vectors @ vectors[9]))[:20]
    person = {"user_id": "u1", "items": 1, "vector": vectors[9], "seen": [ids[number] for number in nearest]}
    lists = ("history", "terms", "interests", "behaviour", "shoppers", "repeats", "categories")
    people = pd.DataFrame([{**person, **{name: [] for name in lists}, "segment": None, "fitted": None}])
    tables = given(frame, people, popularity()[:0])
    folder: Path = tmp_path_factory.mktemp("index")
    name = build_release(folder, tables, meta(f"hashing-{WIDTH}@1", WIDTH), exact_up_to=1_000).release
    path = folder / "releases" / f"{name}.duckdb"
    _use(path, LENGTH)
    exact, listed = Store(path), Store(path)
    exact.shortlists = {}
    with Searcher(EmbeddedBackend(exact)) as one, Searcher(EmbeddedBackend(listed)) as other:
        yield one, other


@pytest.mark.parametrize("filters", [(), ("category=c1",), ("price>=3",)])
def test_answers_are_nearly_those_of_the_scan_and_obey_filters(
    both: tuple[Searcher, Searcher], filters: tuple[str, ...]
) -> None:
    exact, listed = both
    assert isinstance(exact.backend, EmbeddedBackend)
    assert isinstance(listed.backend, EmbeddedBackend)
    assert listed.backend.store.shortlists["semantic"].length == LENGTH
    query = Query(user="u1", mode="semantic", k=50, filters=filters)
    wanted, found = ({hit.item_id: hit.score for hit in index.search(query).hits} for index in both)
    assert len(wanted) == len(found) == 50
    common = wanted.keys() & found.keys()
    assert len(common) >= 45
    assert [found[item] for item in common] == [wanted[item] for item in common]
    user = exact.backend.user("u1")
    assert user is not None
    assert not found.keys() & set(user.seen)
    for hit in listed.search(query).hits:
        assert filters != ("category=c1",) or hit.category == "c1"
        assert filters != ("price>=3",) or (hit.price or 0.0) >= 3.0


def test_a_large_release_is_mapped_and_gives_the_same_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_release(tmp_path, given(documents()), meta())
    (path,) = (tmp_path / "releases").glob("*.duckdb")
    alone = Store(path)
    monkeypatch.setattr(stores, "MAPPED_FROM", 1)
    mapped = Store(path)
    assert (alone.vectors == mapped.vectors).all()
    assert (alone.is_fitted == mapped.is_fitted).all()
    assert alone.records(np.arange(6)) == mapped.records(np.arange(6))
    assert list(path.parent.glob("*.arrays-*/records.npy"))
    for each in (alone, mapped):
        each.close()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("vectors", "missing"),
        ("vectors", "short"),
        ("records", "zeros"),
        ("terms", "short"),
        ("postings.indptr", "zeros"),
        ("ease.data", "short"),
    ],
)
def test_damaged_arrays_are_read_from_the_release_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    build_release(tmp_path, given(documents()), meta())
    (path,) = (tmp_path / "releases").glob("*.duckdb")
    monkeypatch.setattr(stores, "MAPPED_FROM", 1)
    Store(path).close()
    array = arrays_folder(path) / f"{name}.npy"
    if damage == "missing":
        array.unlink()
    else:
        np.save(array, np.load(array)[:1] if damage == "short" else np.zeros_like(np.load(array)))
    with closing(Store(path)) as store:
        assert store.vectors.shape == (6, 4)
        assert [record["item_id"] for record in store.records(np.arange(6))] == list("abcdef")
        assert store.ease.nnz == 4
    assert "each process holds its own copy of the release" in caplog.text
    assert ("has no array" in caplog.text) == (damage == "missing")


@pytest.mark.parametrize("batch", [1, 4])
def test_a_release_that_is_read_in_ranges_gives_the_same_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    build_release(tmp_path, given(documents()), meta())
    (path,) = (tmp_path / "releases").glob("*.duckdb")
    whole = Store(path)
    monkeypatch.setattr(stores, "_BATCH", batch)
    ranged = Store(path)
    assert whole.neighbours.nnz == 4
    for name in ("neighbours", "ease"):
        one, other = getattr(whole, name), getattr(ranged, name)
        for part in ("data", "indices", "indptr"):
            assert getattr(one, part).tolist() == getattr(other, part).tolist()
    assert (whole.vectors == ranged.vectors).all()
    assert (whole.fitted == ranged.fitted).all()
    for each in (whole, ranged):
        each.close()


def test_arrays_whose_release_was_never_finished_are_removed(tmp_path: Path) -> None:
    left = tmp_path / "releases" / "items__v8__gone__1.arrays-3"
    left.mkdir(parents=True)
    (left / "vectors.npy").write_bytes(b"1")
    build_release(tmp_path, given(documents()), meta())
    assert not left.exists()
