"""Manual captions: a CSV file in which a person replaces captions, with the editor and a note."""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vlm4rec_search.common.errors import UsageError

UNKNOWN_EDITOR = "unknown"


@dataclass(frozen=True)
class Edit:
    """A caption by a person; `editor` is `UNKNOWN_EDITOR` and `note` is None where the file has none."""

    caption: str
    editor: str = UNKNOWN_EDITOR
    note: str | None = None


def read_edits(path: Path | None) -> dict[str, Edit]:
    """Return the edits of a file by item id; an empty dictionary without a file.

    Args:
        path: a CSV file in UTF-8 with the columns item_id and caption, and optionally editor and note
            (`VLM4REC_CAPTION_EDITS`).

    Raises:
        UsageError: the file cannot be read, lacks a column, has a row without id or caption, or repeats an item.
    """
    if path is None:
        return {}
    edits: dict[str, Edit] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, row in _read_rows(csv.DictReader(file), path):
                item, caption = row.get("item_id", ""), " ".join(row.get("caption", "").split())
                if not item or not caption or item in edits:
                    fault = f"a second caption for {item!r}" if item in edits else "no item_id or no caption"
                    raise UsageError(f"{path}, line {line}: {fault}; each item needs one row with both")
                edits[item] = Edit(caption, row.get("editor") or UNKNOWN_EDITOR, row.get("note") or None)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"VLM4REC_CAPTION_EDITS: {path} cannot be read as CSV in UTF-8: {error}") from None
    return edits


def hash_edits(path: Path | None) -> str | None:
    """Return the sha256 (hex) of the file of edits; None without a file.

    Raises:
        UsageError: as `read_edits`, so that a plan with an invalid file does not start.
    """
    if path is None:
        return None
    read_edits(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def find_unknown_items(edits: Mapping[str, Edit], items: Iterable[str]) -> list[str]:
    """Return the ids of edited items that are not in the catalogue, in order."""
    return sorted(set(edits) - set(items))


def _read_rows(reader: "csv.DictReader[str]", path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    if not {"item_id", "caption"} <= set(reader.fieldnames or ()):
        raise UsageError(f"{path} needs the columns item_id and caption; it has {', '.join(reader.fieldnames or ())}")
    for row in reader:
        yield reader.line_num, {name: value.strip() for name, value in row.items() if name and isinstance(value, str)}
