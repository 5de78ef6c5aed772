"""What the page shows: the state that an address holds, shoppers, cards of hits, and numbers in words."""

import csv
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import unified_diff
from functools import lru_cache
from io import StringIO
from math import isnan
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from vlm4rec_search.common.errors import UsageError, Vlm4recError
from vlm4rec_search.common.paths import read_text
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.common.yaml_files import describe_validation_error
from vlm4rec_search.search.backend import AccessError, Reader, UnavailableError
from vlm4rec_search.search.model import Document, User
from vlm4rec_search.search.query import KINDS, Answer, Hit, RetrieverPart
from vlm4rec_search.serve.schemas import RecommendRequest, SearchRequest
from vlm4rec_search.serve.service import Service

logger = logging.getLogger(__name__)
T = TypeVar("T")
SAMPLE, KNOWN_IDS = 120, 5_000  # shoppers that the start shows in groups, and whose ids are searched
_TOP = 3  # items of each of them
LONGEST_VALUE, MOST_FILTERS = 1_000, 20
HITS = 12  # of an answer where nobody asks for another number
SHOWN_EVENTS = 60
_COUNTED, _VALUES = 4, 8  # fields whose values are counted, and values of each
SINGLE = (
    *("user", "text", "items", "mode", "k", "diversity", "per_category", "scenario", "include_seen"),
    *("release", "ranking", "mode_b", "release_b", "ranking_b"),
)
"""Names of the parts of an address that stand once."""
OTHER_SIDE = ("mode", "release", "ranking")
PARTS = {
    "profile": "taste of the history",
    "interest": "one interest of the history",
    "session": "likeness to this visit",
    "text": "meaning of the text",
    "words": "shared words",
    "photo": "likeness to the photo",
    "co-purchase": "chosen together",
    "ease": "goes with the history",
    "shoppers": "similar shoppers",
    "fitted": "learned likeness",
    "popularity": "popular",
    "buy-again": "bought before",
}
"""What a reader sees for the name of a retriever."""
_OF_VISIT = {
    "words": "words shared with this visit",
    "co-purchase": "chosen together with this visit",
    "ease": "goes with this visit",
    "fitted": "learned likeness to this visit",
}
"""And where it is of the session."""


def visit_address(item_id: str) -> str:
    """Return the address of an answer for a visit that begins with an item."""
    record = StringIO()
    csv.writer(record, lineterminator="").writerow([item_id])
    return f"/look?{urlencode({'items': record.getvalue()})}"


def _read_ids(text: str) -> list[str]:
    """Return the ids of a record of CSV: one with a comma stands in quotes."""
    row = next(csv.reader([" ".join(text.split())], skipinitialspace=True), [])
    return [item.strip() for item in row if item.strip()]


class State:
    """The part of an address behind `?`: everything that an answer depends on but the index and the rules."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Keep the known names; empty values are left out.

        Raises:
            UsageError: a value is too long, or there are too many filters.
        """
        weights = [f"w_{kind}" for kind in KINDS]
        found = {name: value.strip() for name, value in pairs if name in SINGLE or name in weights}
        filters = [value.strip() for name, value in pairs if name == "filter" and value.strip()]
        self.values = {name: value for name, value in found.items() if value}
        self.filters = list(dict.fromkeys(filters))
        if any(len(value) > LONGEST_VALUE for value in (*self.values.values(), *self.filters)):
            raise UsageError(f"a field of the form has more than {LONGEST_VALUE:,} characters")
        if len(self.filters) > MOST_FILTERS:
            raise UsageError(f"use at most {MOST_FILTERS} conditions")

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, "")

    def address(self, path: str = "/look", **changes: object) -> str:
        """Return an address with some values changed; "" or None removes one."""
        values = {**self.values, **{name: "" if value is None else str(value) for name, value in changes.items()}}
        pairs = [(name, value) for name, value in values.items() if value]
        return f"{path}?{urlencode([*pairs, *(('filter', value) for value in self.filters)])}"

    def with_filter(self, condition: str) -> str:
        """Return the address with one more condition."""
        return f"{self.address()}&{urlencode({'filter': condition})}"

    def without_filter(self, condition: str) -> str:
        """Return the address without a condition."""
        rest = [("filter", each) for each in self.filters if each != condition]
        return f"/look?{urlencode([*self.values.items(), *rest])}"

    @property
    def has_subject(self) -> bool:
        """Whether there is a shopper, a text or a visit to answer."""
        return any(self[name] for name in ("user", "text", "items"))

    @property
    def has_other_side(self) -> bool:
        """Whether a second answer stands beside the first."""
        return any(self[f"{name}_b"] for name in OTHER_SIDE)

    def options(self, fields: Sequence[str] = (), *, is_other: bool = False) -> dict[str, Any]:
        """Return the request of an answer.

        Args:
            fields: whose values are counted.
            is_other: the second answer, which differs in mode, release or ranking.

        Raises:
            UsageError: a value cannot be read.
        """
        body: dict[str, Any] = {"explain": True, "k": HITS, "filters": self.filters or None, "count": list(fields)}
        for name in ("user", "text", "mode", "k", "diversity", "per_category", "scenario", "release", "ranking"):
            if self[name]:
                body[name] = self[name]
        if is_other:
            body |= {name: self[f"{name}_b"] for name in OTHER_SIDE if self[f"{name}_b"]}
        if self["scenario"] and not self["k"]:
            del body["k"]
        if self["include_seen"]:
            body["include_seen"] = True
        if self["items"]:
            body["items"] = _read_ids(self["items"])
        if weights := {kind: self[f"w_{kind}"] for kind in KINDS if self[f"w_{kind}"]}:
            body["weights"] = weights
        try:
            model = SearchRequest if self["text"] else RecommendRequest
            return model.model_validate(body).model_dump(exclude_none=True)
        except ValidationError as error:
            raise UsageError(describe_validation_error(error)) from None


@dataclass(frozen=True)
class Shopper:
    """A shopper of the start: id, segment, number of items in the profile, and the items with the largest weights.

    Attributes:
        documents: of those of the items that the index has.
    """

    user_id: str
    segment: str | None
    items: int
    top: list[str]
    categories: list[str]
    documents: list[Document]

    @property
    def group(self) -> str:
        """long, short or none: how much history the shopper has."""
        return "none" if not self.items else "short" if self.items < 6 else "long"


@dataclass(frozen=True)
class Event:
    """A step of a history: item and weight in the profile, and from the tables what happened and when."""

    item_id: str
    weight: float | None
    event_type: str | None = None
    at: datetime | None = None


@dataclass(frozen=True)
class ScorePart:
    """One retriever's part in a hit: what it is, what it adds, its share, its rank there, and where its bar stands.

    `left` and `width` are in percent of the bar of the best hit.
    """

    name: str
    kind: str
    contribution: float
    share: float
    rank: int | None
    left: float
    width: float


@dataclass(frozen=True)
class Card:
    """A hit with what the release says of the item.

    Attributes:
        hit: of the answer.
        document: of its item.
        parts: largest first.
        other_rank: its rank in the answer beside it, None where that has no such item.
        judgment: 1, 0 or None.
    """

    hit: Hit
    document: Document | None
    parts: list[ScorePart]
    other_rank: int | None = None
    judgment: int | None = None

    @property
    def move(self) -> int:
        """By how many ranks the item stands higher here than in the other answer."""
        return 0 if self.other_rank is None else self.other_rank - self.hit.rank


def unless_away(ask: Callable[[], T], otherwise: T) -> T:
    """Return what an index says, something else while it does not answer: a degraded answer is shown without it."""
    try:
        return ask()
    except (AccessError, UnavailableError) as error:
        logger.warning("the page lacks what the index does not answer: %s", error)
        return otherwise


def documents_of(reader: Reader, item_ids: Sequence[str]) -> Mapping[str, Document]:
    """Return the documents of items by their ids, none while the index does not answer."""
    return unless_away(lambda: reader.documents(item_ids), {})


def have_photos(documents: Iterable[Document | None]) -> bool:
    """Return whether a page leaves room for photos: one of its documents has one, or none was read."""
    read = [document for document in documents if document is not None]
    return not read or any(document["image"] for document in read)


def make_cards(
    answer: Answer, reader: Reader, other: Answer | None = None, judgments: Mapping[str, int] | None = None
) -> list[Card]:
    """Return the cards of an answer, beside another one or alone."""
    documents = documents_of(reader, [hit.item_id for hit in answer.hits])
    ranks = {hit.item_id: hit.rank for hit in other.hits} if other else {}
    best = max((hit.score for hit in answer.hits), default=0.0)
    judged = judgments or {}
    return [
        Card(
            hit,
            documents.get(hit.item_id),
            _parts(hit, best),
            ranks.get(hit.item_id),
            judged.get(hit.item_id),
        )
        for hit in answer.hits
    ]


def _parts(hit: Hit, best: float) -> list[ScorePart]:
    if hit.explanation is None:
        return []
    added = [(_label(leg), leg.kind, leg.contribution, leg.rank) for leg in hit.explanation.legs]
    added.append(("a boost by a rule", "boost", hit.explanation.boosted, None))
    added = sorted((part for part in added if part[2]), key=lambda part: -part[2])
    total = sum(contribution for _, _, contribution, _ in added)
    raised = sum(max(0.0, contribution) for _, _, contribution, _ in added)
    # What lowers a hit has no length: the other parts share the length of the score.
    length = 100.0 * max(0.0, hit.score) / best if best > 0 else 0.0
    parts, left = [], 0.0
    for name, kind, contribution, rank in added:
        width = length * max(0.0, contribution) / raised if raised else 0.0
        parts.append(ScorePart(name, kind, contribution, contribution / total if total else 0.0, rank, left, width))
        left += width
    return parts


def _label(leg: RetrieverPart) -> str:
    label = PARTS.get(leg.name, leg.name)
    return _OF_VISIT.get(leg.name, label) if leg.origin == "session" else label


class Shop:
    """Looks up what the page shows beside answers; several threads may use it at once.

    `ids` and `sample` are kept for a release, and may name shoppers who were forgotten since: show what `still` leaves.
    """

    def __init__(self, service: Service) -> None:
        """Read from the releases of a service, and from the published copy of the tables where there is one."""
        self.service = service
        settings = service.settings
        self._copy = settings.published / settings.warehouse.name
        self._ids, self._sample = lru_cache(2)(self._read_ids), lru_cache(2)(self._read_sample)

    def ids(self) -> Sequence[str]:
        """Return the ids of up to `KNOWN_IDS` shoppers of the live release; a backend lists a sample, not all."""
        return self._ids(self.service.index.release.name)

    def sample(self) -> list[Shopper]:
        """Return up to `SAMPLE` shoppers of the live release."""
        return self._sample(self.service.index.release.name)

    def still(self, user_ids: Sequence[str]) -> list[str]:
        """Return the shoppers whom the live release still has."""
        known = self.service.reader().known_users(user_ids)
        return [user_id for user_id in user_ids if user_id in known]

    def _read_ids(self, release: str) -> Sequence[str]:
        return self.service.all_releases.users(release, KNOWN_IDS)

    def _read_sample(self, release: str) -> list[Shopper]:
        reader = self.service.reader(release)
        found = [reader.user(user_id) for user_id in self._ids(release)[:SAMPLE]]
        users = [user for user in found if user is not None]
        tops = [sorted(user.history, key=lambda item: -user.history[item])[:_TOP] for user in users]
        documents = reader.documents(list(dict.fromkeys(item for top in tops for item in top)))
        return [
            Shopper(
                user.user_id,
                user.segment,
                len(user.history),
                top,
                list(user.categories),
                [documents[item] for item in top if item in documents],
            )
            for user, top in zip(users, tops, strict=True)
        ]

    def counted_fields(self, reader: Reader) -> list[str]:
        """Return the fields whose values are counted beside an answer."""
        return ["category", *sorted(set(reader.fields) - {"category", "price", "available"})][:_COUNTED]

    def history(self, user: User) -> tuple[list[Event], bool]:
        """Return a shopper's history, the latest event first, and whether it is in the order of time.

        The order comes from the published copy of the tables. A release alone knows weights, not days: the heaviest
        item is first then.
        """
        query = """
            SELECT item_id, event_type, interacted_at FROM histories.user_histories
            WHERE user_id = ? ORDER BY position DESC LIMIT ?
        """
        rows = self._query(query, user.user_id, SHOWN_EVENTS)
        if rows:
            return _merged(Event(item, user.history.get(item), kind, at) for item, kind, at in rows), True
        weighted = sorted(user.history.items(), key=lambda pair: -pair[1])
        others = [item for item in user.seen if item not in user.history]
        events = [Event(item, weight) for item, weight in weighted] + [Event(item, None) for item in others]
        return events[:SHOWN_EVENTS], False

    def captions(self, item_id: str) -> list[dict[str, Any]]:
        """Return the captions of an item by every captioner, the active one first, from the published copy."""
        query = """
            SELECT captioner, active, status, caption, error FROM captions.all_captions
            WHERE item_id = ? ORDER BY active DESC, captioner
        """
        names = ("captioner", "active", "status", "caption", "error")
        return [dict(zip(names, row, strict=True)) for row in self._query(query, item_id)]

    def shown_to(self, item_id: str, release: str) -> tuple[list[tuple[str, int]], int]:
        """Return the shoppers whose first ten have an item, with its rank, and the size of the sample of shoppers.

        Both come from the published copy; the size is 0 where it knows nothing of the release.
        """
        shoppers = "SELECT user_id, rank FROM shown.top_lists WHERE item_id = ? AND release = ? ORDER BY rank, user_id"
        size = "SELECT COUNT(DISTINCT user_id) FROM shown.top_lists WHERE release = ?"
        counted = self._query(size, release)
        return [(user, rank) for user, rank in self._query(shoppers, item_id, release)], counted[0][0] if counted else 0

    def _query(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return rows of the published copy, none where it lacks the table or is missing."""
        if not self._copy.is_file():
            return []
        try:
            with read(self._copy) as connection:
                return connection.execute(query, parameters).fetchall()
        except Vlm4recError:  # an older copy; the page goes on without
            return []


def _merged(events: Iterable[Event]) -> list[Event]:
    """Join what happened to one item in a row, the latest event first: view, cart, purchase."""
    merged: list[Event] = []
    for event in events:
        if merged and merged[-1].item_id == event.item_id:
            kinds = (merged[-1].event_type or "").split(", ")
            if event.event_type and event.event_type not in kinds:
                merged[-1] = replace(merged[-1], event_type=", ".join([event.event_type, *kinds]))
        else:
            merged.append(event)
    return merged


def legend(cards: Iterable[Card]) -> list[tuple[str, str]]:
    """Return the kinds of parts that the bars of some cards show, each with its names."""
    names: dict[str, list[str]] = {}
    for part in (part for card in cards for part in card.parts):
        of_kind = names.setdefault(part.kind, [])
        if part.name not in of_kind:
            of_kind.append(part.name)
    return [(kind, ", ".join(of_kind)) for kind, of_kind in names.items()]


def diff_lines(before: str, after: str) -> list[tuple[str, str]]:
    """Return the lines of a unified diff, each with add, remove, place or same."""
    kinds = {"+": "add", "-": "remove", "@": "place"}
    lines = list(unified_diff(before.splitlines(), after.splitlines(), "now", "after", lineterm=""))[2:]
    return [(kinds.get(line[:1], "same"), line) for line in lines]


def read_rules_text(path: Path | None) -> str:
    """Return the text of the file of rules, "" where there is none.

    Raises:
        UsageError: it cannot be read.
    """
    return read_text(path, "the rules in") if path and path.exists() else ""


@dataclass(frozen=True)
class Traffic:
    """Requests of one address since the process began."""

    endpoint: str
    requests: int
    failed: int
    mean_ms: float


def summarise_metrics(registry: CollectorRegistry) -> tuple[list[Traffic], dict[str, int], dict[str, float]]:
    """Return requests by address, answers by tier, and single numbers by name, among them `events accepted`."""
    counts: dict[str, list[float]] = {}
    tiers: dict[str, int] = {}
    numbers: dict[str, float] = {}
    for family in registry.collect():
        for sample in family.samples:
            endpoint, status = sample.labels.get("endpoint", ""), sample.labels.get("status", "")
            if sample.name == "vlm4rec_request_seconds_count" and endpoint.startswith("/v1"):
                row = counts.setdefault(endpoint, [0, 0, 0.0])
                row[0] += sample.value
                row[1] += sample.value if status.startswith("5") else 0
            elif sample.name == "vlm4rec_request_seconds_sum" and endpoint.startswith("/v1"):
                counts.setdefault(endpoint, [0, 0, 0.0])[2] += sample.value
            elif sample.name == "vlm4rec_answers_total":
                tier = sample.labels.get("tier", "")
                tiers[tier] = tiers.get(tier, 0) + int(sample.value)
            elif sample.name == "vlm4rec_events_total":
                numbers[f"events {sample.labels['outcome']}"] = sample.value
            elif not sample.labels:
                numbers[sample.name] = sample.value
    traffic = [
        Traffic(endpoint.replace(":path}", "}"), int(requests), int(failed), 1000.0 * seconds / requests)
        for endpoint, (requests, failed, seconds) in sorted(counts.items())
        if requests
    ]
    return traffic, tiers, numbers


def describe_age(seconds: float) -> str:
    """Return an age in the unit in which a person would say it."""
    if isnan(seconds):
        return "not known"
    hours = seconds / 3600.0
    return f"{seconds / 60.0:.0f} min" if hours < 1 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.0f} days"


def shown_counts(counts: Mapping[str, Mapping[str, int]]) -> dict[str, list[tuple[str, int]]]:
    """Return the most frequent values of each field that has more than one."""
    return {field: list(values.items())[:_VALUES] for field, values in counts.items() if len(values) > 1}
