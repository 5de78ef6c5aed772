"""The one way from a query to its answer: look up facts, plan, retrieve, fuse, rerank, explain."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from vlm4rec_search.common import maven
from vlm4rec_search.common.analyzer import load_analyzer
from vlm4rec_search.common.errors import UsageError, Vlm4recError
from vlm4rec_search.embeddings.encoders import describe_image_encoder, encode_photo, load_sentence_encoder
from vlm4rec_search.search.backend import (
    Backend,
    ItemGoneError,
    Reader,
    Release,
    ReleaseGoneError,
    SentRequest,
    UnavailableError,
)
from vlm4rec_search.search.experiments import Experiment
from vlm4rec_search.search.explanation import Explainer
from vlm4rec_search.search.facts import look_up
from vlm4rec_search.search.filters import check_field
from vlm4rec_search.search.follower import Follower, file_state
from vlm4rec_search.search.fusion import fuse
from vlm4rec_search.search.model import Facts, Plan, Ranked, Vector
from vlm4rec_search.search.planning import make_plan, popularity_plan
from vlm4rec_search.search.query import Answer, Explanation, Hit, Query, Tier
from vlm4rec_search.search.ranking import Ranking, load_ranking, parse_ranking
from vlm4rec_search.search.reranking import rerank
from vlm4rec_search.search.rules import Rule, RulesFile, Scenario, load_rules

T = TypeVar("T")
AT_ONCE = 32  # searches of an event loop
_NAMED = 3  # filters of a note
_SEEN_AMONG = "; items that the shopper has seen may be among them"
logger = logging.getLogger(__name__)


class Searcher:
    """Answers queries from an open release; use it in a `with` block. Several threads may search at once.

    Attributes:
        backend: where the release is read from.
        given: business rules, scenarios and experiments, replaced as a whole.
        weights: source of the encoder's weights.
    """

    def __init__(
        self,
        backend: Backend,
        encoder: str | None = None,
        ranking: Ranking | None = None,
        rules: Sequence[Rule] | RulesFile = (),
        weights: str = maven.CENTRAL,
    ) -> None:
        """Check that the caller's encoder made the release.

        Args:
            backend: an open release; `close` closes it.
            encoder: name or id of the sentence encoder that the caller works with; None takes the release's own.
            ranking: None takes the release's own, also after another release was opened.
            rules: business rules, or the content of a file of them.
            weights: source of the encoder's weights, as in `load_sentence_encoder`.

        Raises:
            UsageError: the release was built by another encoder, or its ranking configuration cannot be read.
        """
        self.backend, self._given_ranking = backend, ranking
        self.given = rules if isinstance(rules, RulesFile) else RulesFile(rules=tuple(rules))
        self._ranking_of(backend.release)  # refuses one that cannot be read
        self._encoder_name, self.weights = encoder, weights
        self._following: Follower | None = None
        self._threads = ThreadPoolExecutor(AT_ONCE, "search")  # starts none before it is used
        self._encoder = QueryEncoder(backend.release.encoder, encoder, weights)

    @property
    def release(self) -> Release:
        """The release that answers."""
        return self.backend.release

    @property
    def ranking(self) -> Ranking:
        """The ranking configuration; it can be replaced between two searches."""
        return self._ranking_of(self.backend.release)

    @ranking.setter
    def ranking(self, ranking: Ranking | None) -> None:
        self._given_ranking = ranking

    @property
    def rules(self) -> Sequence[Rule]:
        """The business rules; they can be replaced between two searches."""
        return self.given.rules

    @rules.setter
    def rules(self, rules: Sequence[Rule]) -> None:
        self.given = self.given.model_copy(update={"rules": tuple(rules)})

    @property
    def scenarios(self) -> Mapping[str, Scenario]:
        """Presets of search options by name, for `preset`."""
        return self.given.scenarios

    @property
    def experiments(self) -> Mapping[str, Experiment]:
        """Live comparisons by name, for a service."""
        return self.given.experiments

    def _ranking_of(self, release: Release) -> Ranking:
        if self._given_ranking is not None:
            return self._given_ranking
        return load_ranking() if release.ranking is None else parse_ranking(release.ranking)

    @property
    def following(self) -> Follower:
        """What keeps the index at the live release.

        Raises:
            UsageError: the index was opened to stay with its release.
        """
        if self._following is None:
            raise UsageError("the index stays with its release: open it with `follow`")
        return self._following

    def search(self, query: Query) -> Answer:
        """Answer a query.

        Where the release was deleted since it was opened, the release that answers now is opened and searched. Where a
        server does not answer in time, the answer is made of what it did answer, else of what is popular, and
        `Answer.degraded` says so.

        Raises:
            UsageError: a filter names an unknown field, the release has no item of the session, or the encoder of the
                text is missing.
            RunError: the backend refuses.
        """
        return self._try_again(partial(self._answer, query))

    def search_whole(self, query: Query) -> Answer:
        """Answer a query as `search` does, for checks and comparisons, to which a degraded answer is none.

        Raises:
            UnavailableError: a server does not answer in time.
            UsageError, RunError: as for `search`.
        """
        answer = self.search(query)
        if answer.degraded is not None:
            raise UnavailableError(answer.degraded)
        return answer

    async def search_async(self, query: Query) -> Answer:
        """Answer a query as `search` does, in a thread, so that an event loop goes on meanwhile.

        At most `AT_ONCE` searches run at once; further ones wait their turn.

        Raises:
            UsageError, RunError: as for `search`.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.search, query)

    def requests(self, query: Query) -> list[SentRequest]:
        """Answer a query as `search` does, and return the requests that were sent to a server for the answer, in order.

        Raises:
            UsageError: there is no server, or as for `search`.
            RunError: the backend does not answer.
        """
        return self._try_again(partial(self._record, query))

    def _record(self, query: Query) -> list[SentRequest]:
        sent: list[SentRequest] = []
        self._answer(query, sent)
        return sent

    def _try_again(self, answer: Callable[[], T]) -> T:
        """Answer once more where an item or the release was deleted meanwhile."""
        try:
            try:
                return answer()
            except ItemGoneError:
                return answer()
        except ReleaseGoneError:
            if not self.backend.reopen():
                raise
            return answer()

    def plan(self, reader: Reader, query: Query) -> tuple[Facts, Plan]:
        """Return what the release knows about the subject of a query, and how the query would be answered."""
        for name in filter(None, (query.collapse, *query.count)):
            check_field(name, reader.fields)
        encoder = self._encoder  # read once: another thread may open another release meanwhile
        if encoder.made_by != reader.release.encoder:
            encoder = self._encoder = QueryEncoder(reader.release.encoder, self._encoder_name, self.weights)
        ranking = self._ranking_of(reader.release)
        by = partial(encode_photo, encoder=reader.release.image_encoder or "")
        facts = look_up(reader, query, ranking, encoder.encode, by)
        return facts, make_plan(query, facts, ranking, self.rules)

    def _answer(self, query: Query, sent: list[SentRequest] | None = None) -> Answer:
        started = time.perf_counter()
        reader = self.backend.reader(sent)
        facts: Facts | None = None
        try:
            facts, plan = self.plan(reader, query)
            found = _find_hits(reader, facts, plan)
            if found.failed and not found.hits:
                raise UnavailableError("the retrievers that were answered in time found nothing")
        except UnavailableError as error:
            answer = self._answer_from_memory(reader, query, facts, error)
        else:
            answer = self._describe(reader, query, facts, plan, found)
        return replace(answer, took_ms=round((time.perf_counter() - started) * 1000.0, 2))

    def _describe(self, reader: Reader, query: Query, facts: Facts, plan: Plan, found: "Found") -> Answer:
        """Return the hits with the notes that belong to them."""
        too_low = None if found.hits else _note_min_score(reader, facts, plan)
        nothing_left = None if found.hits or too_low else self._note_nothing_left(reader, query, facts)
        nothing_fits = None if found.hits or too_low or nothing_left or found.failed else _note_nothing_fits(query)
        known = facts.session.seen if facts.session else ()
        missing = tuple(item for item in query.items if item not in known)
        fallback = None if found.failed else _note_fallback(plan, facts)
        photo = _note_photo(reader.release) if query.has_photo else None
        notes = [too_low or nothing_left or fallback, nothing_fits, photo, _note_missing_items(missing)]
        note = "; ".join(each for each in notes if each) or None
        release, version = reader.release, self._ranking_of(reader.release).version
        degraded = f"the server did not answer in time for {', '.join(found.failed)}" if found.failed else None
        if degraded and facts.failed and query.user is not None and not query.include_seen:
            degraded += _SEEN_AMONG
        if degraded:
            logger.warning("a degraded answer: %s", degraded)
        answer = Answer(query.user, query.mode, plan.tier, release.name, 0.0, found.hits, version, note, found.counts)
        return replace(answer, missing=missing, degraded=degraded, retriever_ms=found.retriever_ms)

    def _answer_from_memory(self, reader: Reader, query: Query, facts: Facts | None, error: UnavailableError) -> Answer:
        """Answer with what is popular in the release that the reader reads.

        Raises:
            UnavailableError: the backend keeps nothing in memory.
        """
        ranking = self._ranking_of(reader.release)
        known = facts or Facts(analyzer=load_analyzer(reader.release.analyzer))
        plan = popularity_plan(query, known, ranking, self.rules)
        retrieved = reader.in_memory(plan.request)
        if retrieved is None:
            raise error
        ranked = rerank(retrieved, fuse(retrieved.candidates, plan.weights, plan.fusion), plan)
        logger.warning("a degraded answer: %s", error)
        unknown = query.user is not None and (facts is None or facts.failed) and not query.include_seen
        seen = _SEEN_AMONG if unknown else ""
        whatever = f", whatever the {'text' if query.text is not None else 'photo'}" if query.has_text_or_photo else ""
        degraded = f"{error}, so the answer is what is popular with all shoppers{whatever}{seen}"
        name, hits = reader.release.name, to_hits(ranked, ())
        answer = Answer(query.user, query.mode, plan.tier, name, 0.0, hits, ranking.version, counts=ranked.counts)
        return replace(answer, degraded=degraded)

    def _note_nothing_left(self, reader: Reader, query: Query, facts: Facts) -> str | None:
        """Return a note where the answer is empty because the shopper has seen every item that fits."""
        if facts.user is None or query.include_seen:
            return None
        with_seen = replace(query, include_seen=True, explain=False, k=1)
        try:
            if not _find_hits(reader, *self.plan(reader, with_seen)).hits:
                return None
        except Vlm4recError as error:  # the answer stands without it
            return f"nothing fits, and whether user {query.user} has seen what fits could not be checked: {error}"
        return f"user {query.user} has seen every item that fits: include seen items, or use fewer filters"

    def follow(self, seconds: float, rules: Path | None = None) -> None:
        """Open each new live release, and read the rules again when their file changes, until `close`.

        A search that has begun ends with the release with which it began. What cannot be opened or read leaves the old
        release and the old rules in place; `following.problem` says why.

        Args:
            seconds: between two looks.
            rules: file of the business rules; None leaves them as they are.
        """
        state = None

        def look() -> None:
            nonlocal state
            live = self.backend.live()
            if live is not None and live != self.release.name:
                self.backend.reopen()
                logger.info("release %s answers now", self.release.name)
            if rules is not None and (now := file_state(rules)) != state:
                self.given, state = load_rules(rules), now

        self._following = Follower(look, seconds)

    def close(self) -> None:
        """Stop to follow, and close the backend."""
        if self._following is not None:
            self._following.stop()
        self._threads.shutdown()
        self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass(frozen=True)
class Found:
    """What a plan found.

    Attributes:
        hits: best first.
        counts: how many candidates have each value of the fields that the query counts.
        failed: what a server did not answer in time, in words.
        retriever_ms: how long the retrievers took, by name.
    """

    hits: tuple[Hit, ...]
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    failed: Sequence[str] = ()
    retriever_ms: Mapping[str, float] = field(default_factory=dict)


def _find_hits(reader: Reader, facts: Facts, plan: Plan) -> Found:
    """Return what a plan finds.

    Raises:
        UnavailableError: a server does not answer in time for any retriever, or for what the hits show.
    """
    ranked = reader.rank(plan)
    if ranked is not None:
        return Found(to_hits(ranked, ()), ranked.counts, [*facts.failed, *reader.failed])
    retrieved = reader.retrieve(plan.request)
    by_meaning = {"text": "the meaning of the text"}
    failed = [*facts.failed, *reader.failed, *(by_meaning.get(name, name) for name in retrieved.failed)]
    ranked = rerank(retrieved, fuse(retrieved.candidates, plan.weights, plan.fusion, plan.rank_weights), plan)
    explanations: Sequence[Explanation] = ()
    if plan.query.explain and ranked.records:
        try:
            explanations = Explainer(reader, facts, plan, retrieved).explain(ranked)
        except UnavailableError:
            failed.append("the reasons")
    took: dict[str, float] = {}
    for retriever, seconds in zip(plan.request.retrievers, retrieved.seconds, strict=False):
        took[retriever.name] = took.get(retriever.name, 0.0) + 1000.0 * seconds
    return Found(to_hits(ranked, explanations), ranked.counts, failed, took)


def to_hits(ranked: Ranked, explanations: Sequence[Explanation]) -> tuple[Hit, ...]:
    """Return the ranked documents as hits, with their explanations where there are any."""
    reasons: Sequence[Explanation | None] = explanations or [None] * len(ranked.records)
    scored = zip(ranked.scores, ranked.records, reasons, strict=True)
    return tuple(
        Hit(rank=rank, score=float(score), explanation=explanation, **record)
        for rank, (score, record, explanation) in enumerate(scored, 1)
    )


def _note_min_score(reader: Reader, facts: Facts, plan: Plan) -> str | None:
    """Return a note where the answer is empty because no hit reaches the minimum score."""
    if plan.min_score is None:
        return None
    without = replace(plan, min_score=None, query=replace(plan.query, k=1, explain=False))
    try:
        best = _find_hits(reader, facts, without).hits
    except Vlm4recError as error:  # the answer stands without it
        asked = f"nothing reaches the minimum score {plan.min_score:g}"
        return f"{asked}, and whether anything has a lower one could not be checked: {error}"
    if not best:
        return None
    return f"no hit reaches the minimum score {plan.min_score:g}: the best has {best[0].score:.4f}"


def _note_nothing_fits(query: Query) -> str:
    """Return a note where the answer is empty and neither a minimum score nor the history is the cause."""
    if not query.filters:
        return "nothing fits: use other words, or another mode"
    written = [each if isinstance(each, str) else f"{each.field}=..." for each in query.filters]
    more = f" and {len(written) - _NAMED} more" if len(written) > _NAMED else ""
    return f"nothing fits {', '.join(written[:_NAMED])}{more}: use fewer filters"


def _note_photo(release: Release) -> str:
    """Return a note on what likeness of photos is."""
    return f"likeness of photos is that of {describe_image_encoder(release.image_encoder or '')}"


def _note_missing_items(missing: Sequence[str]) -> str | None:
    """Return a note about the session's items that the release does not have."""
    return f"items that the release does not have are ignored: {', '.join(missing[:5])}" if missing else None


_ANSWERED_WITH: dict[Tier, str] = {
    "session": "what goes with the items of the session",
    "text": "what fits the text alone",
    "photo": "what looks like the photo alone",
    "segment": "what is popular in the user's segment of shoppers",
    "category": "what is popular in the category",
    "popularity": "what is popular with all shoppers",
}


def _note_fallback(plan: Plan, facts: Facts) -> str | None:
    """Return a note where the answer uses neither the shopper's profile nor, without a shopper, the session."""
    query = plan.query
    if query.user is None:
        if not query.items or plan.tier in ("session", "text", "photo"):
            return None
        return f"a {query.mode} search finds nothing for these items, so the answer is {_ANSWERED_WITH[plan.tier]}"
    uses_profile = any(retriever.name in ("profile", "interest") for retriever in plan.retrievers)
    if uses_profile or plan.tier == "profile" or (facts.user is not None and plan.tier in ("text", "photo")):
        return None
    reason = f"user {query.user} has no history that a {query.mode} search can use"
    if facts.user is None:
        reason = f"user {query.user} is not known"
    elif plan.profile_skipped:
        reason = f"the ranking puts the {plan.tier} before the profile of user {query.user}"
    return f"{reason}, so the answer is {_ANSWERED_WITH[plan.tier]}"


class QueryEncoder:
    """Encodes the texts of queries with the encoder that made a release."""

    def __init__(self, made_by: str, wanted: str | None, weights: str = maven.CENTRAL) -> None:
        """Check that the wanted encoder made the release.

        Args:
            made_by: id of the encoder that made the release, <name>@<revision>.
            wanted: name, id or folder of the caller's encoder; None takes the one that made the release.
            weights: source of its weights, as in `load_sentence_encoder`.

        Raises:
            UsageError: they are different encoders.
        """
        self.made_by, self._weights = made_by, weights
        name = _split_id(made_by)[0]
        self._name = name if wanted in (None, made_by) else str(wanted)
        if self._name == name:
            return
        # The revision of an encoder in a folder is the hash of its weights, so that the folder may have another name.
        is_folder = Path(self._name).is_dir()
        if not is_folder or _split_id(load_sentence_encoder(self._name).id)[1] != _split_id(made_by)[1]:
            raise UsageError(
                f"the index was built by the encoder {made_by}, not by {wanted}: set VLM4REC_ENCODER to the first, or"
                " run `sqlmesh plan` and `vlm4rec index` for a new index"
            )

    def encode(self, text: str) -> Vector:
        """Return the unit vector of a text, float32 (d,).

        Raises:
            UsageError: the installed encoder has another revision than the one that made the release.
        """
        encoder = load_sentence_encoder(self._name, self._weights)
        revision = _split_id(encoder.id)[1]
        if revision != _split_id(self.made_by)[1]:
            raise UsageError(
                f"the index was built by the encoder {self.made_by}, but revision {revision} of it is installed here:"
                " publish again with `vlm4rec index`"
            )
        vector: Vector = encoder.encode([text])[0]
        return vector


def _split_id(encoder: str) -> tuple[str, str]:
    """Return name and revision of an encoder id."""
    name, _, revision = encoder.rpartition("@")
    return name or revision, revision
