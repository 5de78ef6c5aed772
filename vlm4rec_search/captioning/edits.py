"""Captions corrected by hand: a CSV file of item_id and caption, with who did it and why."""

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm4rec_search.common.errors import UsageError

NOBODY = "unknown"


@dataclass(frozen=True)
class Edit:
    """A caption that a person wrote; `editor` is `NOBODY` and `note` None where the file does not say."""

    caption: str
    editor: str = NOBODY
    note: str | None = None


def read_edits(path: Path | None) -> dict[str, Edit]:
    """Return the edits of a file by item id, none for no file.

    Args:
        path: CSV in UTF-8 with the columns item_id and caption, and perhaps editor and note (`VLM4REC_CAPTION_EDITS`).

    Raises:
        UsageError: the file cannot be read, lacks a column, or has a row without id or caption or for an item again.
    """
    if path is None:
        return {}
    edits: dict[str, Edit] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, row in _rows(csv.DictReader(file), path):
                item, caption = row.get("item_id", ""), " ".join(row.get("caption", "").split())
                if not item or not caption or item in edits:
                    wrong = f"a second caption for {item!r}" if item in edits else "no item_id or no caption"
                    raise UsageError(f"{path}, line {line}: {wrong}; each item has one row with both")
                edits[item] = Edit(caption, row.get("editor") or NOBODY, row.get("note") or None)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"VLM4REC_CAPTION_EDITS: {path} cannot be read as CSV in UTF-8: {error}") from None
    return edits


def edits_hash(path: Path | None) -> str | None:
    """Return the sha256 (hex) of the file of edits, None for none.

    Raises:
        UsageError: as `read_edits`, so that a plan does not start with a file that cannot be used.
    """
    if path is None:
        return None
    read_edits(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unknown_items(edits: Mapping[str, Edit], items: Sequence[str]) -> list[str]:
    """Return the ids of edits for items that the catalogue does not have."""
    return sorted(set(edits) - set(items))


def _rows(reader: "csv.DictReader[str]", path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    if not {"item_id", "caption"} <= set(reader.fieldnames or ()):
        raise UsageError(f"{path} needs the columns item_id and caption; it has {', '.join(reader.fieldnames or ())}")
    for row in reader:
        yield reader.line_num, {name: value.strip() for name, value in row.items() if name and isinstance(value, str)}
