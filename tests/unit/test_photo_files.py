"""The photo files of a data folder: their paths, their hashes, and files that change."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from helpers.delivered import read_items
from helpers.photo_bytes import png, write_file

from vlm4rec_search.common.cache import Cache, Failure
from vlm4rec_search.datasets.photos.decode import MAX_BYTES, PhotoError, read_photo
from vlm4rec_search.datasets.photos.locate import _hash_files, fingerprint, locate_photos, resolve_path
from vlm4rec_search.datasets.raw import image_names, inspect


@pytest.mark.parametrize(
    ("image", "status"),
    [
        (None, "no_photo"),
        ("", "no_photo"),
        ("  ", "no_photo"),
        ("../secret.jpg", "outside"),
        ("/etc/passwd", "outside"),
        ("link.jpg", "outside"),
        ("absent.jpg", "missing"),
        ("images", "missing"),
        ("pipe.jpg", "missing"),
        ("nul\0byte.jpg", "missing"),
        ("n" * 5000, "missing"),
        ("loop.jpg", "missing"),
    ],
)
def test_an_unusable_path_has_a_status(tmp_path: Path, image: str | None, status: str) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (data / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (data / "loop.jpg").symlink_to(data / "loop.jpg")
    os.mkfifo(data / "pipe.jpg")
    with pytest.raises(PhotoError) as caught:
        resolve_path(data, image)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "image",
    ["images\\two words.png", "images/two%20words.png", "images/two words.png?v=158", "images/two%20words.png?v"],
)
def test_spellings_of_a_path_as_in_addresses_and_on_windows_are_found(tmp_path: Path, image: str) -> None:
    (tmp_path / "images").mkdir()
    path = write_file(tmp_path / "images", png(8), "two words.png")
    assert resolve_path(tmp_path.resolve(), image) == path.resolve()


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ('["a.jpg","b.jpg"]', "a list of images"),
        ("a.jpg|b.jpg", "a list of images"),
        ("a.jpg, b.webp", "a list of images"),
        ("data:image/png;base64,iVBORw0KGgo=", "inside of the text"),
        ("lamp, red.jpg", "no such file"),
    ],
)
def test_a_list_of_images_and_a_photo_in_the_text_are_told(tmp_path: Path, image: str, why: str) -> None:
    with pytest.raises(PhotoError, match=why):
        resolve_path(tmp_path, image)


def test_an_escaped_path_does_not_leave_the_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_file(tmp_path, b"x", "secret.jpg")
    for image in ("..%2fsecret.jpg", "..\\secret.jpg", "../secret.jpg?v=1"):
        with pytest.raises(PhotoError):
            resolve_path(data.resolve(), image)


def test_an_address_without_a_scheme_is_an_address(tmp_path: Path) -> None:
    (photo,) = locate_photos(["//cdn.example.com/a.jpg"], tmp_path, Cache(tmp_path / "cache"))
    assert photo.failure is not None
    assert photo.failure.status == "pending"


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    path = write_file(tmp_path, b"x", "real.jpg")
    (tmp_path / "alias.jpg").symlink_to(path)
    assert resolve_path(tmp_path, "alias.jpg") == path.resolve()


def test_a_photo_is_found_however_its_name_is_composed(tmp_path: Path) -> None:
    (tmp_path / "bild_kü.png").write_bytes(b"composed")
    (tmp_path / "bild_gru\u0308n.png").write_bytes(b"decomposed")
    assert resolve_path(tmp_path.resolve(), "bild_ku\u0308.png").read_bytes() == b"composed"
    assert resolve_path(tmp_path.resolve(), "bild_grün.png").read_bytes() == b"decomposed"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with Cache(tmp_path / "cache") as cache:
        (found,) = locate_photos(["huge.jpg"], tmp_path, cache)
    assert found.digest is None
    assert found.failure is not None
    assert found.failure.status == "too_large"


def test_digests_depend_on_the_bytes_and_not_on_the_name(tmp_path: Path) -> None:
    first = write_file(tmp_path, b"same", "a.jpg")
    write_file(tmp_path, b"same", "b.jpg")
    with Cache(tmp_path / "cache") as cache:
        before = locate_photos(["a.jpg", "b.jpg", None], tmp_path, cache)
        times = first.stat()
        first.write_bytes(b"else")
        os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))  # like a copy that keeps the old time
        after = locate_photos(["a.jpg", "b.jpg"], tmp_path, cache)
    assert before[0].digest == before[1].digest == after[1].digest
    assert before[0].digest == "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5"
    assert after[0].digest != before[0].digest
    assert before[2].failure is not None


def test_a_photo_replaced_after_it_was_hashed_is_not_read(tmp_path: Path) -> None:
    path = write_file(tmp_path, png(4), "a.png")
    with Cache(tmp_path / "cache") as cache:
        (found,) = locate_photos(["a.png"], tmp_path, cache)
    assert read_photo(found).image.size == (4, 4)
    path.write_bytes(png(5))
    with pytest.raises(PhotoError, match="changed while it was read"):
        read_photo(found)


def test_the_fingerprint_depends_on_the_bytes_of_the_photos(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    photo = write_file(data / "images", b"one", "a.jpg")
    (data / "items.csv").write_text("item_id,title\n")

    def current(folder: Path = data) -> str:
        with Cache(tmp_path / "cache") as cache:
            return fingerprint(folder, cache)

    first = current()
    (data / "labels.csv").write_text("no photo")
    (data / "warehouse.duckdb").write_text("no photo")
    (data / ".cache").mkdir()
    (data / ".cache" / "b.jpg").write_text("no photo")
    assert current() == first, "files other than photos do not count"
    shutil.copytree(data, tmp_path / "copy")
    assert current(tmp_path / "copy") == first, "the same photos elsewhere are the same photos"
    times = photo.stat()
    photo.write_bytes(b"two")
    os.utime(photo, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = current()
    assert second != first, "equal size and modification time do not hide a change"
    photo.rename(data / "images" / "without_suffix")
    assert current() not in (first, second)


@pytest.mark.parametrize("name", ["images/a.img", ".images/a.jpg", "images/.a.jpg"])
def test_the_fingerprint_depends_on_any_file_that_the_catalogue_names(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    (data / name).parent.mkdir(parents=True)
    photo = write_file((data / name).parent, b"one", Path(name).name)
    found = read_items(data, f"item_id,title,image\n1,Lamp, {name}?v=1\n2,Mug,\n3,Cup,https://shop.example/{name}\n")
    assert found.files[0].rows == 3
    images = image_names(tmp_path / "data-cache", inspect(data, "items", tmp_path / "data-cache"))
    with Cache(tmp_path / "cache") as cache:
        first = fingerprint(data, cache, images)
        assert fingerprint(data, cache, images) == first
        photo.write_bytes(b"two")
        assert fingerprint(data, cache, images) != first


def test_a_photo_removed_during_the_run_has_a_status(tmp_path: Path) -> None:
    remaining, removed_file = write_file(tmp_path, png(4), "a.png"), write_file(tmp_path, png(5), "b.png")
    with Cache(tmp_path / "cache") as cache:
        found = dict(zip(("a", "b"), locate_photos(["a.png", "b.png"], tmp_path, cache), strict=True))
        removed_file.unlink()
        with pytest.raises(PhotoError, match="cannot be read: No such file") as caught:
            read_photo(found["b"])
        assert caught.value.status == "unreadable"
        digests = _hash_files([remaining, removed_file], cache)  # the file was removed after it was located
    removed = Failure("missing", "the file cannot be found any more: No such file or directory")
    assert digests == {remaining: hashlib.sha256(png(4)).digest(), removed_file: removed}
