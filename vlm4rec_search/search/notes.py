"""Says where an answer is not what the caller may expect: nothing fits, another tier answers, a server was too slow."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from vlm4rec_search.common.errors import Vlm4recError
from vlm4rec_search.embeddings.encoders import describe_image_encoder
from vlm4rec_search.search.backend import Reader, UnavailableError
from vlm4rec_search.search.filters import suggest_values
from vlm4rec_search.search.hits import Found, find_hits
from vlm4rec_search.search.model import Facts, Plan
from vlm4rec_search.search.query import Query, Tier
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.release import ReleaseMeta
from vlm4rec_search.search.rules import Rule

Planner: TypeAlias = Callable[[Reader, Query], tuple[Facts, Plan]]

_NAMED = 3  # filters, rules or items of a note
_SEEN_AMONG = "; items that the shopper has seen may be among them"


def note_answer(
    reader: Reader,
    facts: Facts,
    plan: Plan,
    found: Found,
    missing: Sequence[str],
    make: Planner,
    ranking: Ranking,
) -> str | None:
    """Return what the caller of a search may not expect, None where there is nothing to say.

    Args:
        reader: of the release that answered.
        facts: of the query.
        plan: that was followed.
        found: its hits.
        missing: items of the session that the release does not have.
        make: makes the facts and the plan of another query, for what would have been found.
        ranking: that made the plan.
    """
    query = plan.query
    too_low = None if found.hits else _note_min_score(reader, facts, plan)
    dropped = None if found.hits or too_low else _note_dropped(found.dropped_by)
    nothing_left = None if found.hits or too_low or dropped else _note_nothing_left(reader, query, facts, make)
    told = found.hits or too_low or dropped or nothing_left or found.failed
    nothing_fits = None if told else _note_nothing_fits(reader, query)
    fallback = None if found.failed else _note_fallback(plan, facts, reader.release)
    fallback = fallback or _note_own_weights(plan, ranking, reader.release)
    photo = _note_photo(reader.release) if query.has_photo else None
    notes = [too_low or dropped or nothing_left or fallback, nothing_fits, photo, _note_missing_items(missing)]
    return "; ".join(note for note in notes if note) or None


def describe_failures(query: Query, facts: Facts, failed: Sequence[str]) -> str | None:
    """Return for what a server did not answer in time, None where it answered all."""
    if not failed:
        return None
    unknown = bool(facts.failed) and query.user is not None and not query.include_seen
    return f"the server did not answer in time for {', '.join(failed)}{_SEEN_AMONG if unknown else ''}"


def describe_substitute(query: Query, facts: Facts | None, error: UnavailableError) -> str:
    """Return why an answer is what is popular; `facts` is None where the server did not give them in time."""
    unknown = (facts is None or bool(facts.failed)) and query.user is not None and not query.include_seen
    whatever = f", whatever the {'text' if query.text is not None else 'photo'}" if query.has_text_or_photo else ""
    popular = f"so the answer is what is popular with all shoppers{whatever}"
    return f"{error}, {popular}{_SEEN_AMONG if unknown else ''}"


def _note_min_score(reader: Reader, facts: Facts, plan: Plan) -> str | None:
    """Return a note where the answer is empty because no hit reaches the minimum score."""
    if plan.min_score is None:
        return None
    without = replace(plan, min_score=None, query=replace(plan.query, k=1, explain=False))
    try:
        best = find_hits(reader, facts, without).hits
    except Vlm4recError as error:  # the answer stands without it
        asked = f"nothing reaches the minimum score {plan.min_score:g}"
        return f"{asked}, and whether anything has a lower one could not be checked: {error}"
    if not best:
        return None
    return f"no hit reaches the minimum score {plan.min_score:g}: the best has {best[0].score:.4f}"


def _note_dropped(rules: Sequence[Rule]) -> str | None:
    """Return a note where the answer is empty because business rules drop all that was found."""
    if not rules:
        return None
    named = [
        (each.filter or f"items {_list(each.items)}") + (f" ({each.reason})" if each.reason else "") for each in rules
    ]
    return f"business rules drop everything that was found: {_list(named)}"


def _list(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return f"{', '.join(texts[:_NAMED])}{more}"


def _note_nothing_left(reader: Reader, query: Query, facts: Facts, make: Planner) -> str | None:
    """Return a note where the answer is empty because the shopper has seen every item that fits."""
    if facts.user is None or query.include_seen:
        return None
    with_seen = replace(query, include_seen=True, explain=False, k=1)
    try:
        if not find_hits(reader, *make(reader, with_seen)).hits:
            return None
    except Vlm4recError as error:  # the answer stands without it
        return f"nothing fits, and whether user {query.user} has seen what fits could not be checked: {error}"
    fewer = ", or use fewer filters" if query.filters else ""
    return f"user {query.user} has seen every item that fits: include seen items{fewer}"


def _note_nothing_fits(reader: Reader, query: Query) -> str:
    """Return a note where the answer is empty and neither a minimum score nor the history is the cause."""
    if not query.filters:
        others = {"other words": query.text is not None, "another mode": query.mode != "hybrid"}
        advice = " or ".join(name for name, helps in others.items() if helps)
        return f"nothing fits: use {advice}" if advice else "nothing fits"
    written = [each if isinstance(each, str) else f"{each.field}=..." for each in query.filters]
    nothing = f"nothing fits {_list(written)}"
    try:
        unmet = next((each for each in query.conditions if each.values and not reader.has_match(each)), None)
        if unmet is None:
            return f"{nothing}: use fewer filters"
        hint = suggest_values(unmet, reader.values(unmet.field))
    except Vlm4recError as error:  # the answer stands without it
        return f"{nothing}, and whether any item has these values could not be checked: {error}"
    return f"no item has {_list([f'{unmet.field}={value}' for value in unmet.values])}{hint and f' ({hint})'}"


def _note_photo(release: ReleaseMeta) -> str:
    """Return a note on what likeness of photos is."""
    return f"likeness of photos is that of {describe_image_encoder(release.image_encoder or '')}"


def _note_missing_items(missing: Sequence[str]) -> str | None:
    """Return a note about the session's items that the release does not have."""
    return f"items that the release does not have are ignored: {', '.join(missing[:5])}" if missing else None


_WITH_SESSION = {
    "text": "what fits the text and goes with the items of the session",
    "photo": "what looks like the photo and goes with the items of the session",
}
_ANSWERED_WITH: dict[Tier, str] = {
    "session": "what goes with the items of the session",
    "text": "what fits the text alone",
    "photo": "what looks like the photo alone",
    "segment": "what is popular in the user's segment of shoppers",
    "category": "what is popular in the category",
    "popularity": "what is popular with all shoppers",
}


def _note_fallback(plan: Plan, facts: Facts, release: ReleaseMeta) -> str | None:
    """Return a note where the answer uses neither the shopper's profile nor, without a shopper, the session."""
    query = plan.query
    if query.user is None:
        if not query.items or plan.tier in ("session", "text", "photo"):
            return None
        return f"a {query.mode} search finds nothing for these items, so the answer is {_answered_with(plan)}"
    if plan.uses_profile or plan.tier == "profile" or (facts.user is not None and plan.tier in ("text", "photo")):
        return None
    reason = f"user {query.user} has no history that a {query.mode} search can use"
    if facts.user is None:
        reason = f"user {query.user} is not known"
    elif query.mode == "fitted" and release.fitted is None:
        reason = "the release has no learned vectors, which `vlm4rec fit` makes"
    elif plan.profile_skipped:
        reason = f"the ranking puts the {plan.tier} before the profile of user {query.user}"
    return f"{reason}, so the answer is {_answered_with(plan)}"


def _note_own_weights(plan: Plan, ranking: Ranking, release: ReleaseMeta) -> str | None:
    """Return a note where a profile or a session answers, but by nothing that the ranking weighs."""
    if not plan.own_weights or plan.query.mode != "hybrid" or plan.query.weights or plan.query.has_text_or_photo:
        return None
    if plan.tier not in ("profile", "session"):
        return None
    subject = f"user {plan.query.user}" if plan.uses_profile else "the session"
    reason = (
        ranking.describe_missing(release) or f"the ranking {ranking.version} weighs nothing that is known of {subject}"
    )
    return f"{reason}, so the other retrievers answer"


def _answered_with(plan: Plan) -> str:
    if plan.tier == "category" and not any(condition.field == "category" for condition in plan.query.conditions):
        return "what is popular in the categories that the user likes"
    if plan.tier == "session" and plan.query.has_text_or_photo:
        return _WITH_SESSION["photo" if plan.query.text is None else "text"]
    return _ANSWERED_WITH[plan.tier]
