"""What an import tells about the values of a log: kinds of events without a weight, and ratings of 0."""

import csv
import json
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import duckdb

from vlm4rec_search.common.sql import quote_text
from vlm4rec_search.datasets.declarations import Values
from vlm4rec_search.datasets.events.event import kind_of

_WEIGHTS = Path("models/profiles/event_weights.csv")
_MOST = 1_000  # different texts of a column, the most frequent ones
_SHOWN = 5  # kinds in a message
_MANY_ZEROS = 0.1  # share of all ratings; where 0 is the worst rating, few are


def weighted_kinds(project: Path | None) -> frozenset[str]:
    """Return the kinds of events with a row in the project's `event_weights.csv`; empty without such a file."""
    if project is None or not (project / _WEIGHTS).is_file():
        return frozenset()
    with (project / _WEIGHTS).open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return frozenset(row["event_type"] for row in csv.DictReader(file) if row.get("event_type"))


def log_warnings(log: duckdb.DuckDBPyRelation, values: Values, weighted: Collection[str], contract: Path) -> list[str]:
    """Return a line about kinds of events without a weight, and one about many ratings of 0.

    Args:
        log: the rows to write; event_type and value, if it has them, are texts.
        values: how they are understood.
        weighted: the kinds of events with a weight; where it is empty, no kind is told.
        contract: the file in which more can be declared.
    """
    words = _counts(log, "event_type") if "event_type" in log.columns else {"": log.shape[0]}
    nothing = frozenset({"", *values.words_for_nothing("event_type")})
    kinds = {word: "interaction" if word in nothing else kind_of(word, values.events) for word in words}
    warnings = _unknown_kinds(words, kinds, weighted, contract) if weighted else []
    rated = {kind_of(word, values.events) for word in values.rating_events}
    if "value" in log.columns and (of_ratings := [word for word, kind in kinds.items() if kind in rated]):
        if "event_type" in log.columns:
            log = log.filter(f"COALESCE(TRIM(event_type), '') IN ({', '.join(map(quote_text, of_ratings))})")
        warnings += _zero_ratings(_counts(log, "value"), frozenset({"", *values.words_for_nothing("value")}), contract)
    return warnings


def _counts(log: duckdb.DuckDBPyRelation, column: str) -> dict[str, int]:
    """Return how often a column has its most frequent texts; NULL counts as the empty one."""
    counts = log.aggregate(f"COALESCE(TRIM({column}), '') AS word, COUNT(*) AS n").order("n DESC, word")
    return dict(counts.limit(_MOST).fetchall())


def _unknown_kinds(
    words: Mapping[str, int], kinds: Mapping[str, str], weighted: Collection[str], contract: Path
) -> list[str]:
    unknown = Counter[str]()
    for word, rows in words.items():
        if kinds[word] not in weighted:
            unknown[kinds[word]] += rows
    if not unknown:
        return []
    named = ", ".join(f"{kind} ({rows:,})" for kind, rows in unknown.most_common(_SHOWN))
    more = ", ..." if len(unknown) > _SHOWN else ""
    ((example, _),) = unknown.most_common(1)
    return [
        f"events of kinds without a weight count as `default`: {named}{more}; say which known kinds they are, such as"
        f" `values: {{events: {{{example}: view}}}}` in {contract}, or add them to {_WEIGHTS}"
    ]


def _zero_ratings(words: Mapping[str, int], nothing: Collection[str], contract: Path) -> list[str]:
    ratings = {}
    for word in words.keys() - nothing:
        with suppress(ValueError):  # refused later
            ratings[word] = float(word.replace(",", "."))
    zeros = [word for word, rating in ratings.items() if rating == 0]
    number, zero = sum(words[word] for word in ratings), sum(words[word] for word in zeros)
    if zero < _MANY_ZEROS * number or max(ratings.values(), default=0) <= 1:  # ratings of 0 and 1 are thumbs
        return []
    # What is declared takes the place of the usual words.
    declared = json.dumps(sorted([*zeros, *(word for word in words.keys() & nothing if word)]), ensure_ascii=False)
    return [
        f"the rating is 0 in {zero:,} of {number:,} rows, which is a dislike; if 0 means that nobody rated, declare"
        f" `values: {{nothing: {{value: {declared}}}}}` in {contract}, which makes them neutral;"
        " purchases of 0 pieces then count once"
    ]
