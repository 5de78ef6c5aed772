"""Files that people write, and files that are replaced in one step."""

from pathlib import Path
from threading import Barrier

import pytest

from vlm4rec_search.common.concurrency import run_concurrently
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.paths import read_text, replacing_file


@pytest.mark.parametrize("durable", [False, True])
def test_threads_that_write_the_same_file_at_once_do_not_meet(tmp_path: Path, durable: bool) -> None:
    path, together = tmp_path / "folder" / "rules.yaml", Barrier(4)

    def write(number: int) -> str:
        with replacing_file(path, durable) as part:
            part.write_text(f"text {number}")
            together.wait(30)
            return part.read_text()

    assert all(text == f"text {number}" for number, text in run_concurrently(write, range(4), workers=4))
    assert path.read_text() in {f"text {number}" for number in range(4)}
    assert list(path.parent.iterdir()) == [path]


def test_a_text_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    with pytest.raises(UsageError, match=r"^cannot read the keys in .*keys\.txt \(No such file or directory\): set K$"):
        read_text(path, "the keys in", "set K")
    path.write_bytes("Schlüssel".encode("latin-1"))
    with pytest.raises(UsageError, match=r"^cannot read the keys in .*keys\.txt \('utf-8' codec can't decode .*\)$"):
        read_text(path, "the keys in")
    path.write_bytes(b"\xef\xbb\xbfkey")
    assert read_text(path, "the keys in", encoding="utf-8-sig") == "key"


def test_after_an_error_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")  # as long as a name can be
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing_file(path) as part:
        part.write_text(str(1 / 0))
    assert path.read_text() == "old"
    with replacing_file(path) as part:
        part.write_text("new")
    assert (path.read_text(), list(tmp_path.iterdir())) == ("new", [path])
