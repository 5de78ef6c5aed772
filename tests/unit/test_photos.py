"""Photos as shops really have them: each ends in an RGB image or in a status, whatever its bytes are."""

import hashlib
import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.photo_bytes import encoded, write_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vlm4rec_search.datasets.photos.decode import LONGEST_SIDE, Photo, PhotoError, PhotoFile, decode_photo, read_photo

RED = (200, 30, 30)


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def read_file(path: Path) -> Photo:
    return read_photo(PhotoFile(path, hashlib.sha256(path.read_bytes()).hexdigest()))


def status_of(path: Path) -> str:
    with pytest.raises(PhotoError) as caught:
        read_file(path)
    assert "\n" not in str(caught.value)
    return caught.value.status


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_accepted_formats_are_read_whatever_the_name_says(tmp_path: Path, kind: str) -> None:
    photo = read_file(write_file(tmp_path, encoded(Image.new("RGB", (40, 20), RED), kind)))
    assert (photo.image.mode, photo.image.size, photo.note) == ("RGB", (40, 20), "")
    assert np.abs(np.asarray(photo.image, dtype=int) - RED).max() <= 6


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", "unreadable"),
        (b"this is text", "wrong_type"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "wrong_type"),
        (b"%PDF-1.7", "wrong_type"),
        (encoded(Image.new("RGB", (300, 300), RED), "JPEG")[:400], "unreadable"),
        (encoded(Image.effect_noise((300, 300), 50), "PNG")[:9000], "unreadable"),
        (png_header(20_000, 20_000), "too_large"),
        (png_header(8_000, 7_000), "too_large"),
        (png_header(0, 10), "unreadable"),
    ],
    ids=["empty", "text", "svg", "pdf", "cut jpeg", "cut png", "bomb", "big", "no width"],
)
def test_bad_bytes_end_in_a_status(tmp_path: Path, data: bytes, status: str) -> None:
    assert status_of(write_file(tmp_path, data)) == status


def test_animation_gives_its_first_frame_and_a_note(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (10, 10), colour) for colour in (RED, (0, 0, 255), (0, 255, 0))]
    photo = read_file(write_file(tmp_path, encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "a.gif"))
    assert photo.note == "animated or multi-page: first of several frames used"
    assert photo.image.getpixel((5, 5)) == RED


def tiff_of_pages(count: int) -> bytes:
    """A TIFF of grey pages of one pixel, which have nothing but their directory."""
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (278, 1), (279, 1)]
    entries = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    ends = [16 + (number + 1) * (len(entries) + 4) for number in range(count - 1)]
    return (
        b"II*\0" + struct.pack("<I", 16) + b"\x80" * 8 + b"".join(entries + struct.pack("<I", at) for at in [*ends, 0])
    )


def test_the_pages_of_a_tiff_are_not_counted() -> None:
    assert decode_photo(tiff_of_pages(1)).note == ""
    start = time.process_time()
    photo = decode_photo(tiff_of_pages(20_000))
    assert time.process_time() - start < 1.0
    assert (photo.note, photo.image.size) == ("animated or multi-page: first of several frames used", (1, 1))


def test_threads_leave_the_warnings_of_the_process_alone() -> None:
    before, content = list(warnings.filters), encoded(Image.effect_noise((700, 700), 90), "PNG")
    with ThreadPoolExecutor(8) as threads:
        assert len({photo.image.tobytes() for photo in threads.map(decode_photo, [content] * 48)}) == 1
    assert list(warnings.filters) == before


@pytest.mark.parametrize("size", [(1500, 1100), (5000, 3), (3, 5000)])
def test_a_photo_of_several_tiles_is_converted_as_a_whole_one(size: tuple[int, int]) -> None:
    draw = np.random.default_rng(7)
    rgba = Image.fromarray(draw.integers(0, 256, (size[1], size[0], 4), dtype=np.uint8))
    flat = Image.alpha_composite(Image.new("RGBA", size, "white"), rgba).convert("RGB")
    flat.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    assert decode_photo(encoded(rgba, "PNG")).image.tobytes() == flat.tobytes()
    numbers = draw.normal(size=size[::-1]).astype(np.float32)
    grey = Image.fromarray(((numbers - numbers.min()) / float(np.ptp(numbers)) * 255.0).astype(np.uint8))
    grey.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    stretched = np.asarray(decode_photo(encoded(Image.fromarray(numbers), "TIFF")).image, dtype=int)[..., 0]
    assert np.abs(stretched - np.asarray(grey)).max() <= 1


def test_cmyk_becomes_rgb_with_a_note(tmp_path: Path) -> None:
    photo = read_file(write_file(tmp_path, encoded(Image.new("CMYK", (10, 10), (0, 255, 255, 0)), "JPEG")))
    assert photo.note == "CMYK converted to RGB"
    red, green, blue = np.asarray(photo.image).reshape(-1, 3).mean(axis=0)
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (255, 0, 0, 0)), ("LA", (0, 0))])
def test_transparency_is_laid_on_white(tmp_path: Path, mode: str, colour: tuple[int, ...]) -> None:
    photo = read_file(write_file(tmp_path, encoded(Image.new(mode, (10, 10), colour), "PNG")))
    assert (photo.note, photo.image.getpixel((5, 5))) == ("transparency laid on white", (255, 255, 255))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.array([[0, 127 * 257, 65535]], dtype=np.uint16)
    photo = read_file(write_file(tmp_path, encoded(Image.fromarray(ramp), "PNG")))
    assert [photo.image.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (127, 127, 127), (255, 255, 255)]
    assert "scaled to 8 bits" in photo.note


def test_a_white_photo_of_sixteen_bits_stays_white(tmp_path: Path) -> None:
    white = Image.fromarray(np.full((4, 4), 65535, dtype=np.uint16))
    assert read_file(write_file(tmp_path, encoded(white, "PNG"))).image.getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("form", ["AVIF", "JPEG2000"])
def test_newer_forms_of_files_are_read(tmp_path: Path, form: str) -> None:
    photo = read_file(write_file(tmp_path, encoded(Image.new("RGB", (32, 16), "white"), form)))
    assert photo.image.size == (32, 16)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "white")
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned: 90 degrees clockwise to be upright
    assert read_file(write_file(tmp_path, encoded(image, "JPEG", exif=exif))).image.size == (20, 40)


def test_large_photos_are_shrunk(tmp_path: Path) -> None:
    photo = read_file(write_file(tmp_path, encoded(Image.new("RGB", (3000, 1500), RED), "JPEG")))
    assert photo.image.size == (LONGEST_SIDE, LONGEST_SIDE // 2)


VALID = [encoded(Image.effect_noise((30, 30), 60), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(VALID), st.integers(0, 2000), st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=4))))
def test_no_bytes_crash(tmp_path: Path, valid: bytes, length: int, patches: list[tuple[int, bytes]]) -> None:
    data = bytearray(valid[: len(valid) - length] if length % 3 else valid)
    for offset, patch in patches:
        data[offset : offset + len(patch)] = patch
    path = write_file(tmp_path, bytes(data))
    try:
        assert read_file(path).image.mode == "RGB"
    except PhotoError as error:
        assert error.status in {"unreadable", "wrong_type", "too_large"}
