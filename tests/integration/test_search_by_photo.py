"""Search by photo on both backends and over HTTP: what looks like a photo, by its bytes or by the item that has it."""

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import httpx
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from helpers.backends import Backend, Embedded, Server
from helpers.http_service import serving
from helpers.six_items import ENCODER, FIT, RANKING, documents, given, meta
from helpers.workspace import ROOT
from PIL import Image

from vlm4rec_search import Query
from vlm4rec_search.cli.search import search
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.datasets.photos.decode import MAX_PIXELS
from vlm4rec_search.embeddings.encoders import encode_photo
from vlm4rec_search.embeddings.image import EFFICIENTNET
from vlm4rec_search.embeddings.tables import embed_photos
from vlm4rec_search.indexes.embedded.pointer import current_release
from vlm4rec_search.indexes.embedded.publish import build_release
from vlm4rec_search.indexes.embedded.store import Store
from vlm4rec_search.indexes.opensearch.documents import check_compatible
from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases
from vlm4rec_search.indexes.release import new_release
from vlm4rec_search.indexes.search_layer import Frame, SearchTables, read_search_layer
from vlm4rec_search.search.query import LARGEST_PHOTO
from vlm4rec_search.search.release import ReleaseMeta
from vlm4rec_search.search.searcher import Searcher
from vlm4rec_search.serve.page import uploaded
from vlm4rec_search.serve.service import Service

WITH_PHOTO = "abcd"  # e has a file that is no photo, f has none


def write_photos(folder: Path) -> dict[str, str | None]:
    """Write stripes on transparent ground, wider ones, some that EXIF turns, and a gradient; return the files."""
    rows = np.arange(240)[:, None] * np.ones((1, 160))
    stripes = np.where((rows // 12) % 2 == 0, 255, 0).astype(np.uint8)
    Image.merge("RGBA", [Image.fromarray(each) for each in (stripes, stripes // 3, 255 - stripes, stripes)]).save(
        folder / "a.png"
    )
    Image.fromarray(np.where((rows // 14) % 2 == 0, 250, 10).astype(np.uint8)).save(folder / "b.jpg", quality=90)
    turned = Image.fromarray(np.where((rows // 12) % 2 == 0, 200, 90).astype(np.uint8)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "c.jpg", exif=exif, quality=90)
    Image.fromarray((rows + np.arange(160)[None] / 2).clip(0, 255).astype(np.uint8)).save(folder / "d.webp")
    (folder / "e.jpg").write_bytes(b"\xff\xd8\xff no photo")
    return {"a": "a.png", "b": "b.jpg", "c": "c.jpg", "d": "d.webp", "e": "e.jpg", "f": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, str | None]:
    return write_photos(folder)


@pytest.fixture(scope="module")
def photos(folder: Path, files: dict[str, str | None]) -> pd.DataFrame:
    """Return embeddings.image_embeddings of the six items, by the CNN that comes with the package."""
    items = pd.DataFrame({"item_id": list(files), "image": list(files.values())})
    return embed_photos(items, EFFICIENTNET, folder, folder / "cache")


def tables(photos: pd.DataFrame, files: dict[str, str | None]) -> SearchTables[Frame]:
    frame = documents().assign(image=list(files.values()))
    return replace(given(frame), photos=photos)


def made(photos: pd.DataFrame) -> ReleaseMeta:
    image = (photos["encoder"][0], len(photos["vector"][0]))
    return replace(new_release(ENCODER, 4, "attributes@1", "none@1", None, *image), fitted=FIT, fitted_dimension=2)


@pytest.fixture(scope="module")
def index(backend: Backend, photos: pd.DataFrame, files: dict[str, str | None]) -> Iterator[Searcher]:
    backend.publish(tables(photos, files), made(photos))
    with backend.open(ranking=RANKING) as opened:
        yield opened


def found(index: Searcher, **query: Any) -> str:
    return "".join(hit.item_id for hit in index.search(Query(**query)).hits)


@pytest.mark.parametrize("item", WITH_PHOTO)
def test_an_uploaded_photo_of_the_catalogue_has_the_vector_of_the_table_and_comes_first(
    index: Searcher, photos: pd.DataFrame, files: dict[str, str | None], folder: Path, item: str
) -> None:
    content = (folder / str(files[item])).read_bytes()
    vectors = photos.set_index("item_id")["vector"]
    assert np.allclose(encode_photo(content, photos["encoder"][0]), vectors[item], atol=1e-5)
    hits = index.search(Query(photo=content)).hits
    cosines = {other: float(vectors[other] @ vectors[item]) for other in WITH_PHOTO}
    assert [hit.item_id for hit in hits] == sorted(cosines, key=lambda other: -cosines[other])
    assert [hit.score for hit in hits] == pytest.approx(sorted(cosines.values(), reverse=True), abs=1e-5)
    assert hits[0].item_id == item


def test_the_photo_of_an_item_is_explained_and_the_item_left_out(index: Searcher) -> None:
    answer = index.search(Query(photo_of="a", explain=True))
    assert "a" not in [hit.item_id for hit in answer.hits]
    assert len(answer.hits) == 3
    assert answer.tier == "photo"
    assert answer.note == "likeness of photos is that of efficientnet-lite0, a CNN trained on ImageNet"
    explained = answer.hits[0].explanation
    assert explained is not None
    assert explained.sentence == 'It looks like the photo of "red dress".'
    assert [(leg.name, leg.kind, leg.rank) for leg in explained.legs] == [("photo", "photo", 1)]
    assert answer.hits[2].explanation is not None
    assert answer.hits[2].explanation.sentence == 'It somewhat looks like the photo of "red dress".'


def test_filters_exclusions_and_k_hold(index: Searcher) -> None:
    assert found(index, photo_of="d", filters=["category=dresses"]) in ("ab", "ba")
    assert found(index, photo_of="d", filters=["category=dresses"], exclude=["a"]) == "b"
    assert len(found(index, photo_of="d", k=1)) == 1


def test_a_photo_speaks_together_with_a_text_and_a_shopper(index: Searcher) -> None:
    both = index.search(Query(photo_of="a", text="lamp", explain=True, k=6))
    legs = {leg.name for hit in both.hits if hit.explanation for leg in hit.explanation.legs}
    assert legs == {"photo", "text", "words"}
    assert {"d", "e"} <= {hit.item_id for hit in both.hits}  # e has no photo, and the word
    assert both.tier == "text"
    of_shopper = index.search(Query(photo_of="b", user="u1", explain=True))
    assert not {"a", "b", "d"} & {hit.item_id for hit in of_shopper.hits}  # u1 has seen a and d
    assert of_shopper.hits[0].explanation is not None
    assert {"photo", "profile"} <= {leg.name for leg in of_shopper.hits[0].explanation.legs}
    only = index.search(Query(photo_of="a", text="lamp", weights={"photo": 1, "lexical": 0, "semantic": 0})).hits
    assert [hit.item_id for hit in only] == list(found(index, photo_of="a"))


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"photo": b"GIF89a"}, "the photo cannot be used: damaged"),
        ({"photo": b"no photo at all"}, "the photo cannot be used: not one of JPEG"),
        ({"photo": b""}, "the photo cannot be used: the file is empty"),
        ({"photo_of": "nope"}, "does not have the item nope"),
        ({"photo_of": "e"}, "the item e has no readable photo"),
        ({"photo_of": "a", "mode": "semantic"}, "leave out the mode"),
        ({"photo_of": "a", "photo": b"x"}, "not both"),
        ({"photo": bytes(LARGEST_PHOTO + 1)}, "more than 8 MiB"),
    ],
)
def test_what_is_no_photo_is_told(index: Searcher, query: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        index.search(Query(**query))


def test_a_photo_of_too_many_pixels_is_refused_before_it_is_decoded(index: Searcher) -> None:
    side = int(MAX_PIXELS**0.5) + 1
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    with pytest.raises(UsageError, match=r"the photo cannot be used: .* pixels"):
        index.search(Query(photo=file.getvalue()))


def test_the_release_says_that_it_has_photos(backend: Backend, index: Searcher, photos: pd.DataFrame) -> None:
    kept = backend.releases.meta(index.release.name)
    assert (kept.image_encoder, kept.image_dimension) == (photos["encoder"][0], 1280)


def test_a_release_without_photos_says_what_to_do(tmp_path: Path) -> None:
    place = Embedded(tmp_path)
    place.publish(given(documents()))
    with place.open() as without, pytest.raises(UsageError, match="set VLM4REC_INDEX_PHOTOS=true and publish again"):
        without.search(Query(photo_of="a"))


def test_faulty_vectors_of_photos_stop_a_publication(
    tmp_path: Path, photos: pd.DataFrame, files: dict[str, str | None]
) -> None:
    for wrong in (photos["vector"] * 1.1, [vector[:9] for vector in photos["vector"]], [None] * len(photos)):
        with pytest.raises(RunError, match="vectors of photos are not of length 1"):
            build_release(tmp_path, tables(photos.assign(vector=wrong), files), made(photos))
    with pytest.raises(RunError, match="vectors of photos"):
        build_release(tmp_path, tables(photos.assign(encoder="other@1"), files), made(photos))


def test_processes_share_the_vectors_of_photos(
    tmp_path: Path, photos: pd.DataFrame, files: dict[str, str | None]
) -> None:
    build_release(tmp_path, tables(photos, files), made(photos))
    path = current_release(tmp_path)
    assert path is not None
    own, shared = Store(path), Store(path, shared=True)
    try:
        assert np.array_equal(own.photos, shared.photos)
        assert not shared.photos.flags.owndata
        assert shared.has_photo.tolist() == [True] * 4 + [False] * 2
    finally:
        own.close()
        shared.close()


def test_a_changed_photo_is_sent_by_an_incremental_publication(
    server: Server, photos: pd.DataFrame, files: dict[str, str | None]
) -> None:
    releases = server.releases
    assert isinstance(releases, OpenSearchReleases)
    with pytest.raises(UsageError, match="publish a whole release"):
        check_compatible(meta(), made(photos))
    server.publish(tables(photos, files), made(photos))
    vectors = photos["vector"].tolist()
    swapped = photos.assign(vector=[vectors[1], vectors[0], *vectors[2:]])
    published = releases.publish(tables(swapped, files), made(photos), incremental=True, force=False)
    assert [load.indexed for load in published.loads if load.index.endswith(published.meta.name)] == [2]
    with server.open(ranking=RANKING) as opened:
        near_b = opened.search(Query(photo_of="b", k=6)).hits
    expected = {item: float(swapped["vector"][place] @ vectors[0]) for place, item in enumerate("abcd") if item != "b"}
    assert {hit.item_id: hit.score for hit in near_b} == pytest.approx(expected, abs=1e-5)


def test_the_warehouse_gives_photos_where_they_are_asked_for() -> None:
    with duckdb.connect() as connection:
        connection.execute((ROOT / "tests" / "fixtures" / "good_tables.sql").read_text("utf-8"))
        assert read_search_layer(connection).tables.photos is None
        whole = read_search_layer(connection, photos=True)
        assert whole.tables.photos is not None
        assert whole.new_release("passed").image_encoder == whole.tables.photos["encoder"][0].as_py()
        assert read_search_layer(connection).new_release("passed").image_encoder is None
        assert whole.versions == read_search_layer(connection).versions
        connection.execute("DELETE FROM embeddings.image_embeddings")
        with pytest.raises(UsageError, match="set VLM4REC_IMAGE_ENCODER"):
            read_search_layer(connection, photos=True)


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, photos: pd.DataFrame, files: dict[str, str | None], folder: Path
) -> Iterator[httpx.Client]:
    place = tmp_path_factory.mktemp("service")
    backend = Embedded(place / "index")
    backend.publish(tables(photos, files), made(photos))
    settings = ExplicitSettings(
        index_url=backend.releases.url, encoder=ENCODER, ranking=RANKING, served=place / "served", data_dir=folder
    )
    with Service(settings, 0.1) as service, serving(service, page_token="token") as opened:  # noqa: S106
        yield opened


def test_the_api_takes_photos_in_base64(client: httpx.Client, folder: Path) -> None:
    text = base64.b64encode((folder / "a.png").read_bytes()).decode()
    for photo in (text, f"data:image/png;base64,{text}"):
        answer = client.post("/v1/search", json={"photo": photo, "k": 2, "explain": True}).json()
        assert answer["items"][0]["item_id"] == "a"
        assert answer["items"][0]["sentence"] == "It looks like the photo."
        assert (answer["tier"], answer["next"]) == ("photo", None)
    again = f"/v1/recommendations/{answer['recommendation_id']}"
    assert [item["item_id"] for item in client.get(again).json()["items"]] == [
        item["item_id"] for item in answer["items"]
    ]
    assert client.get(f"{again}?page=2").status_code == 404
    of_item = client.post("/v1/search", json={"photo_of": "a", "k": 2}).json()
    following = client.get(of_item["next"]).json()
    assert len({item["item_id"] for item in of_item["items"] + following["items"]}) == 3
    assert client.get("/v1/releases").json()[0]["image_encoder"].startswith("efficientnet-lite0@")


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 422, "give a text, a photo or photo_of"),
        ({"photo": "***"}, 422, "not in base64"),
        ({"photo": ""}, 422, "base64"),
        ({"photo": 7}, 422, "base64"),
        ({"photo": base64.b64encode(b"%PDF-1.7").decode()}, 400, "the photo cannot be used: not one of JPEG"),
        ({"photo": base64.b64encode(bytes(LARGEST_PHOTO + 3)).decode()}, 400, "more than 8 MiB"),
        ({"photo": "A" * (LARGEST_PHOTO // 3 * 4 + 2 * 2**20)}, 413, "send at most"),
        ({"photo_of": "nope"}, 400, "does not have the item nope"),
        ({"photo_of": "a", "mode": "lexical"}, 400, "leave out the mode"),
    ],
)
def test_a_body_that_holds_no_photo_is_a_problem(
    client: httpx.Client, body: dict[str, Any], status: int, told: str
) -> None:
    response = client.post("/v1/search", json=body)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert told in response.json()["detail"]


def test_the_page_takes_an_upload_and_shows_look_alikes(client: httpx.Client, folder: Path) -> None:
    assert 'enctype="multipart/form-data"' in client.get("/").text
    shown = client.post("/by-photo", files={"photo": ("a.png", (folder / "a.png").read_bytes(), "image/png")}).text
    assert shown.index("/item?item=a") < shown.index("/item?item=d")
    assert "a CNN trained on ImageNet" in shown
    item = client.get("/item?item=a").text
    assert "Looks like it" in item
    assert "Looks like it" not in client.get("/item?item=e").text
    wrong = client.post("/by-photo", files={"photo": ("<b>.txt", b"text", "text/plain")})
    assert wrong.status_code == 400
    assert "the photo cannot be used" in wrong.text
    assert client.post("/by-photo", content=b"photo=1").status_code == 400
    assert client.post("/by-photo", files={"photo": ("", b"", "image/png")}).status_code == 400
    for size in (LARGEST_PHOTO + 1, 4 * LARGEST_PHOTO):
        large = client.post("/by-photo", files={"photo": ("a.png", bytes(size), "image/png")})
        assert (large.status_code, large.headers["content-type"]) == (400, "text/html; charset=utf-8")
        assert "the photo has more than 8 MiB: use a smaller one" in large.text


def test_an_upload_arrives_byte_by_byte() -> None:
    content = np.random.default_rng(3).integers(0, 256, 100_000, dtype=np.uint8).tobytes() + b"\r\n\r\n\n\r"
    request = httpx.Request("POST", "http://shop", files={"photo": ("a.jpg", content, "message/rfc822")})
    assert uploaded(request.headers["content-type"], request.read(), "other") == b""
    request = httpx.Request("POST", "http://shop", data={"k": "1"}, files={"photo": ("ü.jpg", content, "image/jpeg")})
    assert uploaded(request.headers["content-type"], request.read(), "photo") == content


def test_the_command_takes_a_file(
    tmp_path: Path, photos: pd.DataFrame, files: dict[str, str | None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_release(tmp_path / "index", tables(photos, files), made(photos))
    monkeypatch.setenv("VLM4REC_INDEX_URL", str(tmp_path / "index"))
    monkeypatch.setenv("VLM4REC_ENCODER", ENCODER)
    monkeypatch.chdir(tmp_path)
    by_file = CliRunner().invoke(search, ["--photo", str(folder / "c.jpg"), "-k", "1"])
    assert by_file.exit_code == 0
    assert "blue shoes" in by_file.output
    by_item = CliRunner().invoke(search, ["--photo-of", "c", "--json"])
    assert '"item_id": "c"' not in by_item.output
    assert '"tier": "photo"' in by_item.output
