"""What the service does for each request, without HTTP: searches, pages, shoppers, items and releases."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC
from math import nan
from typing import Any, Self

from vlm4rec_search.common.errors import RunError, UsageError, Vlm4recError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.text_forms import normal_form
from vlm4rec_search.datasets.declarations import load_declarations
from vlm4rec_search.datasets.events.event import WrongEventError, parse_event
from vlm4rec_search.datasets.events.log import EventLog, Recent
from vlm4rec_search.indexes import open_index_of, open_releases
from vlm4rec_search.search.backend import Reader, ReleaseGoneError
from vlm4rec_search.search.experiments import Experiment, experiment_of, team_draft
from vlm4rec_search.search.facts import UnknownItemsError
from vlm4rec_search.search.query import LARGEST_EXCLUSION, Answer, Hit, Query
from vlm4rec_search.search.ranking import Ranking, pinned_ranking
from vlm4rec_search.search.release import ReleaseMeta
from vlm4rec_search.search.rules import Rule, preset, similar_options
from vlm4rec_search.search.searcher import Searcher
from vlm4rec_search.serve.journal import Journal, Served, ServedPage, Trimming, new_id
from vlm4rec_search.serve.paging import Paging
from vlm4rec_search.serve.schemas import (
    Assignment,
    EventBatch,
    EventReceipt,
    Health,
    HistoryItem,
    ItemPage,
    Recommendation,
    RecommendRequest,
    RejectedEvent,
    ReleaseInfo,
    SearchRequest,
    SimilarRequest,
    UserPage,
)

logger = logging.getLogger(__name__)
OPEN = 2  # named releases that stay open beside the live one and those of experiments
NEWEST = 20  # items of events that speak for or against others; older ones are only left out
_WORDS = 20  # words of a page
_AGAIN = 10.0  # seconds until the variants of an experiment are asked again after a failure
_REMARKS = ("note", "missing", "counts")  # of an answer, which the journal keeps


class NotFoundError(UsageError):
    """What the address names does not exist."""


class Service:
    """An open index that follows its releases, and the journal of what it served; several threads may use it at once.

    Use it in a `with` block.

    Attributes:
        index: answers from the live release.
        journal: what was served.
        events: what shoppers did with it.
        settings: of the process.
        rankings: by the name under which a request can ask for one.
        all_releases: of the index; its requests to a server may take a minute.
        on_unrecorded: called for each answer that the journal does not take.
        on_searched: called with each answer to a program.
    """

    def __init__(
        self,
        settings: Settings,
        follow: float = 2.0,
        rankings: Mapping[str, Ranking] | None = None,
        shared: bool = False,
    ) -> None:
        """Open the index and the journal of the settings.

        Args:
            settings: index, credentials, encoder, ranking, rules, folder of the journal.
            follow: seconds between two looks for a new release and for changed rules.
            rankings: by the name under which a request can ask for one in place of the live release's.
            shared: share the memory of a folder's release with other processes.

        Raises:
            UsageError: nothing is published, or a file of the settings cannot be read.
            RunError: the index cannot be read, or the journal cannot be written.
        """
        self.settings, self.rankings = settings, dict(rankings or {})
        self.journal = Journal(settings.served_file)
        values = load_declarations(settings.data_dir).values
        self.events = EventLog(settings.events_file, values.events)
        self._nobody = values.words_for_nothing("user_id")
        url, seconds = settings.index_url, min(settings.search_read_timeout, settings.search_deadline)
        with ExitStack() as opened:
            self.all_releases = opened.enter_context(open_releases(url, settings))
            self._listed = opened.enter_context(open_releases(url, settings, seconds))
            self.index = opened.enter_context(open_index_of(settings, follow=follow, shared=shared))
            opened.callback(Trimming(self.journal, settings.served_days).stop)
            self._to_close = opened.pop_all()
        for line in filter(None, (each.describe_missing(self.index.release) for each in self.rankings.values())):
            logger.warning("%s", line)
        self.on_unrecorded: Callable[[], object] = lambda: None
        self.on_searched: Callable[[Answer], object] = lambda answer: None
        self._shared = shared
        self._named: OrderedDict[str, Searcher] = OrderedDict()
        self._left_out: dict[str, tuple[str, float]] = {}  # experiments: why, and when their variants are asked again
        self._lock, self._opening = threading.Lock(), threading.Lock()

    def recommend(self, request: RecommendRequest | SearchRequest) -> Recommendation:
        """Answer a request for a shopper, a session, a text or a photo.

        Raises:
            UsageError: an option is wrong, or names a field, scenario, release or ranking that does not exist.
            RunError: the index does not answer.
        """
        options = request.model_dump(exclude_none=True)
        return self._serve(options, new_id(), ())

    def similar(self, request: SimilarRequest) -> Recommendation:
        """Answer a request for an item.

        Raises:
            NotFoundError: the release does not have the item.
            UsageError, RunError: as for `recommend`.
        """
        options = request.model_dump(exclude_none=True)
        item = normal_form(options.pop("item"))
        options["items"] = [item]
        options |= similar_options(preset(self.index.scenarios, options.get("scenario"), options))
        try:
            return self._serve(options, new_id(), ())
        except UnknownItemsError:
            raise NotFoundError(f"the release that answers does not have the item {item}") from None

    def look(self, options: Mapping[str, Any], rules: Sequence[Rule] | None = None) -> Answer:
        """Answer a request without recording it: a colleague who looks at an answer is no shopper who was shown it.

        Args:
            options: as in `RecommendRequest` or `SearchRequest`.
            rules: in place of those in force.

        Raises:
            UsageError, RunError: as for `recommend`.
        """
        query, release, ranking, _ = self._read(options)
        return self._ask(query, release, ranking, rules)

    def recent(self, user_id: str) -> Recent:
        """Return what a shopper did since the live release was made; answers know it already.

        Raises:
            RunError: the log of events cannot be read.
        """
        return self._recent(user_id, self.index.release)

    def _recent(self, user_id: str, release: ReleaseMeta) -> Recent:
        return self.events.recent(user_id, release.as_of, release.events_until)

    def reader(self, release: str | None = None) -> Reader:
        """Return a reader of a release, by default of the live one.

        Raises:
            UsageError: there is no such release.
            RunError: the index does not answer.
        """
        return self._index(release).backend.reader()

    def page(self, recommendation_id: str, page: int) -> Recommendation:
        """Return a page of a recommendation: one that was served before, or the next one.

        The next page has none of the items of the pages before, also where another release answers meanwhile.

        Raises:
            NotFoundError: there is no such recommendation, or the page is not the next one.
            UsageError, RunError: as for `recommend`.
        """
        served = self.journal.find(recommendation_id)
        if served is None:
            raise NotFoundError(f"there is no recommendation {recommendation_id}")
        if page > len(served.pages) + 1:
            raise NotFoundError(f"page {len(served.pages) + 1} comes next, not page {page}")
        if page <= len(served.pages):
            return self._repeat(served, recommendation_id, page)
        if "photo" in served.query:
            raise NotFoundError("a search by an uploaded photo has one page: ask for more items with `k`")
        return self._serve(dict(served.query), recommendation_id, served.pages)

    def record(self, batch: EventBatch) -> EventReceipt:
        """Keep events; those that the answer counts as accepted are on the disk.

        Raises:
            RunError: they cannot be written; none is kept.
        """
        parsed, rejected = [], []
        for index, content in enumerate(batch.events):
            try:
                parsed.append(parse_event(content, self._nobody))
            except WrongEventError as error:
                rejected.append(RejectedEvent(index=index, detail=str(error)))
        accepted = self.events.record(parsed) if parsed else 0
        return EventReceipt(accepted=accepted, duplicates=len(parsed) - accepted, rejected=rejected)

    def user(self, user_id: str) -> UserPage:
        """Return what the live release knows of a shopper.

        Raises:
            NotFoundError: it does not know the shopper.
            RunError: the index does not answer.
        """
        reader, user_id = self.index.backend.reader(), normal_form(user_id)
        user = reader.user(user_id)
        if user is None:
            raise NotFoundError(f"the release {reader.release.name} does not know the shopper {user_id}")
        titles = {item: found.title for item, found in reader.items(list(user.history)).items()}
        return UserPage(
            user_id=user_id,
            release=reader.release.name,
            has_profile=user.vector is not None,
            segment=user.segment,
            categories=list(user.categories),
            words=[word.form for word in user.words.values()][:_WORDS],
            history=[
                HistoryItem(item_id=item, title=titles.get(item), weight=round(weight, 6))
                for item, weight in sorted(user.history.items(), key=lambda pair: -pair[1])
            ],
            seen=len(user.seen),
        )

    def item(self, item_id: str) -> ItemPage:
        """Return what the live release knows of an item.

        Raises:
            NotFoundError: it does not have the item.
            RunError: the index does not answer.
        """
        reader, item_id = self.index.backend.reader(), normal_form(item_id)
        document = reader.documents([item_id]).get(item_id)
        if document is None:
            raise NotFoundError(f"the release {reader.release.name} does not have the item {item_id}")
        words = reader.items([item_id], words=True)[item_id].words.values()
        near = reader.neighbours([item_id], ["behaviour"]).sum("behaviour", {item_id: 1.0})
        return ItemPage(
            **document,
            release=reader.release.name,
            words=[word.form for word in words][:_WORDS],
            bought_with=near,
        )

    def releases(self) -> list[ReleaseInfo]:
        """Return the releases of the index that can be opened, the newest first.

        Raises:
            RunError: the index does not answer.
        """
        live = self._listed.live()
        return [
            ReleaseInfo(
                name=meta.name,
                live=meta.name == live,
                created_at=meta.created_at.replace(tzinfo=UTC),
                documents=meta.documents,
                users=meta.users,
                encoder=meta.encoder,
                image_encoder=meta.image_encoder,
                captioner=meta.captioner,
                ranking=meta.chosen,
                checks=meta.checks,
            )
            for meta in reversed(list(self.known_releases().values()))
        ]

    def known_releases(self) -> Mapping[str, ReleaseMeta]:
        """Return the metadata of the releases that can be opened, the oldest first, within the time-outs of a search.

        Raises:
            RunError: the index does not answer.
        """
        listed = self._listed.list()
        return {name: each.meta for name, each in listed.items() if each.meta and not each.problem}

    def _repeat(self, served: Served, recommendation_id: str, number: int) -> Recommendation:
        """Return a page as it was served, without the reasons."""
        query = served.query
        page, before = served.pages[number - 1], sum(len(each.items) for each in served.pages[: number - 1])
        found = self.index.backend.reader().items([item for item, _ in page.items])
        hits = [
            Hit(rank, item, score, found[item].title, found[item].category, found[item].price)
            if item in found
            else Hit(rank, item, score, "")
            for rank, (item, score) in enumerate(page.items, before + 1)
        ]
        mode = query.get("mode", "hybrid")
        made_by = (query.get("user"), mode, page.tier, page.release, 0.0, tuple(hits), page.ranking)
        answer = Answer(*made_by, **page.remarks)
        paging = Paging(recommendation_id, number, query["k"], before)
        address = None if "photo" in query else paging.following(len(hits))
        assigned = page.experiment and Assignment(name=page.experiment, arm=page.arm, teams=page.teams)
        return Recommendation.of(answer, recommendation_id, query.get("scenario"), address, assigned or None)

    def _serve(self, options: dict[str, Any], recommendation_id: str, before: Sequence[ServedPage]) -> Recommendation:
        """Search, leave out what earlier pages showed, and record the page."""
        shown = {item for page in before for item, _ in page.items}
        query, release, ranking, scenario = self._read(options)
        number = len(before) + 1
        paging = Paging(recommendation_id, number, query.k, len(shown))
        deeper = replace(query, k=max(1, paging.size + len(shown)))
        compared = None if release or ranking else experiment_of(self.index.experiments, scenario, query.user)
        answer, assignment = (
            self._compare(deeper, *compared, shown, f"{recommendation_id} {number}")
            if compared
            else (self._ask(deeper, release, ranking), None)
        )
        self.on_searched(answer)
        fresh = [hit for hit in answer.hits if hit.item_id not in shown][: paging.size]
        hits = tuple(replace(hit, rank=rank) for rank, hit in enumerate(fresh, len(shown) + 1))
        if assignment and assignment.teams:
            assignment = assignment.model_copy(update={"teams": assignment.teams[: len(hits)]})
        page = ServedPage(
            [(hit.item_id, hit.score) for hit in hits],
            answer.tier,
            answer.release,
            answer.ranking,
            experiment=assignment.name if assignment else None,
            arm=assignment.arm if assignment else None,
            teams=assignment.teams if assignment else None,
            remarks={name: value for name in _REMARKS if (value := getattr(answer, name))},
        )
        # The journal does not keep the photo of a caller, so that nothing can be searched for on a next page.
        photo = {} if query.photo is None else {"photo": ""}
        address = None if photo else paging.following(len(hits))
        user = {"user": query.user} if query.user else {}  # as events and tables have the id
        kept = {**options, **user, "k": query.k, **photo}  # a scenario may change, the size of the pages stays
        try:
            is_new = self.journal.record(recommendation_id, number, kept, page)
            served = None if is_new else self.journal.find(recommendation_id)
        except RunError as error:  # the shopper gets the answer all the same; a next page needs the journal
            logger.warning("an answer is not recorded and has no next page: %s", error)
            self.on_unrecorded()
            served, address = None, None
        if served:  # another request for the page was faster
            return self._repeat(served, recommendation_id, number)
        return Recommendation.of(replace(answer, hits=hits), recommendation_id, scenario, address, assignment)

    def _read(self, options: Mapping[str, Any]) -> tuple[Query, str | None, str | None, str | None]:
        """Return the query of a request, and the release, the ranking and the scenario that it names."""
        arguments = dict(options)
        release, ranking, scenario = (arguments.pop(name, None) for name in ("release", "ranking", "scenario"))
        return Query(**preset(self.index.scenarios, scenario, arguments)), release, ranking, scenario

    def _ask(
        self, query: Query, release: str | None, ranking: str | None, rules: Sequence[Rule] | None = None
    ) -> Answer:
        """Answer a query with what the shopper did since the release was made; without it where it cannot be read."""
        with self._forgetting_deleted(release):
            index = self._index(release, ranking, rules)
            try:
                with_recent = self._with_recent(query, index.release)
            except RunError as error:
                logger.warning("a degraded answer: %s", error)
                answer = index.search(query)
                unknown = "what the shopper did since the release was made is not known"
                return replace(answer, degraded=f"{answer.degraded}; {unknown}" if answer.degraded else unknown)
            return index.search(with_recent)

    @contextmanager
    def _forgetting_deleted(self, release: str | None) -> Iterator[None]:
        """Close a named release that was deleted while it was open, and say that there is none."""
        try:
            yield
        except ReleaseGoneError:
            if release in (None, self.index.release.name):
                raise
            with self._lock:
                self._named.pop(str(release), None)
            raise _no_release(release) from None

    def _compare(
        self, query: Query, name: str, experiment: Experiment, shown: Collection[str], seed: str
    ) -> tuple[Answer, Assignment | None]:
        """Answer a query in a live comparison; where a variant cannot answer, the live release does without one.

        The experiment is left out for some seconds then: without the answers of one variant those of the other would
        be of other requests, and to open a variant again takes long. A degraded answer takes no part: it says nothing
        about its variant.
        """
        _, again_at = self._left_out.get(name, ("", 0.0))
        if time.monotonic() < again_at:
            return self._ask(query, None, None), None
        arm = experiment.arm(name, query.user or "")
        try:
            self._open_variants(name, experiment)
            if experiment.method == "split":
                variant = experiment.b if arm == "b" else experiment.a
                answer = self._ask(query, variant.release, variant.ranking)
                return answer, None if answer.degraded else Assignment(name=name, arm=arm, teams=None)
            a, b = (self._ask(query, each.release, each.ranking) for each in (experiment.a, experiment.b))
        except Vlm4recError as error:
            answer = self._ask(query, None, None)  # refuses a request that is wrong itself, which is no variant's fault
            logger.warning("the experiment %s is left out: %s", name, error)
            self._left_out[name] = str(error), time.monotonic() + _AGAIN
            return answer, None
        if a.degraded or b.degraded:
            return a, None
        mixed = team_draft(a.hits, b.hits, shown, query, seed)
        answer = replace(
            a,
            hits=tuple(hit for hit, _ in mixed),
            release=" + ".join(dict.fromkeys((a.release, b.release))),  # named together where they differ
            ranking=" + ".join(dict.fromkeys((a.ranking, b.ranking))),
            took_ms=round(a.took_ms + b.took_ms, 2),
        )
        return answer, Assignment(name=name, arm=None, teams="".join(team for _, team in mixed if team))

    def _open_variants(self, name: str, experiment: Experiment) -> None:
        """Open both variants, since neither takes part without the other: the shoppers of one would be left alone.

        Raises:
            UsageError: a release or ranking does not exist, or both variants are the same.
            RunError: a release cannot be read.
        """
        opened = {self._index(each.release, each.ranking).release.name for each in (experiment.a, experiment.b)}
        if obstacle := experiment.obstacle(self.index.release.name, opened):
            raise UsageError(obstacle)
        self._left_out.pop(name, None)

    def _with_recent(self, query: Query, release: ReleaseMeta) -> Query:
        """Return a query that knows what the shopper did since a release was made."""
        if query.user is None:
            return query
        recent = self._recent(query.user, release)
        speak, hidden = recent.liked[:NEWEST], recent.hidden[:NEWEST]
        others = () if query.include_seen else (*recent.liked[NEWEST:], *recent.hidden[NEWEST:], *recent.others)
        exclude = (*query.exclude, *others)[:LARGEST_EXCLUSION]
        return replace(query, recent=speak, hidden=hidden, exclude=exclude)

    def _index(
        self, release: str | None = None, ranking: str | None = None, rules: Sequence[Rule] | None = None
    ) -> Searcher:
        """Return an index of a release under a ranking and rules, by default the live release under its own."""
        index = self.index if release in (None, self.index.release.name) else self._open(str(release))
        if ranking is None and rules is None:
            return index
        if ranking is not None and ranking not in self.rankings:
            known = ", ".join(self.rankings) or "none"
            raise UsageError(f"the service knows no ranking {ranking!r}: known are {known}")
        chosen = index.ranking if ranking is None else self.rankings[ranking]
        given = index.rules if rules is None else rules
        return Searcher(index.backend, index.encoder, chosen, given, index.weights_source)

    def _open(self, release: str) -> Searcher:
        """Return an open release; the last ones that were asked for stay open."""
        found = self._opened(release)
        if found is None:
            with self._opening:  # requests for open releases do not wait for this
                found = self._opened(release)
                if found is None:
                    known = self.known_releases()
                    if release not in known:
                        raise _no_release(release)
                    # A release names an encoder in a folder without its place; one by another encoder loads its own.
                    is_same = known[release].encoder == self.index.release.encoder
                    encoder = self.index.encoder if is_same else None
                    pinned = pinned_ranking(self.settings.ranking)
                    found = self.all_releases.open(release, pinned, self.index.rules, self._shared, encoder)
                    with self._lock:
                        self._named[release] = found
                        most = OPEN + len(self.index.given.releases)  # each answer of an experiment needs its own
                        while len(self._named) > most:  # a search in progress keeps the release that it reads
                            self._named.popitem(last=False)
        found.rules = self.index.rules
        return found

    def _opened(self, release: str) -> Searcher | None:
        with self._lock:
            if release in self._named:
                self._named.move_to_end(release)
            return self._named.get(release)

    @property
    def created_at(self) -> float:
        """When the release that answers was made, in seconds since 1970."""
        return self.index.release.created_at.replace(tzinfo=UTC).timestamp()

    def event_lag(self) -> float:
        """Return the age of the oldest event that the live release lacks, in seconds: 0 without one, NaN if not known.

        Answers know each event at once; a release knows it after a plan.
        """
        try:
            oldest = self.events.oldest_after(self.index.release.events_until)
        except RunError:
            return nan
        return 0.0 if oldest is None else max(0.0, time.time() - oldest)

    def health(self) -> Health:
        """Ask the index whether it answers.

        Raises:
            RunError: it does not.
        """
        reader = self.index.backend.reader()
        reader.user("\N{NULL}nobody")
        experiments = self.index.experiments
        left_out = [
            f"the experiment {name} is left out: {problem}"
            for name, (problem, _) in list(self._left_out.items())
            if name in experiments
        ]
        problems = [*filter(None, [self.index.following.problem]), *left_out]
        return Health(status="ready", release=reader.release.name, problem="; ".join(problems) or None)

    def close(self) -> None:
        """Stop to follow, and close the index and the named releases."""
        with self._to_close, self._lock:
            while self._named:
                self._named.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _no_release(name: str | None) -> UsageError:
    return UsageError(f"there is no release {name!r}: GET /v1/releases lists them")
