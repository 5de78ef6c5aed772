"""Captioning runs ahead of a plan: caption the pending items, or retry the failed ones."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from vlm4rec_search.captioning.base import Captioner, Context
from vlm4rec_search.captioning.generate import Entry, Outcome, RunChecks, caption_keys, caption_photos
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.common.cache import (
    RETRY,
    Attempt,
    Cache,
    CostMeter,
    Failure,
    FillPolicy,
    LedgerRow,
    Results,
    result_key,
)
from vlm4rec_search.common.concurrency import start_in_thread
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.progress import Show, bar
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.warehouse import read, schema
from vlm4rec_search.datasets.photos.decode import PhotoFile
from vlm4rec_search.datasets.photos.fetch import photo_key
from vlm4rec_search.datasets.photos.locate import FetchPolicy, is_url, locate_photos, with_scheme

_FIRST_GROUP, _LARGE_GROUP, _CALLS_OF_A_WORKER = 64, 1024, 32

RETRYABLE_PHOTOS = ("unreachable", "blocked", "unreadable", "too_large", "wrong_type")
"""Statuses of photos that may be replaced at the same path or URL. A retry reads such a photo again, and costs nothing
if the photo is still bad. A photo that is missing or outside the data folder needs no retry: every run looks for it."""
_RETRYABLE_CALLS = ("failed", "refused", "empty", "too_long", "repeated", "wrong_language", "markup", "echo")
RETRYABLE = (*_RETRYABLE_CALLS, *RETRYABLE_PHOTOS)
"""Statuses that `vlm4rec captions retry` accepts."""


@dataclass(frozen=True)
class Share:
    """One of `of` parts of the catalogue, `number` from 1; which one an item is in follows from its photo and prompt.

    So every machine divides the catalogue alike before it fetches a photo. Items with the same image and prompt are in
    the same part.
    """

    number: int
    of: int

    def contains(self, image: str | None, prompt: str) -> bool:
        """Return whether an item with this image in the catalogue and this rendered prompt is in the part."""
        return int(result_key("part", image or "", prompt)[:15], 16) % self.of == self.number - 1


_WITHOUT_PHOTO = ("no_photo", "missing", "outside", "blocked", "unreadable", "too_large", "wrong_type")

_ITEMS_BY_PRIORITY = """
    WITH interacted AS (
      SELECT histories.item_id, COUNT(*) AS times, EPOCH(MAX(histories.interacted_at)) AS latest
      FROM "{histories}".user_histories AS histories
      GROUP BY histories.item_id
    ), prioritised AS (
      SELECT
        interacted.item_id,
        0.7 * interacted.times / MAX(interacted.times) OVER () + 0.3 * COALESCE(
          (interacted.latest - MIN(interacted.latest) OVER ())
          / NULLIF(MAX(interacted.latest) OVER () - MIN(interacted.latest) OVER (), 0),
          1
        ) AS priority
      FROM interacted
    )
    SELECT
      items.item_id,
      items.image,
      items.title,
      COALESCE(items.category, ''),
      COALESCE(prioritised.priority, 0) AS priority
    FROM "{staging}".items AS items
    LEFT JOIN prioritised ON prioritised.item_id = items.item_id
    ORDER BY priority DESC, items.item_id
"""


@dataclass(frozen=True)
class Item:
    """An item of staging.items.

    Attributes:
        item_id: id of the item.
        image: path in the data folder, URL, or None.
        title, category: catalogue text; `category` is "" without one.
        priority: from 0 to 1, see `read_items_by_priority`.
    """

    item_id: str
    image: str | None
    title: str
    category: str
    priority: float

    @property
    def context(self) -> Context:
        """The catalogue text for a captioner."""
        return Context(self.title, self.category)


def read_items_by_priority(settings: Settings, environment: str = "prod") -> list[Item]:
    """Return all items, the highest priority first.

    The priority is that of the paper: 0.7 x popularity + 0.3 x recency. Popularity is the number of interactions as a
    share of the most popular item's. Recency is 0 for the item whose latest interaction is the oldest, and 1 for the
    newest. An item without interactions has priority 0. While a plan writes the warehouse, the published copy is read.

    Raises:
        UsageError: the tables do not exist yet.
        RunError: the warehouse is being written, and there is no published copy.
    """
    query = _ITEMS_BY_PRIORITY.format(
        staging=schema("staging", environment), histories=schema("histories", environment)
    )
    copy = settings.published / settings.warehouse.name
    try:
        with read(settings.warehouse) as connection:
            rows = connection.execute(query).fetchall()
    except RunError:
        if not copy.is_file():
            raise
        with read(copy) as connection:
            rows = connection.execute(query).fetchall()
    return [Item(*row) for row in rows]


@dataclass(frozen=True)
class CatalogueCaptions:
    """The items of the catalogue in order of priority, with the photo and the cached outcome of each.

    `locate_items` leaves `outcomes` empty.
    """

    captioner: Captioner
    items: list[Item]
    photos: list[PhotoFile]
    outcomes: list[Outcome] = field(default_factory=list)

    def positions(self, statuses: Collection[str]) -> list[int]:
        """Return the positions of the items with one of these statuses."""
        return [position for position, outcome in enumerate(self.outcomes) if outcome.status in statuses]

    def in_part(self, positions: list[int], part: Share | None) -> list[int]:
        """Return the positions whose items are in this part; all of them without one."""
        render = self.captioner.render
        pairs = ((at, self.items[at]) for at in positions)
        return [at for at, item in pairs if part is None or part.contains(item.image, render(item.context))]

    def keys(self, positions: Sequence[int], photos: Sequence[PhotoFile]) -> list[str]:
        """Return the keys in the cache of the items at these positions, with these photos."""
        prompts = [self.captioner.render(self.items[position].context) for position in positions]
        return caption_keys(self.captioner, photos, prompts)

    def retry_keys(self, positions: Sequence[int]) -> list[str]:
        """Return the keys under which retries of these items are noted: of the caption, or of a photo that is bad."""
        keys = self.keys(positions, [self.photos[position] for position in positions])
        bad = ((self.photos[at].failure, self.items[at].image or "") for at in positions)
        return [
            photo_key(with_scheme(image) if is_url(image) else image) if failure else key
            for key, (failure, image) in zip(keys, bad, strict=True)
        ]

    def count_statuses(self) -> dict[str, int]:
        """Return the number of items with each status, the most frequent status first."""
        return dict(Counter(outcome.status for outcome in self.outcomes).most_common())


def look_up_captions(
    settings: Settings, cache: Cache, captioner: str | None = None, environment: str = "prod"
) -> CatalogueCaptions:
    """Return the cached caption of every item. Nothing is fetched or captioned.

    Args:
        settings: the active captioner, the warehouse and the photos.
        cache: the results of earlier model calls.
        captioner: name of another captioner than the active one.
        environment: the SQLMesh environment of the items.

    Raises:
        UsageError: the captioner is unknown, or the tables do not exist yet.
        RunError: warehouse or cache cannot be used.
    """
    return _look_up(locate_items(settings, cache, captioner, environment), cache)


def locate_items(
    settings: Settings, cache: Cache, captioner: str | None = None, environment: str = "prod"
) -> CatalogueCaptions:
    """Return every item with its photo, for callers that need no outcomes: most of the time goes into their check.

    Args:
        settings, cache, captioner, environment: as in `look_up_captions`.

    Raises:
        UsageError, RunError: as `look_up_captions`.
    """
    items = read_items_by_priority(settings, environment)
    photos = locate_photos([item.image for item in items], settings.data_dir, cache)
    return CatalogueCaptions(load_captioner(captioner or settings.captioner, settings), items, photos)


def _look_up(located: CatalogueCaptions, cache: Cache) -> CatalogueCaptions:
    """Add the cached outcomes."""
    contexts = [item.context for item in located.items]
    policy = FillPolicy(limit=0, retry_failed=False)
    outcomes, _ = caption_photos(located.captioner, located.photos, contexts, cache, policy)
    return replace(located, outcomes=outcomes)


@dataclass(frozen=True)
class RunSummary:
    """The results of a run.

    Attributes:
        captioner, prompt: ids.
        computed, cached, failed: numbers of distinct photos.
        tokens_in, tokens_out: tokens of the run.
        cost: money spent, in the currency of the prices in the settings.
        statuses: number of items with each status after the run.
        left: number of photos that were not captioned because the spending cap ended the run.
        failure: the most frequent reason of failed calls if the run produced failures only and at least one call
            failed; else None.
        errors: number of photos with each reason of a call without a caption, the most frequent first.
    """

    captioner: str
    prompt: str
    computed: int
    cached: int
    failed: int
    tokens_in: int
    tokens_out: int
    cost: float
    statuses: dict[str, int]
    left: int = 0
    failure: str | None = None
    errors: dict[str, int] = field(default_factory=dict)


def run_captions(
    settings: Settings,
    captioner: str | None = None,
    *,
    limit: int | None = None,
    max_cost: float | None = None,
    retry: Collection[str] = (),
    part: Share | None = None,
    environment: str = "prod",
) -> RunSummary:
    """Fetch and caption the pending items, by descending priority. Every answer is stored as soon as it arrives.

    Args:
        settings: captioner, prices, photos and cache.
        captioner: name of another captioner than the active one.
        limit: the largest number of items. A retry takes those that were never retried, then those whose last retry is
            the longest ago.
        max_cost: the most money to spend; by default that of the settings.
        retry: statuses of `RETRYABLE` to work on instead of pending.
        part: share of the items; by default all.
        environment: the SQLMesh environment of the items.

    Raises:
        UsageError: the captioner is unknown or cannot work, the tables do not exist yet, or there is a spending cap
            without prices.
        RunError: warehouse or cache cannot be used, the captioner breaks its contract, or every call fails.
    """
    cost_meter = CostMeter.from_settings(settings, max_cost)
    origin = RETRY if retry else "run"
    policy = FillPolicy(retry_failed=bool(retry), origin=origin, cost_meter=cost_meter, show=bar)
    with Cache(settings.cache) as cache:
        located = locate_items(settings, cache, captioner, environment)
        attempts = _attempts(located, cache) if retry else {}  # before the outcomes: no later attempt may be among them
        before = _look_up(located, cache)
        candidates = before.positions(retry or ("pending",))
        selected = before.in_part(candidates, part)
        selected = (_order_by_last_retry(before, selected, cache) if retry else selected)[:limit]
        outcomes, results = caption_selected(before, selected, settings, cache, policy, attempts)
        after = dict(zip(selected, outcomes, strict=True))
        # Items that were left out may share photo and prompt with others.
        left_out = [at for at, outcome in enumerate(before.outcomes) if outcome.status != "ok" and at not in after]
        after |= _look_up_again(before, left_out if selected else [], settings, cache)
    statuses = Counter(after.get(at, outcome).status for at, outcome in enumerate(before.outcomes))
    errors = Counter(map(_describe, results.new_failures.values()))
    failed = Counter(failure.message for failure in results.new_failures.values() if failure.status == "failed")
    return RunSummary(
        captioner=before.captioner.id,
        prompt=before.captioner.prompt,
        computed=results.computed,
        cached=results.cached,
        failed=results.failed,
        tokens_in=cost_meter.tokens_in,
        tokens_out=cost_meter.tokens_out,
        cost=cost_meter.cost,
        statuses=dict(statuses.most_common()),
        left=results.left,
        failure=failed.most_common(1)[0][0] if failed and not results.computed else None,
        errors=dict(errors.most_common()),
    )


def _describe(failure: Failure) -> str:
    return f"{failure.status}: {failure.message}"


def _attempts(located: CatalogueCaptions, cache: Cache) -> dict[str, Attempt]:
    return cache.attempts(located.keys(range(len(located.items)), located.photos))


def _order_by_last_retry(captions: CatalogueCaptions, selected: list[int], cache: Cache) -> list[int]:
    """Return the positions by their last retry, those without one first, so that no permanent fault blocks others."""
    keys = captions.retry_keys(selected)
    retried = cache.last_retries(keys)
    last_retry = {position: retried.get(key, 0) for position, key in zip(selected, keys, strict=True)}
    return sorted(selected, key=last_retry.__getitem__)


def _look_up_again(
    captions: CatalogueCaptions, positions: list[int], settings: Settings, cache: Cache
) -> dict[int, Outcome]:
    """Return the cached outcomes of the items at these positions as they are now."""
    items = [captions.items[at] for at in positions]
    photos = locate_photos([item.image for item in items], settings.data_dir, cache)
    now = _look_up(replace(captions, items=items, photos=photos), cache)
    return dict(zip(positions, now.outcomes, strict=True))


def caption_selected(
    captions: CatalogueCaptions,
    selected: list[int],
    settings: Settings,
    cache: Cache,
    policy: FillPolicy,
    attempts: Mapping[str, Attempt] | None = None,
) -> tuple[list[Outcome], Results[Entry]]:
    """Fetch and caption the items at these positions.

    Where photos have to be fetched, the next items are fetched while some are captioned. A retry repeats failed calls
    and unusable answers, and reads bad photos again.

    Args:
        captions: the catalogue with its outcomes.
        selected: positions, the first to caption first.
        settings: photos and cache.
        cache: of the settings.
        policy: what may be computed and spent.
        attempts: of a retry, the last attempts when the outcomes were read: it repeats no call of another run since.

    Returns:
        An outcome for each position, the earlier one where the spending cap ended the run before it, and the results.

    Raises:
        UsageError, RunError: as `run_captions`.
    """
    captioner, checks = captions.captioner, RunChecks(captions.captioner, policy.cost_meter)
    groups = _split_for_fetching(captions, selected)
    outcomes: list[Outcome] = []
    results: Results[Entry] = Results()
    failures: dict[str, Failure] = {}
    rows: dict[tuple[str, str], LedgerRow] = {}
    with _shared_progress(policy.show, captioner, len(selected), len(groups)) as (show, advance_to):
        for group, photos in _fetch_ahead(captions, groups, settings, cache, policy):
            contexts = [captions.items[position].context for position in group]
            own = replace(policy, show=show, rows=rows)
            if policy.origin == RETRY:
                own = replace(own, recompute=set(captions.keys(group, photos)), attempts=attempts)
                cache.note_retries(captions.retry_keys([at for at in group if captions.photos[at].failure]))
            captioned, results = caption_photos(captioner, photos, contexts, cache, own, checks)
            outcomes += captioned
            failures |= results.new_failures
            advance_to(len(outcomes))
            if results.left:
                rest = selected[len(outcomes) :]
                outcomes += [captions.outcomes[at] for at in rest]
                results = replace(results, left=results.left + len(rest))
                break
    return outcomes, replace(results, new_failures=failures)


def _split_for_fetching(captions: CatalogueCaptions, selected: list[int]) -> list[list[int]]:
    """Return the positions in groups that are fetched one ahead of the other; one group if nothing is to be fetched.

    The first groups are small, so that captioning begins soon. The others are large beside the number of workers, since
    workers wait for each other at the end of a group.
    """
    images = ((captions.items[at].image, captions.photos[at].failure) for at in selected)
    if not any(is_url(image) and failure for image, failure in images):
        return [selected] if selected else []
    groups, start, size = [], 0, _FIRST_GROUP
    while start < len(selected):
        groups.append(selected[start : start + size])
        start, size = start + size, min(2 * size, max(_LARGE_GROUP, _CALLS_OF_A_WORKER * captions.captioner.workers))
    return groups


def _fetch_ahead(
    captions: CatalogueCaptions, groups: list[list[int]], settings: Settings, cache: Cache, policy: FillPolicy
) -> Iterator[tuple[list[int], list[PhotoFile]]]:
    """Yield each group with its photos; the next group is fetched in a thread meanwhile."""
    if len(groups) <= 1:
        yield from ((group, fetch_selected(captions, group, settings, cache, policy)) for group in groups)
        return
    quiet = replace(policy, show=lambda label, total: nullcontext(_ignore), rows={})

    def fetch(group: list[int]) -> list[PhotoFile]:
        with Cache(settings.cache) as own:  # a connection belongs to its thread
            return fetch_selected(captions, group, settings, own, quiet)

    following = start_in_thread(partial(fetch, groups[0]))
    for number, group in enumerate(groups, 1):
        photos = following.result()
        if number < len(groups):
            following = start_in_thread(partial(fetch, groups[number]))
        yield group, photos


def _ignore(steps: int) -> None:
    pass


@contextmanager
def _shared_progress(
    show: Show, captioner: Captioner, items: int, groups: int
) -> Iterator[tuple[Show, Callable[[int], None]]]:
    """Yield what shows the progress of a group, and a function that takes the number of items that are done.

    Several groups share one progress, which counts items.
    """
    if groups <= 1:
        yield show, _ignore
        return
    done = 0
    with show(f"captions by {captioner.id}", items) as advance:

        def step(count: int) -> None:
            nonlocal done
            done += count
            advance(count)

        yield lambda label, total: nullcontext(step), lambda count: step(max(0, count - done))


def fetch_selected(
    captions: CatalogueCaptions, selected: list[int], settings: Settings, cache: Cache, policy: FillPolicy
) -> list[PhotoFile]:
    """Return the photos of the items at these positions; those behind URLs are fetched, and bad ones once more.

    Raises:
        RunError: the cache cannot be used.
    """
    if not any(captions.photos[at].failure or captions.outcomes[at].status in RETRYABLE_PHOTOS for at in selected):
        return [captions.photos[at] for at in selected]
    bad = [captions.items[at].image for at in selected if captions.outcomes[at].status in RETRYABLE_PHOTOS]
    urls = {photo_key(with_scheme(image)) for image in bad if is_url(image)}
    fetching = replace(policy, limit=None, recompute=urls, cost_meter=CostMeter())
    remote = FetchPolicy(fetching, settings.allow_private_addresses)
    return locate_photos([captions.items[at].image for at in selected], settings.data_dir, cache, remote)


@dataclass(frozen=True)
class PreviewedCaption:
    """One item of a preview: its rendered prompt, and the outcome as in `Outcome`."""

    item_id: str
    title: str
    prompt: str
    status: str
    answer: str | None
    error: str | None
    tokens_in: int | None
    tokens_out: int | None
    seconds: float | None


def preview_captions(
    settings: Settings, count: int, captioner: str | None = None, environment: str = "prod"
) -> list[PreviewedCaption]:
    """Caption the `count` items of the highest priority that have a photo, and return new and cached outcomes.

    As in a run, an earlier failure is returned and not retried.

    Raises:
        UsageError, RunError: as `run_captions`.
    """
    policy = FillPolicy(retry_failed=False, origin="preview", cost_meter=CostMeter.from_settings(settings), show=bar)
    with Cache(settings.cache) as cache:
        captions = look_up_captions(settings, cache, captioner, environment)
        selected = [at for at, outcome in enumerate(captions.outcomes) if outcome.status not in _WITHOUT_PHOTO][:count]
        outcomes, _ = caption_selected(captions, selected, settings, cache, policy)
    pairs = zip((captions.items[position] for position in selected), outcomes, strict=True)
    return [_preview(captions.captioner, item, outcome) for item, outcome in pairs]


def _preview(captioner: Captioner, item: Item, outcome: Outcome) -> PreviewedCaption:
    return PreviewedCaption(
        item_id=item.item_id,
        title=item.title,
        prompt=captioner.render(item.context),
        status=outcome.status,
        answer=outcome.answer,
        error=outcome.error,
        tokens_in=outcome.tokens_in,
        tokens_out=outcome.tokens_out,
        seconds=outcome.seconds,
    )
