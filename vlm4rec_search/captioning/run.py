"""Captioning ahead of a plan: everything that is pending, or once more what went wrong."""

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace

from vlm4rec_search.captioning.generate import Entry, Outcome, caption_keys, caption_photos
from vlm4rec_search.captioning.registry import Captioner, Context, load_captioner
from vlm4rec_search.common.cache import Cache, CostMeter, FillPolicy, Results
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.warehouse import read, schema
from vlm4rec_search.datasets.photos.decode import PhotoFile
from vlm4rec_search.datasets.photos.fetch import photo_key
from vlm4rec_search.datasets.photos.locate import FetchPolicy, is_url, locate_photos

# The items to caption, the most wanted first, read without holding the warehouse.

BY_PRIORITY = """
    WITH taken AS (
      SELECT histories.item_id, COUNT(*) AS times, EPOCH(MAX(histories.interacted_at)) AS latest
      FROM "{histories}".user_histories AS histories
      GROUP BY histories.item_id
    ), wanted AS (
      SELECT
        taken.item_id,
        0.7 * taken.times / MAX(taken.times) OVER () + 0.3 * COALESCE(
          (taken.latest - MIN(taken.latest) OVER ()) / NULLIF(MAX(taken.latest) OVER () - MIN(taken.latest) OVER (), 0),
          1
        ) AS priority
      FROM taken
    )
    SELECT
      items.item_id, items.image, items.title, COALESCE(items.category, ''), COALESCE(wanted.priority, 0) AS priority
    FROM "{staging}".items AS items
    LEFT JOIN wanted ON wanted.item_id = items.item_id
    ORDER BY priority DESC, items.item_id
"""


@dataclass(frozen=True)
class Item:
    """An item of staging.items; `image` is a path in the data folder, a URL, or None; `priority` is from 0 to 1."""

    item_id: str
    image: str | None
    title: str
    category: str
    priority: float

    @property
    def context(self) -> Context:
        """What a captioner may know of the item."""
        return Context(self.title, self.category)


def items_by_priority(settings: Settings, environment: str = "prod") -> list[Item]:
    """Return every item, the highest priority first.

    The priority is the paper's: 0.7 x popularity + 0.3 x recency, each from 0 to 1: interactions as a share of the
    most popular item's, and the latest interaction's place between the earliest and the newest of all items; 0 for an
    item without any. While a plan writes the warehouse, the published copy is read.

    Raises:
        UsageError: no plan has built the tables yet.
        RunError: the warehouse is being written, and there is no published copy.
    """
    query = BY_PRIORITY.format(staging=schema("staging", environment), histories=schema("histories", environment))
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


PHOTOS = ("unreachable", "blocked", "unreadable", "too_large", "wrong_type")
"""What another photo at the same place can change; nothing is paid for one that is still bad. A photo that is
missing or outside of the data folder is looked for by every run."""
RETRIED = ("failed", "refused", "empty", "too_long", "repeated", "wrong_language", "markup", "echo", *PHOTOS)


@dataclass(frozen=True)
class Summary:
    """What a run did, in distinct photos (`computed`, `cached`, `failed`), and how the items stand after it.

    `statuses` counts items; `cost` is in the currency of the prices in the settings. `left` counts photos that were
    not captioned because the cap on spend ended the run. `broken` says why the captioner failed where nothing but
    failures came of the run, not all of them refusals or bad photos.
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
    broken: str | None = None

    def as_json(self) -> dict[str, object]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Standing:
    """The items in order of priority with what the cache knows of each."""

    maker: Captioner
    items: list[Item]
    found: list[PhotoFile]
    outcomes: list[Outcome]

    def at(self, statuses: Collection[str]) -> list[int]:
        """Return the positions of the items with one of these statuses."""
        return [position for position, one in enumerate(self.outcomes) if one.status in statuses]

    def counts(self) -> dict[str, int]:
        """Return the number of items by status, the most frequent first."""
        return dict(Counter(one.status for one in self.outcomes).most_common())


def standing(settings: Settings, cache: Cache, captioner: str | None = None, environment: str = "prod") -> Standing:
    """Look up what is known of every item; nothing is fetched or computed.

    Raises:
        UsageError: unknown captioner, or no tables yet.
        RunError: warehouse or cache cannot be used.
    """
    maker = load_captioner(captioner or settings.captioner, settings)
    items = items_by_priority(settings, environment)
    known = locate_photos([item.image for item in items], settings.data_dir, cache)
    told = [item.context for item in items]
    outcomes, _ = caption_photos(maker, known, told, cache, FillPolicy(limit=0, retry_failed=False))
    return Standing(maker, items, known, outcomes)


def run_captions(
    settings: Settings,
    captioner: str | None = None,
    *,
    limit: int | None = None,
    max_cost: float | None = None,
    retry: Collection[str] = (),
    environment: str = "prod",
) -> Summary:
    """Fetch and caption what is pending, the most wanted items first; every answer is kept as it comes.

    Args:
        settings: captioner, prices, photos and cache.
        captioner: another one than the active.
        limit: most items to work on; of a retry those that failed longest ago.
        max_cost: most money to spend; default: the settings'.
        retry: statuses to work on in place of pending, of `RETRIED`.
        environment: the SQLMesh environment whose items are captioned.

    Raises:
        UsageError: unknown captioner, no tables yet, a cap without prices, or a captioner that cannot work.
        RunError: warehouse or cache cannot be used, the captioner breaks its contract, or every call fails.
    """
    counter = CostMeter.from_settings(settings, max_cost)
    policy = FillPolicy(retry_failed=bool(retry), origin="retry" if retry else "run", cost_meter=counter, show=bar)
    with Cache(settings.cache) as cache:
        before = standing(settings, cache, captioner, environment)
        chosen = before.at(retry or ("pending",))
        chosen = (_longest_untried(before, chosen, cache) if retry else chosen)[:limit]
        outcomes, filled = caption_these(before, chosen, settings, cache, policy) if chosen else ([], Results())
        after = standing(settings, cache, captioner, environment) if chosen else before
    counts = (filled.computed, filled.cached, filled.failed)
    spent = (counter.tokens_in, counter.tokens_out, counter.cost)
    broken = None if filled.computed or not filled.failed else _broken(outcomes)
    return Summary(before.maker.id, before.maker.prompt, *counts, *spent, after.counts(), filled.left, broken)


def _longest_untried(known: Standing, chosen: list[int], cache: Cache) -> list[int]:
    """Return the positions, what failed longest ago first: what fails for ever keeps nothing else from its turn."""
    keys = _keys(known, chosen, [known.found[position] for position in chosen])
    tried = cache.failed_attempts(keys)
    last = {position: tried.get(key, 0) for position, key in zip(chosen, keys, strict=True)}
    return sorted(chosen, key=last.__getitem__)


def _keys(known: Standing, chosen: list[int], found: list[PhotoFile]) -> list[str]:
    prompts = [known.maker.render(known.items[position].context) for position in chosen]
    return caption_keys(known.maker, found, prompts)


def _broken(outcomes: list[Outcome]) -> str | None:
    return next((one.error for one in outcomes if one.status == "failed"), None)


def caption_these(
    known: Standing, chosen: list[int], settings: Settings, cache: Cache, policy: FillPolicy
) -> tuple[list[Outcome], Results[Entry]]:
    """Fetch and caption the items at these positions; a retry asks again where there is an answer or a bad photo.

    Raises:
        UsageError, RunError: as `run_captions`.
    """
    items = [known.items[position] for position in chosen]
    bad = [known.items[at].image for at in chosen if known.outcomes[at].status in PHOTOS]
    urls = {photo_key(image.strip()) for image in bad if is_url(image)}
    fetching = FillPolicy(retry_failed=policy.retry_failed, recompute=urls, origin=policy.origin, show=policy.show)
    remote = FetchPolicy(fetching, settings.allow_private_addresses)
    found = locate_photos([item.image for item in items], settings.data_dir, cache, remote)
    told = [item.context for item in items]
    again = set(_keys(known, chosen, found)) if policy.origin == "retry" else set()
    return caption_photos(known.maker, found, told, cache, replace(policy, recompute=again))


# The first captions of a catalogue, to look at before the rest is paid for.

_WITHOUT_PHOTO = ("no_photo", "missing", "outside", "blocked", "unreadable", "too_large", "wrong_type")


@dataclass(frozen=True)
class Previewed:
    """One item: the prompt as the captioner gets it, and what became of it, as in `Outcome`."""

    item_id: str
    title: str
    prompt: str
    status: str
    answer: str | None
    error: str | None
    tokens_in: int | None
    tokens_out: int | None
    seconds: float | None

    def as_json(self) -> dict[str, object]:
        """Return the fields by name."""
        return asdict(self)


def preview(settings: Settings, count: int, captioner: str | None = None, environment: str = "prod") -> list[Previewed]:
    """Caption the `count` most wanted items that have a photo, and return what came back, now or before.

    As in a run, what failed before is shown and not asked for again.

    Raises:
        UsageError, RunError: as `run_captions`.
    """
    policy = FillPolicy(retry_failed=False, origin="preview", cost_meter=CostMeter.from_settings(settings), show=bar)
    with Cache(settings.cache) as cache:
        known = standing(settings, cache, captioner, environment)
        chosen = [at for at, one in enumerate(known.outcomes) if one.status not in _WITHOUT_PHOTO][:count]
        outcomes, _ = caption_these(known, chosen, settings, cache, policy)
    return [_previewed(known, position, one) for position, one in zip(chosen, outcomes, strict=True)]


def _previewed(known: Standing, position: int, one: Outcome) -> Previewed:
    item = known.items[position]
    said = (one.status, one.answer, one.error, one.tokens_in, one.tokens_out, one.seconds)
    return Previewed(item.item_id, item.title, known.maker.render(item.context), *said)
