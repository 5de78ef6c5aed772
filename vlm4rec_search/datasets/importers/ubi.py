"""Imports events of User Behavior Insights (JSON lines) into the log of events, from which a plan reads."""

import gzip
import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.events.event import Event, WrongEventError, parse_event
from vlm4rec_search.datasets.events.log import EventLog

_BATCH = 1_000  # events of one transaction
_PATTERNS = ("*events*.jsonl", "*events*.ndjson", "*events*.jsonl.gz", "*events*.ndjson.gz")


@dataclass(frozen=True)
class EventSummary:
    """What became of the events.

    Attributes:
        accepted: that were new.
        duplicates: whose ids were known.
        rejected: by reason, how many, with the first place.
    """

    accepted: int
    duplicates: int
    rejected: dict[str, str]


def import_events(source: Path, log: EventLog, nothing: Collection[str]) -> EventSummary:
    """Keep the events of a file, or of the files `*events*.jsonl` of a folder, each at the time when it happened.

    Lines may be events, or hits of a search whose `_source` they are; then `_id` is the event's id where it has none.

    Args:
        source: file or folder.
        log: keeps the events.
        nothing: see `parse_event`.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        RunError: the log cannot be written.
    """
    files = sorted({path for pattern in _PATTERNS for path in source.glob(pattern)}) if source.is_dir() else [source]
    if not files:
        raise UsageError(f"{source} holds no file of events: {', '.join(_PATTERNS[:2])}")
    accepted, total, batch = 0, 0, list[tuple[Event, str]]()
    reasons, places = Counter[str](), dict[str, str]()
    for path in files:
        for line, content in _lines(path):
            try:
                batch.append(parse_event(content, nothing))
                total += 1
            except WrongEventError as error:
                reasons[str(error)] += 1
                places.setdefault(str(error), f"{path.name}:{line}")
            if len(batch) == _BATCH:
                accepted += log.record(batch, as_happened=True)
                batch = []
    accepted += log.record(batch, as_happened=True) if batch else 0
    rejected = {reason: f"{count:,}, first {places[reason]}" for reason, count in reasons.most_common()}
    return EventSummary(accepted, total - accepted, rejected)


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number and the content of each line; what is no JSON is None."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield number, _content(text)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path} ({error})") from None


def _content(text: str) -> Any:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("_source"), dict):
        return content
    known = {"event_id": content["_id"]} if isinstance(content.get("_id"), str) else {}
    return {**known, **content["_source"]}
