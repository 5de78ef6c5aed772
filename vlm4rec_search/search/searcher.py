"""The one way from a query to its answer: look up facts, plan, retrieve, fuse, rerank, explain."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from vlm4rec_search.common import maven
from vlm4rec_search.common.analyzer import load_analyzer
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.embeddings.encoders import encode_photo
from vlm4rec_search.search.backend import (
    AccessError,
    Backend,
    ItemGoneError,
    Reader,
    ReleaseGoneError,
    SentRequest,
    UnavailableError,
)
from vlm4rec_search.search.experiments import Experiment
from vlm4rec_search.search.facts import look_up
from vlm4rec_search.search.filters import check_field
from vlm4rec_search.search.follower import Follower, file_state
from vlm4rec_search.search.fusion import fuse
from vlm4rec_search.search.hits import Found, find_hits, to_hits
from vlm4rec_search.search.model import Facts, Plan
from vlm4rec_search.search.notes import describe_failures, describe_substitute, note_answer
from vlm4rec_search.search.planning import make_plan, popularity_plan
from vlm4rec_search.search.query import Answer, Query
from vlm4rec_search.search.query_encoder import QueryEncoder
from vlm4rec_search.search.ranking import Ranking, ranking_of
from vlm4rec_search.search.release import ReleaseMeta
from vlm4rec_search.search.reranking import rerank
from vlm4rec_search.search.rules import Rule, RulesFile, Scenario, load_rules

T = TypeVar("T")
AT_ONCE = 32  # searches of an event loop
logger = logging.getLogger(__name__)


def check_fields(query: Query, reader: Reader) -> None:
    """Refuse a query that collapses or counts a field that no document has.

    Raises:
        UsageError: there is such a field.
    """
    for name in filter(None, (query.collapse, *query.count)):
        check_field(name, reader.fields)


class Searcher:
    """Answers queries from an open release; use it in a `with` block. Several threads may search at once.

    Attributes:
        backend: where the release is read from.
        encoder: name, id or folder of the sentence encoder that the caller works with; None takes the release's own.
        given: business rules, scenarios and experiments, replaced as a whole.
        weights_source: where the encoder's weights come from.
    """

    def __init__(
        self,
        backend: Backend,
        encoder: str | None = None,
        ranking: Ranking | None = None,
        rules: Sequence[Rule] | RulesFile = (),
        weights_source: str = maven.CENTRAL,
    ) -> None:
        """Check that the caller's encoder made the release.

        Args:
            backend: an open release; `close` closes it.
            encoder: see the attribute.
            ranking: None takes the release's own, also after another release was opened.
            rules: business rules, or the content of a file of them.
            weights_source: as in `load_sentence_encoder`.

        Raises:
            UsageError: the release was built by another encoder, or its ranking configuration cannot be read.
        """
        self.backend, self._given_ranking = backend, ranking
        self.given = rules if isinstance(rules, RulesFile) else RulesFile(rules=tuple(rules))
        self._ranking_of(backend.release)  # refuses one that cannot be read
        self.encoder, self.weights_source = encoder, weights_source
        self._following: Follower | None = None
        self._threads = ThreadPoolExecutor(AT_ONCE, "search")  # starts none before it is used
        self._encoder = QueryEncoder(backend.release.encoder, encoder, weights_source)

    @property
    def release(self) -> ReleaseMeta:
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

    def _ranking_of(self, release: ReleaseMeta) -> Ranking:
        return ranking_of(release, self._given_ranking)

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
        """Answer a query as `search` does, for checks and comparisons, which cannot use a degraded answer.

        Raises:
            AccessError: a server refuses access.
            UnavailableError: a server does not answer in time.
            UsageError, RunError: as for `search`.
        """
        answer = self._try_again(partial(self._answer, query, whole=True))
        if answer.degraded is not None:
            raise UnavailableError(answer.degraded)
        return answer

    async def search_async(self, query: Query) -> Answer:
        """Answer a query as `search` does, in a thread, so that an event loop goes on meanwhile.

        At most `AT_ONCE` searches run at once, those of a folder as `Backend.turns` let them; further ones wait.

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
        check_fields(query, reader)
        encoder = self._encoder  # read once: another thread may open another release meanwhile
        if encoder.made_by != reader.release.encoder:
            encoder = self._encoder = QueryEncoder(reader.release.encoder, self.encoder, self.weights_source)
        ranking = self._ranking_of(reader.release)
        by = partial(encode_photo, encoder=reader.release.image_encoder or "")
        leaving = self.backend.turns.leaving
        facts = look_up(reader, query, ranking, leaving(encoder.encode), leaving(by))
        return facts, make_plan(query, facts, ranking, self.rules)

    def _answer(self, query: Query, sent: list[SentRequest] | None = None, *, whole: bool = False) -> Answer:
        started = time.perf_counter()
        with self.backend.turns:
            answer = self._answer_in_turn(query, sent, whole)
        return replace(answer, took_ms=round((time.perf_counter() - started) * 1000.0, 2))

    def _answer_in_turn(self, query: Query, sent: list[SentRequest] | None, whole: bool) -> Answer:
        reader = self.backend.reader(sent)
        facts: Facts | None = None
        try:
            facts, plan = self.plan(reader, query)
            found = find_hits(reader, facts, plan)
            if found.failed and not found.hits:
                raise UnavailableError("the retrievers that were answered in time found nothing")
        except UnavailableError as error:
            return self._answer_from_memory(reader, query, facts, error)
        except AccessError as error:  # it was accepted when the index was opened; shoppers need not know the settings
            if whole:
                raise
            logger.error("%s", error)
            return self._answer_from_memory(reader, query, facts, UnavailableError("the server refuses access"))
        return self._describe(reader, query, facts, plan, found)

    def _describe(self, reader: Reader, query: Query, facts: Facts, plan: Plan, found: Found) -> Answer:
        """Return the hits with the notes that belong to them."""
        known = facts.session.seen if facts.session else ()
        missing = tuple(item for item in query.items if item not in known)
        degraded = describe_failures(query, facts, found.failed)
        if degraded:
            logger.warning("a degraded answer: %s", degraded)
        ranking = self._ranking_of(reader.release)
        note = note_answer(reader, facts, plan, found, missing, self.plan, ranking)
        return self._compose(reader, plan, found, degraded, note, missing)

    def _compose(
        self,
        reader: Reader,
        plan: Plan,
        found: Found,
        degraded: str | None,
        note: str | None = None,
        missing: tuple[str, ...] = (),
    ) -> Answer:
        return Answer(
            user=plan.query.user,
            mode=plan.query.mode,
            tier=plan.tier,
            release=reader.release.name,
            took_ms=0.0,  # until the answer is complete
            hits=found.hits,
            ranking=self._ranking_of(reader.release).version,
            note=note,
            counts=found.counts,
            missing=missing,
            degraded=degraded,
            retriever_ms=found.retriever_ms,
        )

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
        found = Found(to_hits(ranked, ()), ranked.counts)
        return self._compose(reader, plan, found, describe_substitute(query, facts, error))

    def follow(self, seconds: float, rules: Path | None = None) -> None:
        """Open each new live release, and read the rules again when their file changes, until `close`.

        A search that has begun ends with the release with which it began. What cannot be opened or read leaves the old
        release and the old rules in place; `following.problem` says why.

        Args:
            seconds: between two looks.
            rules: file of the business rules; None leaves them as they are.
        """
        state = None

        def read_rules() -> None:
            nonlocal state
            if rules is not None and (now := file_state(rules)) != state:
                self.given, state = load_rules(rules), now

        def follow_release() -> None:
            live = self.backend.live()
            if live is not None and live != self.release.name:
                before = self.release.name
                self.backend.reopen()
                if self.release.name != before:
                    logger.info("release %s answers now", self.release.name)
                    tell_missing()

        def tell_missing() -> None:
            if line := self.ranking.describe_missing(self.release):
                logger.warning("%s", line)

        tell_missing()
        self._following = Follower([read_rules, follow_release], seconds)

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
