"""Brings the photos that a catalogue names into the data folder."""

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_TABLES = (".csv", ".gz", ".json", ".jsonl", ".parquet", ".part")
"""A catalogue must not be able to replace the tables of the data folder by calling one a photo."""


@dataclass
class PhotoCounts:
    """What became of the photos that the catalogue names, one count per distinct name."""

    copied: int = 0
    """Linked or copied into the data folder, or there already."""
    not_found: int = 0
    refused: int = 0
    """Named a table, or a place outside the source folder, or would land outside the data folder."""
    remote: int = 0
    """An http(s) address; nothing is downloaded. Counted per item."""


def bring_photos(names: Iterable[str], source: Path, to: Path, advance: Callable[[int], None]) -> PhotoCounts:
    """Link (or copy, across devices) each named photo from `source` to the same relative place under `to`."""
    counts, source, to = PhotoCounts(), source.resolve(), to.resolve()
    for name in names:
        outcome = _bring(name, source, to)
        setattr(counts, outcome, getattr(counts, outcome) + 1)
        advance(1)
    return counts


def _bring(name: str, source: Path, to: Path) -> str:
    if name.lower().startswith(("http://", "https://")):
        return "remote"
    try:
        photo, place = (source / name).resolve(), (to / name).parent.resolve() / Path(name).name
        if not photo.is_relative_to(source) or not place.is_relative_to(to) or place.suffix in _TABLES:
            return "refused"
        if not photo.is_file() or place.is_dir():
            return "not_found"
    except (OSError, ValueError):  # a name with a NUL byte, a loop of links, a name that is too long
        return "not_found"
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists() or not place.samefile(photo):
        _place(photo, place)
    return "copied"


def _place(photo: Path, place: Path) -> None:
    """Link or copy under a temporary name first, so that an interrupted import leaves no half photo."""
    part = place.with_name(f".{place.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(photo, part)
    except OSError:
        shutil.copyfile(photo, part)
    part.replace(place)
