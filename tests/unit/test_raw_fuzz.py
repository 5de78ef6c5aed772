"""Damaged files: each is refused in one line, or all of its records are rows or are kept with their lines."""

import csv
import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.delivered import Delivered, read_table

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.declarations import TableDeclaration
from vlm4rec_search.datasets.dialects import decide_dialect, open_text, scan_text, split_lines

FIRST = {"item_id": "#1", "title": 'Red "big" mug', "description": "two\nlines", "price": "9,5", "colour": "grün"}
ROWS = [FIRST, *({**FIRST, "item_id": str(n), "title": f"Lamp {n}", "description": ""} for n in range(2, 30))]


def as_csv(delimiter: str, ends: str = "\n") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(FIRST), delimiter=delimiter, lineterminator=ends)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def as_parquet(rows: Sequence[Mapping[str, object]] = ROWS) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue()


GOOD = {
    "items.csv": as_csv(","),
    "items.tsv": as_csv("\t", "\r\n"),
    "items.txt": as_csv(";"),
    "items.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode(),
    "items.parquet": as_parquet(),
    "items.csv.gz": gzip.compress(as_csv(","), mtime=0),
    "items/part.parquet": as_parquet([{**row, "sizes": ["S", "M"], "maker": {"name": "Alder"}} for row in ROWS]),
}
SIGNS = [
    b'"',
    b",",
    b";",
    b"\t",
    b"\n",
    b"\r",
    b"\r\n",
    b"\\",
    b"\0",
    b"\xff",
    b"\xc3",
    b"#",
    b"{",
    b"}",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"[",
    b"]",
]


def flip(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] = rng.randrange(256)


def cut(content: bytearray, rng: random.Random) -> None:
    del content[rng.randrange(len(content)) :]


def leave_out(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    del content[start : start + rng.randint(1, 60)]


def repeat(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content))
    content[start:start] = content[start : start + rng.randint(1, 200)]


def insert_sign(content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 5)):
        start = rng.randrange(len(content) + 1)
        content[start:start] = rng.choice(SIGNS)


def write_in_another_encoding(content: bytearray, rng: random.Random) -> None:
    encoding = rng.choice(["utf-16", "utf-16-be", "latin-1", "utf-8-sig", "utf-32", "cp037"])
    content[:] = content.decode("utf-8", "replace").encode(encoding, "replace")


def swap_columns(content: bytearray, rng: random.Random) -> None:
    lines = bytes(content).split(b"\n")
    at = rng.randrange(len(lines))
    values = lines[at].split(b",")
    rng.shuffle(values)
    lines[at] = b",".join(values)
    content[:] = b"\n".join(lines)


def insert_long_value(content: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(content) + 1)
    content[start:start] = rng.choice([b"x", b'"', b"\n", b"{"]) * rng.randint(1_000, 100_000)


def repeat_header(content: bytearray, rng: random.Random) -> None:
    header = bytes(content).split(b"\n", 1)[0]
    start = rng.choice([0, content.find(b"\n") + 1, len(content)])
    content[start:start] = rng.choice([header + b"\n", header + b",", header])


def pack(content: bytearray, rng: random.Random) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(
            zipfile.ZipInfo("items.csv"), bytes(content)
        )  # of a fixed time, so that a seed gives the same file
    compressed = gzip.compress(bytes(content), mtime=0)
    content[:] = rng.choice([archive.getvalue(), compressed, compressed[:-9]])


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    flip, cut, leave_out, repeat, insert_sign, write_in_another_encoding, swap_columns, insert_long_value,
    repeat_header, pack,
]  # fmt: skip


def assert_nothing_is_lost(path: Path, found: Delivered) -> None:
    """Count the records of a file without the reader of the product."""
    count = len(found.rows) + len(found.broken)
    if path.suffix == ".parquet":
        with suppress(pa.ArrowInvalid, OSError):  # the writer's notes about itself are damaged
            assert count == pq.read_metadata(path).num_rows
        return
    scan = scan_text(path)
    with open_text(path, scan.encoding) as text:
        lines = list(text)
    if path.suffix == ".jsonl":
        assert count == sum(bool(line.strip().strip("\ufeff")) for line in lines)
        return
    dialect = decide_dialect(path, scan, "items", TableDeclaration())
    starts = sorted([*found.lines, *(line for line, _, _ in found.broken)])
    assert len(set(starts)) == len(starts)
    refused = {line: text for line, _, text in found.broken}
    for start, end in zip(starts, [*starts[1:], len(lines) + 1], strict=True):
        span = "".join(lines[start - 1 : end - 1])
        if start in refused:
            shown = span.rstrip("\r\n").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            assert refused[start] == shown
        else:
            assert len([record for record in split_lines(io.StringIO(span, newline=""), dialect) if record]) == 1, span
    header_lines = lines[: starts[0] - 1] if starts else lines
    assert len([record for record in split_lines(iter(header_lines), dialect) if record]) == 1


def run_mutations(folder: Path, seeds: range) -> tuple[int, int]:
    """Read damaged files, and return how many were read and how many were refused."""
    read = refused = 0
    for seed in seeds:
        rng = random.Random(seed)
        name = rng.choice(list(GOOD))
        content = bytearray(GOOD[name])
        for _ in range(rng.randint(1, 3)):
            if content:
                rng.choice(MUTATIONS)(content, rng)
        data = folder / f"data-{seed}"
        (data / name).parent.mkdir(parents=True)
        (data / name).write_bytes(content)
        try:
            found = read_table(data)
        except UsageError as error:
            assert "\n" not in str(error), (seed, str(error))
            refused += 1
            continue
        try:
            assert_nothing_is_lost(data / name, found)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {name}: {error}") from error
        read += 1
    return read, refused


def test_damaged_files_lose_no_record_and_end_in_no_traceback(tmp_path: Path) -> None:
    read, refused = run_mutations(tmp_path, range(400))
    assert read > 150
    assert refused > 30


@pytest.mark.long
def test_thousands_of_damaged_files_lose_no_record(tmp_path: Path) -> None:
    read, refused = run_mutations(tmp_path, range(1000, 7000))
    assert read > 2500
    assert refused > 500
