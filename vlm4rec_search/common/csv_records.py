"""The records of a CSV file to which processes append, where half a line costs no other one."""

import csv
from collections.abc import Iterator, Sequence


def csv_records(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the text and the values of each record; the first one is the header.

    A query may have line breaks, so a record may have several lines. A quote that is never closed, in half a line that
    a full disk has left, would make one record of all lines behind it: then the line is taken alone.
    """
    start, fields = 0, 0
    while start < len(lines):
        end = next(_ends(lines, start), start + 1)
        if start and end > start + 1 and not _is_record(lines[start:end], fields):
            end = start + 1
        text = "".join(lines[start:end])
        row = next(csv.reader(lines[start:end]), [])
        fields = fields or len(row)
        yield text, row
        start = end


def _ends(lines: Sequence[str], start: int) -> Iterator[int]:
    """Yield the numbers of lines before which the quotes from `start` on are closed."""
    quotes = 0
    for number in range(start, len(lines)):
        quotes += lines[number].count('"')
        if quotes % 2 == 0:
            yield number + 1


def _is_record(lines: Sequence[str], fields: int) -> bool:
    try:
        return [len(row) for row in csv.reader(lines)] == [fields]
    except csv.Error:  # a text that is longer than any field
        return False
