"""Decides once for each text file how it is written: encoding, delimiter, quotes, escapes, and ends of lines."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TextIO

import pyarrow as pa

from vlm4rec_search.common.errors import UsageError, one_line
from vlm4rec_search.datasets.columns import known_names, name_key
from vlm4rec_search.datasets.declarations import TableDeclaration
from vlm4rec_search.datasets.files import compression_of

_CHUNK = 1 << 20
MOST_CHARACTERS = 1 << 27
"""The longest value that is read."""
_SAMPLE_LINES = 500
_SAMPLE_CHARACTERS = 1 << 20
_DELIMITERS = (",", ";", "\t", "|")
_SIGNS = {"\t": "tab", " ": "space", "": "none", "\\": "backslash"}
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins with the mark of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
UNDECODABLE = re.compile("[\ud800-\udfff\ufffd]")
"""Stands in a text in place of bytes that could not be decoded."""
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)
"""The first line with which some programs tell Excel the delimiter."""


@dataclass(frozen=True)
class Dialect:
    """How a delimited text file is written.

    Attributes:
        encoding: a codec of Python.
        delimiter: one to four characters.
        quote: the character around values, empty for none.
        escape: the character before a quote inside of a quoted value; the quote itself if quotes are doubled.
        skipped: number of lines before the header.
    """

    encoding: str
    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    skipped: int = 0

    def __str__(self) -> str:
        parts = [f"delimiter {_SIGNS.get(self.delimiter, self.delimiter)}", self.encoding]
        if self.quote != '"':
            parts.append(f"quote {_SIGNS.get(self.quote, self.quote)}")
        if self.quote and self.escape != self.quote:
            parts.append(f"escape {_SIGNS.get(self.escape, self.escape)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class TextScan:
    """What one pass over the bytes of a text file finds.

    Attributes:
        encoding: a codec of Python.
        lines: number of line ends \\n, and one more if the last line has none.
        ends: "\\n" or "\\r\\n" if all lines end so, else None.
        sound: whether every byte can be decoded.
        has_nul: whether there is a NUL character in a text of single bytes.
    """

    encoding: str
    lines: int
    ends: Literal["\n", "\r\n"] | None
    sound: bool
    has_nul: bool


@contextmanager
def open_text(path: Path, encoding: str) -> Iterator[TextIO]:
    """Open a text file, plain or compressed; lines keep their ends. `UNDECODABLE` finds what could not be decoded."""
    errors = "surrogateescape" if encoding in ("utf-8", "utf-8-sig", "ascii") else "replace"
    with open_bytes(path) as stream, io.TextIOWrapper(stream, encoding, errors, newline="") as text:
        yield text


def scan_text(path: Path, declared: str = "") -> TextScan:
    """Read a text file to its end and find out its encoding and line ends.

    An encoding that is not declared is UTF-8, UTF-16 or UTF-32 by its mark or its bytes. A file with more
    lines that are no UTF-8 than lines that are, beyond ASCII, is Windows-1252, or Latin-1 where that has no character
    for a byte. A file with some broken UTF-8 is UTF-8.

    Raises:
        UsageError: a compressed file is damaged or truncated.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    newlines = returns = pairs = 0
    has_nul, sound, last, head = False, True, b"", b""
    try:
        with open_bytes(path) as stream:
            while chunk := stream.read(_CHUNK):
                head = head or chunk[:4096]
                newlines += chunk.count(b"\n")
                returns += chunk.count(b"\r")
                pairs += chunk.count(b"\r\n") + (last == b"\r" and chunk[:1] == b"\n")
                has_nul = has_nul or b"\0" in chunk
                last = chunk[-1:]
                sound = sound and _decodes_chunk(decoder, chunk)
    except OSError as error:
        raise UsageError(f"{path} cannot be read to its end ({one_line(error)}): is the download complete?") from None
    sound = sound and _decodes_chunk(decoder, b"", final=True)
    encoding = declared or _encoding(path, head, sound)
    if encoding not in ("utf-8", "utf-8-sig", "ascii"):
        sound = _decodes(path, encoding)
    ends: Literal["\n", "\r\n"] | None = "\n" if not returns else "\r\n" if newlines == returns == pairs else None
    return TextScan(encoding, newlines + (last not in (b"\n", b"")), ends, sound, has_nul)


def decide_dialect(path: Path, scan: TextScan, table: str, declared: TableDeclaration) -> Dialect:
    """Decide how a delimited file is written from its first lines; what is declared is taken as it is.

    The delimiter is the one under which the header holds the most known names of columns, then the one under which the
    most rows have as many values as the header.
    """
    with open_text(path, scan.encoding) as text:
        lines: list[str] = []
        for line in islice(text, _SAMPLE_LINES):
            lines.append(line)
            if sum(map(len, lines)) > _SAMPLE_CHARACTERS:
                break
    skipped, delimiter = 0, declared.delimiter
    if lines and not delimiter and (match := _SEPARATOR_LINE.fullmatch(lines[0])):
        skipped, delimiter = 1, match[1]
    csv.field_size_limit(MOST_CHARACTERS)
    quote = '"' if declared.quote is None else declared.quote
    sample = lines[skipped:]
    delimiters = (delimiter,) if delimiter else _DELIMITERS
    escapes = (quote,) if not any(quote and f"\\{quote}" in line for line in sample) else (quote, "\\")
    if declared.escape is not None:
        escapes = (declared.escape or quote,)
    known = known_names(table)
    candidates = [
        Dialect(scan.encoding, one, quote, escape, skipped)
        for one in delimiters
        for escape in escapes
    ]  # fmt: skip
    return max(candidates, key=lambda dialect: _fit(dialect, sample, known))


def split_lines(lines: Iterator[str], dialect: Dialect, strict: bool = False) -> Iterator[list[str]]:
    """Yield the records of lines with their ends; an empty line is an empty list.

    With a delimiter of several characters nothing is quoted, and each line is a record.

    Raises:
        csv.Error: a value is longer than `csv.field_size_limit()`; with `strict` also if a quote is not closed or is
            followed by something other than a delimiter.
    """
    if len(dialect.delimiter) > 1:
        texts = (line.rstrip("\r\n") for line in lines)
        return (text.split(dialect.delimiter) if text else [] for text in texts)
    if dialect.quote == "":
        return csv.reader(lines, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE)
    escape = None if dialect.escape == dialect.quote else dialect.escape
    return csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, escapechar=escape, strict=strict)


def _fit(dialect: Dialect, lines: list[str], known: frozenset[str]) -> tuple[int, bool, bool, float, int]:
    """Rate a dialect: known names in the header, several columns, quotes in their places, rows of the same length."""
    records = [record for record in split_lines(iter(lines), dialect) if record]
    header = records[0] if records else []
    names = sum(name_key(name) in known for name in header)
    alike = sum(len(record) == len(header) for record in records) / max(len(records), 1)
    try:
        is_strict = len(list(split_lines(iter(lines), dialect, strict=True))) > 0
    except csv.Error:
        is_strict = False
    return names, len(header) > 1, is_strict, alike, len(header)


def _encoding(path: Path, head: bytes, sound: bool) -> str:
    for mark, name in _BOMS.items():
        if head.startswith(mark):
            return name
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 5 and min(even, odd) * 4 < max(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    if sound or _is_mostly_utf8(path):
        return "utf-8"
    return "windows-1252" if _decodes(path, "windows-1252") else "latin-1"


def _is_mostly_utf8(path: Path) -> bool:
    """Whether of the lines with characters beyond ASCII at least one is UTF-8, and no more are not."""
    sound = broken = 0
    with open_bytes(path) as stream:
        for line in stream:
            if not line.isascii():
                is_sound = _decodes_chunk(codecs.getincrementaldecoder("utf-8")(), line, final=True)
                sound, broken = sound + is_sound, broken + (not is_sound)
    return 0 < sound >= broken


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    with open_bytes(path) as stream:
        while chunk := stream.read(_CHUNK):
            if not _decodes_chunk(decoder, chunk):
                return False
    return _decodes_chunk(decoder, b"", final=True)


def _decodes_chunk(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeError:
        return False
    return True


def open_bytes(path: Path) -> io.BufferedReader:
    """Open a file for reading; what is compressed is decompressed, whatever its name says."""
    return io.BufferedReader(pa.input_stream(str(path), compression=compression_of(path)), _CHUNK)
