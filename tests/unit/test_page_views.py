"""What the page is made of, without a service: addresses, parts of a score, diffs, thumbnails."""

import hashlib
from contextlib import closing
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from helpers.six_items import RANKING, publish
from PIL import Image

from vlm4rec_search import open_index
from vlm4rec_search.common.cache import RAW, Cache
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.photos.decode import PhotoError
from vlm4rec_search.datasets.photos.fetch import photo_key
from vlm4rec_search.search.backend import Reader
from vlm4rec_search.search.query import Answer, Explanation, Hit, Origin, Query, RetrieverPart
from vlm4rec_search.serve.thumbnails import Thumbnails
from vlm4rec_search.serve.views import State, diff_lines, legend, make_cards, visit_address


class NoDocuments(Reader):
    """A reader of a release without documents."""

    release = fields = user = items = neighbours = popular = retrieve = values = None  # type: ignore[assignment]

    def documents(self, item_ids: object) -> dict[str, object]:  # type: ignore[override]
        return {}


def test_an_address_holds_the_state() -> None:
    state = State([("user", " ü/1 "), ("text", ""), ("filter", "a=1"), ("filter", "a=1"), ("other", "x"), ("k", "5")])
    assert state.address() == "/look?user=%C3%BC%2F1&k=5&filter=a%3D1"
    assert state.address(k=None) == "/look?user=%C3%BC%2F1&filter=a%3D1"
    assert state.with_filter("b>2").endswith("filter=a%3D1&filter=b%3E2")
    assert state.without_filter("a=1") == "/look?user=%C3%BC%2F1&k=5"
    assert state.options()["filters"] == ["a=1"]
    assert not state.has_other_side


def test_the_other_side_differs_in_what_is_named() -> None:
    state = State([("user", "u"), ("mode", "semantic"), ("ranking", "one"), ("ranking_b", "two"), ("w_lexical", "2")])
    other = state.options(is_other=True)
    assert (other["mode"], other["ranking"], other["weights"]) == ("semantic", "two", {"lexical": 2.0})


@pytest.mark.parametrize("item", ["a", "Q,1", '"5" pipe', "ü & b"])
def test_a_visit_begins_with_the_item_of_its_address(item: str) -> None:
    assert State(parse_qsl(visit_address(item).partition("?")[2])).options()["items"] == [item]


def test_the_items_of_a_visit_are_a_record_of_csv() -> None:
    assert State([("items", ' a , "Q,1",b  c,,')]).options()["items"] == ["a", "Q,1", "b c"]


def test_an_address_has_bounds() -> None:
    with pytest.raises(UsageError, match="more than 1,000 characters"):
        State([("text", "x" * 1_001)])
    with pytest.raises(UsageError, match="at most 20"):
        State([("filter", f"a={number}") for number in range(21)])
    with pytest.raises(UsageError, match="k: "):
        State([("user", "u"), ("k", "many")]).options()


def test_the_parts_of_a_card_add_up_to_its_score() -> None:
    legs = (
        RetrieverPart("profile", "semantic", 0.5, 1, 0.2, 0.25),
        RetrieverPart("words", "lexical", 3.0, None, 0.6, 0.75),
        RetrieverPart("ease", "ease", 0.0, None, 0.0, 0.0),
    )
    other = (RetrieverPart("profile", "semantic", 1, 1, 0.5, 1.0),)
    hits = (
        Hit(1, "a", 1.0, "A", explanation=Explanation(sentence="", legs=legs, boosted=0.2)),
        Hit(2, "b", 0.5, "B", explanation=Explanation(sentence="", legs=other)),
    )
    answer = Answer("u", "hybrid", "profile", "r", 1.0, hits)
    first, second = make_cards(answer, NoDocuments(), Answer("u", "hybrid", "profile", "r", 1.0, hits[1:]), {"b": 0})
    assert [(part.kind, part.left, part.width) for part in first.parts] == [
        ("lexical", 0.0, 60.0),
        ("semantic", 60.0, 20.0),
        ("boost", 80.0, 20.0),
    ]
    assert sum(part.contribution for part in first.parts) == pytest.approx(first.hit.score)
    assert sum(part.share for part in first.parts) == pytest.approx(1.0)
    assert (second.parts[0].width, second.judgment, first.other_rank) == (50.0, 0, None)
    assert legend([first, second])[0] == ("lexical", "shared words")


def test_the_bar_of_a_lowered_hit_is_as_long_as_its_score() -> None:
    legs = (
        RetrieverPart("profile", "semantic", 1.0, 1, 1.2, 0.6),
        RetrieverPart("words", "lexical", 1.0, 1, 0.8, 0.4),
    )
    lowered = Explanation(sentence="", legs=legs, boosted=-1.5)
    answer = Answer(
        *("u", "hybrid", "profile", "r", 1.0),
        (Hit(1, "a", 1.0, "A", explanation=None), Hit(2, "b", 0.5, "B", explanation=lowered)),
    )
    _, second = make_cards(answer, NoDocuments())
    assert [(part.kind, part.contribution) for part in second.parts][-1] == ("boost", -1.5)
    assert [round(part.width, 9) for part in second.parts] == [30.0, 20.0, 0.0]


def test_parts_of_the_visit_are_named_beside_those_of_the_profile() -> None:
    of_both: list[tuple[Origin, tuple[str, ...]]] = [
        ("profile", ("profile", "words", "co-purchase")),
        ("session", ("session", "words", "co-purchase")),
    ]
    legs = [RetrieverPart(name, name, 1.0, 1, 0.1, 0.1, origin) for origin, names in of_both for name in names]
    legs.append(RetrieverPart("popularity", "popularity", 1.0, 1, 0.1, 0.1))
    answer = Answer(
        "u",
        "hybrid",
        "profile",
        "r",
        1.0,
        (Hit(1, "a", 0.7, "A", explanation=Explanation(sentence="", legs=tuple(legs))),),
    )
    (card,) = make_cards(answer, NoDocuments())
    assert [part.name for part in card.parts] == [
        "taste of the history",
        "shared words",
        "chosen together",
        "likeness to this visit",
        "words shared with this visit",
        "chosen together with this visit",
        "popular",
    ]


def test_words_of_a_visit_are_named_so_where_the_profile_has_none(tmp_path: Path) -> None:
    publish(tmp_path)
    with open_index(str(tmp_path), ranking=RANKING) as index:
        answer = index.search(Query(user="u2", items=["a"], explain=True))
        names = {part.name for card in make_cards(answer, index.backend.reader()) for part in card.parts}
    assert {"taste of the history", "likeness to this visit", "words shared with this visit"} <= names
    assert "shared words" not in names


def test_a_diff_shows_what_leaves_and_what_comes() -> None:
    assert diff_lines("a\nb\n", "a\nc\n")[1:] == [("same", " a"), ("remove", "-b"), ("add", "+c")]
    assert diff_lines("a", "a\n") == []


def test_thumbnails_are_small_and_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    Image.new("RGB", (800, 400), "red").save(tmp_path / "data" / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    thumbnails = Thumbnails(tmp_path / "data", tmp_path / "cache")
    with Image.open(BytesIO(thumbnails.thumbnail("a.png", 160))) as small:
        assert (small.format, small.size) == ("WEBP", (160, 80))
    Image.new("RGB", (400, 800), "blue").save(tmp_path / "data" / "a.png")
    with Image.open(BytesIO(thumbnails.thumbnail("a.png", 160))) as replaced:
        assert replaced.size == (80, 160)
    for image, status in (("../b.png", "outside"), ("https://shop.example/a.png", "pending"), (None, "no_photo")):
        with pytest.raises(PhotoError) as failed:
            thumbnails.thumbnail(image, 160)
        assert failed.value.status == status
    assert not (tmp_path / "cache").exists()


def test_a_fetched_photo_is_shown_from_the_cache(tmp_path: Path) -> None:
    content = BytesIO()
    Image.new("RGB", (300, 600), "blue").save(content, "PNG")
    digest, url = hashlib.sha256(content.getvalue()).digest(), "https://shop.example/a.png"
    file = tmp_path / "photos" / digest.hex()[:2] / digest.hex()
    file.parent.mkdir(parents=True)
    file.write_bytes(content.getvalue())
    with closing(Cache(tmp_path)) as cache:
        cache.get_or_compute("photo", "http", {photo_key(url): url}, lambda batch: [digest], RAW)
    thumbnails = Thumbnails(tmp_path, tmp_path)
    with Image.open(BytesIO(thumbnails.thumbnail("//shop.example/a.png", 400))) as small:
        assert small.size == (200, 400)
    file.unlink()
    with pytest.raises(PhotoError, match="No such file"):
        thumbnails.thumbnail("//shop.example/a.png", 400)
