"""Large photos take no more memory than they have to, and what Pillow says of them is not shown."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SIDE = 5000
DECODE = """
import re, sys
from pathlib import Path
from vlm4rec_search.datasets.photos.decode import PhotoError, decode_photo
def largest_memory():  # KiB; `ru_maxrss` would include that of the parent
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

content = Path(sys.argv[1]).read_bytes()
before = largest_memory()
try:
    print(decode_photo(content).image.size[0], end=" ")
except PhotoError as error:
    print(error.status, end=" ")
print(largest_memory() - before)
"""

MANY_THREADS = """
import re, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from vlm4rec_search.embeddings.encoders import encode_photo, load_image_encoder
from vlm4rec_search.serve.thumbnails import Thumbnails
def memory():  # KiB
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

path = Path(sys.argv[1])
small, encoder = Thumbnails(path.parent, path.parent / "cache"), load_image_encoder("thumbnail-8").id
ways = (lambda: encode_photo(path.read_bytes(), encoder), lambda: small.thumbnail(path.name, 160))
together = threading.Barrier(8)
def search(number):
    together.wait()
    ways[number % 2]()

ways[0]()
before = memory()
with ThreadPoolExecutor(8) as threads:  # as many requests as the service takes at once
    list(threads.map(search, range(8)))
print("done", memory() - before)
"""


def decode_in_process(path: Path, program: str = DECODE) -> tuple[str, float]:
    """Return the width or status of a photo, and the memory that it took as bytes for each of SIDE * SIDE pixels."""
    command = [sys.executable, "-W", "error:::PIL.Image", "-c", program, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    result, kibibytes = run.stdout.split()
    return result, int(kibibytes) * 1024 / SIDE**2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "F"])
def test_a_large_photo_takes_the_memory_of_two_copies_at_most(tmp_path: Path, mode: str) -> None:
    """A pixel of a copy takes 4 bytes; the rest is for tiles and the small photo."""
    path = tmp_path / "photo"
    Image.new(mode, (SIDE, SIDE)).save(path, "TIFF" if mode == "F" else "PNG")
    width, each = decode_in_process(path)
    assert width == "1024"
    assert each < 10.0


def test_a_service_keeps_the_memory_of_two_photos_whatever_the_number_of_its_threads(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.new("RGB", (SIDE, SIDE)).save(path)
    assert decode_in_process(path, MANY_THREADS)[1] < 14.0  # bytes for each pixel, of which a copy takes 4


def test_a_warning_of_pillow_is_no_reason_for_a_status(tmp_path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "photo", "PNG")  # Pillow warns from 89 million pixels on
    assert decode_in_process(tmp_path / "photo")[0] == "too_large"
