"""The sentence of an explanation: the reasons for a hit in the order of what they added to its score."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from math import ceil

from vlm4rec_search.search.query import HistoryPart, WordPart

NAMED, PARTLY, MOSTLY = 0.05, 0.2, 0.6  # shares of the score from which on a reason is named, and how
REASONS = 3  # the most that a sentence tells
POPULAR = 3  # shoppers who chose an item before it is called popular
LATELY = 90  # days up to which a sentence names the time in which they chose it
ITEMS, WORDS = 2, 3  # the most items and words that a clause names
WEAK = 0.2  # share of the largest part under which a sentence does not name an item or a word
LONGEST_TITLE = 40  # characters


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for a hit.

    Attributes:
        clause: follows "because"; empty where there is nothing to say.
        added: to the hit's score.
    """

    clause: str
    added: float


def rank_reasons(reasons: Iterable[Reason]) -> list[tuple[str, float]]:
    """Return the clauses of a hit with their shares of what was added to its score, largest first.

    Reasons with the same clause are one reason. At most `REASONS` are returned, none of less than a twentieth, and none
    that took from the score.
    """
    added: dict[str, float] = defaultdict(float)
    for reason in reasons:
        added[reason.clause] += max(reason.added, 0.0)
    total = sum(added.values())
    named = [(clause, value / total) for clause, value in added.items() if clause and value > 0.0]
    return sorted([pair for pair in named if pair[1] >= NAMED], key=lambda pair: -round(pair[1], 6))[:REASONS]


def tell(named: Sequence[tuple[str, float]], notes: Iterable[str] = ()) -> str:
    """Return the sentence of a hit.

    "Mostly" stands for at least three fifths of the score, "a little" for less than a fifth behind another reason. A
    reason that is named alone needs no such word.

    Args:
        named: see `rank_reasons`.
        notes: predicates such as `is put last by a rule`, which follow the reasons.
    """
    if len(named) > 1:
        by_degree: dict[str, list[str]] = defaultdict(list)
        for place, (clause, share) in enumerate(named):
            by_degree[_degree(share, place)].append(f"because {clause}")
        clauses = [f"{degree} {list_names(of_degree, ', and')}" for degree, of_degree in by_degree.items()]
    else:
        clauses = [clause for clause, _ in named]
    clauses += [f"it {note}" for note in notes]
    sentence = "; ".join(clauses or ["nothing better is left"])
    return f"{sentence[0].upper()}{sentence[1:]}."


def _degree(share: float, place: int) -> str:
    if place == 0:  # which may be small where what added most has no words
        return "mostly" if share >= MOSTLY else "partly"
    return "also" if share >= PARTLY else "a little"


def resembles(parts: Sequence[HistoryPart], is_top: bool, place: str = "") -> str:
    """Return the clause of likeness to items.

    Args:
        parts: of the items, largest share first.
        is_top: few other items are as near to them.
        place: where they come from.
    """
    verb = "it resembles" if is_top else "it somewhat resembles"
    return _join(verb, _titles(parts), place and f"from {place}") if parts else ""


def is_nearest(place: str) -> str:
    """Return the clause of a hit that is nearer than others to the items of `place`, and like none of them."""
    return f"it is among the nearest to {_any_of(place)}"


def is_in(place: str) -> str:
    """Return the clause of a hit that is an item of `place` itself."""
    return f"it is in {place}"


def has_learned_likeness(parts: Sequence[HistoryPart], place: str = "") -> str:
    """Return the clause of likeness by learned vectors, largest share first."""
    if parts:
        return f"it has a learned likeness to {_titles(parts)}"
    return _join("it has a learned likeness", place and f"to items of {place}")


def is_near(text: str, is_top: bool) -> str:
    """Return the clause of nearness to the text of a query; `is_top` says that few other items are as near to it."""
    return f'it is {"among the nearest" if is_top else "somewhat near"} to "{shorten(text)}" in meaning'


def looks_like(title: str | None, is_top: bool) -> str:
    """Return the clause of likeness to a photo.

    Args:
        title: of the item whose photo it is, None for the photo of a caller.
        is_top: few other photos are as near to it.
    """
    photo = "the photo" if title is None else f'the photo of "{shorten(title)}"'
    return f"it {'looks' if is_top else 'somewhat looks'} like {photo}"


def has_words(parts: Sequence[WordPart]) -> str:
    """Return the clause of the words that a query's text and the hit have in common, largest share first."""
    return _join("it has the", _words(parts)) if parts else ""


def shares_words(parts: Sequence[WordPart], place: str = "") -> str:
    """Return the clause of the words that the items of `place` and the hit have in common, largest share first."""
    return _join("it shares the", _words(parts), place and f"with items of {place}") if parts else ""


def chosen_with(parts: Sequence[HistoryPart], place: str = "") -> str:
    """Return the clause of co-purchases, largest share first.

    A shop's events need not be purchases. The words hold for one other shopper and for many: a release does not say how
    many chose both.
    """
    return f"it was chosen together with {_titles(parts, ' or') or _any_of(place)}"


def goes_with(parts: Sequence[HistoryPart], place: str = "") -> str:
    """Return the clause of items that all shoppers' histories connect, largest share first."""
    return f"it goes with {_titles(parts) or _any_of(place)}"


def chosen_before(times: int, last_on: date) -> str:
    """Return the clause of an item of the history.

    Args:
        times: days on which the shopper took it.
        last_on: the last of them. The date is told and no age, which would be that of the release.
    """
    often = {1: "once", 2: "twice"}.get(times, f"{times} times")
    return f"you chose it {often}, {'' if times == 1 else 'most recently '}on {last_on.day} {last_on:%B %Y}"


def is_popular(score: float, is_top: bool, group: str = "", days: float | None = None) -> str:
    """Return the clause of popularity.

    Args:
        score: how many shoppers of the group chose the item in these days; without a group how many did so for the
            first time, where the part below the point only orders equal counts.
        is_top: the item is in the upper part of the popularity ranking.
        group: of the shoppers or items among which it is counted, with its preposition.
        days: before the latest event that count; None where they are not known. They are told up to `LATELY`.
    """
    count = int(score)
    if count == 0:
        return "it was chosen before" if score > 0.0 else ""  # the part below the point does not say by how many
    within = f"in the last {ceil(days)} days" if days is not None and 1 < days <= LATELY else ""
    first = "first" if within and not group else ""
    chosen = _join(f"{count:,} {'shopper' if count == 1 else 'shoppers'}", first, "chose it", within)
    return _join("it is popular", group, f"({chosen})") if is_top and count >= POPULAR else chosen


def named_parts(parts: Sequence[HistoryPart]) -> Sequence[HistoryPart]:
    """Return the parts that a clause names: the first `ITEMS`, without those of less than `WEAK` of the largest."""
    return [part for part in parts[:ITEMS] if part.share >= WEAK * parts[0].share]


def shorten(title: str) -> str:
    """Return a title of at most `LONGEST_TITLE` characters, cut behind a word where there is one in its second half."""
    title = " ".join(title.split())
    if len(title) <= LONGEST_TITLE:
        return title
    kept = title[: LONGEST_TITLE - 1]
    last_space = title.rfind(" ", LONGEST_TITLE // 2, LONGEST_TITLE)
    return (kept if last_space < 0 else kept[:last_space]).rstrip(" ,;:-/(") + "…"


def list_names(names: Sequence[str], last: str = " and") -> str:
    """Return names as a list in words, empty without names; `last` stands before the last one."""
    return f"{last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _titles(parts: Sequence[HistoryPart], last: str = " and") -> str:
    """Return the titles of the parts that matter; two items may have the same title."""
    titles = [f'"{shorten(part.title)}"' for part in named_parts(parts)]
    return list_names(list(dict.fromkeys(titles)), last)


def _any_of(place: str) -> str:
    """Return the items of a place in words; without a place there is one item, which the reader knows."""
    return f"items of {place}" if place else "the item"


def _words(parts: Sequence[WordPart]) -> str:
    words = [f'"{part.word}"' for part in parts[:WORDS] if part.share >= WEAK * parts[0].share]
    return f"{'word' if len(words) == 1 else 'words'} {list_names(words)}"


def _join(*phrases: str) -> str:
    return " ".join(phrase for phrase in phrases if phrase)
