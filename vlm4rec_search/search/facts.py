"""Looks up what a release knows about the subject of a query."""

from collections.abc import Callable
from dataclasses import replace

from vlm4rec_search.common.analyzer import load_analyzer
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.search.backend import Reader, UnavailableError
from vlm4rec_search.search.model import Facts, User, Vector
from vlm4rec_search.search.planning import (
    add_neighbours,
    early_request,
    fallback_segments,
    neighbour_kinds,
    neighbour_starts,
)
from vlm4rec_search.search.query import Query
from vlm4rec_search.search.ranking import Ranking
from vlm4rec_search.search.retrievers import session_profile, without_hidden

SUBJECT = "what the shopper likes and has seen"
"""What is missing in `Facts.failed` where a server did not answer for the shopper or the session."""


class UnknownItemsError(UsageError):
    """The release has no item of a session that has nothing else to go by, or not the item whose photo is meant."""


def look_up(
    reader: Reader,
    query: Query,
    ranking: Ranking,
    encode: Callable[[str], Vector],
    encode_photo: Callable[[bytes], Vector],
) -> Facts:
    """Read the facts that a plan for the query needs, and nothing more.

    Args:
        reader: reads the release.
        query: the query.
        ranking: decides whether co-purchases and the segments of the fallback chain are needed.
        encode: returns the unit vector of a text.
        encode_photo: returns the unit vector of the bytes of a photo.

    Raises:
        UnknownItemsError: the release has no item of a session that has nothing else to go by, or not the item whose
            photo is meant.
        UsageError: the text or photo cannot be encoded, or the release or the item has no vector of a photo.
        UnavailableError: a server does not answer in time, and there is no text or photo that can be answered without
            it.
    """
    photo_vector, photo_title = _photo(reader, query, encode_photo)
    facts = Facts(photo_vector=photo_vector, photo_title=photo_title, analyzer=load_analyzer(reader.release.analyzer))
    try:
        user, session = _subject(reader, query, ranking)
        facts = replace(facts, user=user, session=session)
    except UnavailableError:
        if not query.has_text_or_photo:
            raise
        facts = replace(facts, failed=(SUBJECT,))
    kinds = neighbour_kinds(query, facts, ranking)
    if kinds and (starts := neighbour_starts(facts)):
        # The profile's retrievers are known already: a server searches for them while it reads the neighbours.
        reader.prefetch(early_request(query, facts, ranking))
        facts = add_neighbours(query, facts, kinds, reader.neighbours(starts, kinds))
    if query.text is not None and query.mode in ("hybrid", "semantic"):
        return replace(facts, text_vector=encode(query.text))
    return with_segment(reader, query, facts, ranking)


def _subject(reader: Reader, query: Query, ranking: Ranking) -> tuple[User | None, User | None]:
    """Return the shopper and the session."""
    user = None if query.user is None else reader.user(query.user, interests=ranking.by_interest)
    session = _session(reader, query)
    if not query.hidden:
        return user, session
    hidden = list(reader.items(list(dict.fromkeys(query.hidden))).values())
    return user and without_hidden(user, hidden), session and without_hidden(session, hidden)


def with_segment(reader: Reader, query: Query, facts: Facts, ranking: Ranking) -> Facts:
    """Return the facts with the popular items of the first known segment that the fallback chain needs."""
    for segment in fallback_segments(query, facts, ranking):
        if items := reader.popular(segment):
            return replace(facts, popular={segment: items})
    return facts


def _photo(
    reader: Reader, query: Query, encode: Callable[[bytes], Vector]
) -> tuple[Vector, str | None] | tuple[None, None]:
    """Return the vector of the query's photo, and the title of its item; None without a photo."""
    if not query.has_photo:
        return None, None
    release = reader.release
    if release.image_encoder is None:
        raise UsageError(
            f"the release {release.name} has no vectors of photos: set VLM4REC_INDEX_PHOTOS=true and publish again with"
            " `vlm4rec index`"
        )
    if query.photo is not None:
        return encode(query.photo), None
    name = str(query.photo_of)
    item = reader.items([name], photos=True).get(name)
    if item is None:
        raise UnknownItemsError(f"the release {release.name} does not have the item {name}")
    if item.photo is None:
        raise UsageError(f"the item {name} has no readable photo: captions.all_captions says why")
    return item.photo, item.title


def _session(reader: Reader, query: Query) -> User | None:
    named = [*query.items, *(item for item in query.recent if item not in query.hidden)]
    if not named:
        return None
    items = reader.items(list(dict.fromkeys(named)), words=True)
    if not items and query.user is None and not query.has_text_or_photo:
        missing = ", ".join(query.items[:5])
        raise UnknownItemsError(f"no item of the session is in the release {reader.release.name}: {missing}")
    if not items:
        return None
    profile = session_profile(list(items.values()))
    # Items of the visit are never an answer, and recent ones only where the query asks for what the shopper has seen.
    return replace(profile, seen=[item for item in profile.seen if item in query.items or not query.include_seen])
