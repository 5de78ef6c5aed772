"""A few users for the report: photos of what they had, and what two systems put first."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from vlm4rec_search.common.settings import Settings
from vlm4rec_search.evaluation.data import Ints
from vlm4rec_search.evaluation.run import Comparison, Evaluation, Outcome

USERS, SHOWN = 4, 6
SIDE = 96


@dataclass(frozen=True)
class Shown:
    """One item: title, photo as a data URL (empty without one), whether it was to be found, and why it is there."""

    title: str
    photo: str
    found: bool = False
    why: str = ""


@dataclass(frozen=True)
class Example:
    """One user: the end of the history, oldest first, and the top of each list by system."""

    user: str
    history: list[Shown]
    lists: dict[str, list[Shown]]


def examples(evaluation: Evaluation, systems: Sequence[str], settings: Settings) -> list[Example]:
    """Return a few users, drawn by the seed among those whose lists hold something that was to be found.

    Args:
        evaluation: users and lists of its first comparison, and the systems that give reasons.
        systems: two names.
        settings: where photos and their cache are.
    """
    comparison = evaluation.comparisons[0]
    outcomes = [outcome for outcome in comparison.outcomes if outcome.system in systems]
    rows = _pick(comparison, outcomes)
    needed = sorted({int(item) for row in rows for item in (*_history(comparison, row), *_tops(outcomes, row))})
    photos = _photos(comparison, needed, settings)
    return [_example(evaluation, outcomes, row, photos) for row in rows]


def _pick(comparison: Comparison, outcomes: list[Outcome]) -> list[int]:
    relevant = comparison.part.targets.relevant
    hits = np.zeros(relevant.shape[0])
    for outcome in outcomes:
        tops = outcome.ranking[:, :SHOWN]
        rows = np.repeat(np.arange(len(tops)), tops.shape[1])
        hits += (relevant[rows, np.maximum(tops.ravel(), 0)] * (tops.ravel() >= 0)).reshape(tops.shape).sum(axis=1)
    some = np.flatnonzero(hits > 0)
    pool = some if len(some) >= USERS else np.arange(len(hits))
    draw = np.random.default_rng(comparison.part.split.seed)
    return sorted(int(row) for row in draw.choice(pool, min(USERS, len(pool)), replace=False))


def _history(comparison: Comparison, row: int) -> list[int]:
    """Return the last different items of a user, oldest first."""
    split = comparison.part.split
    items = split.items[split.users == comparison.part.targets.users[row]][::-1].tolist()
    return list(dict.fromkeys(items))[:SHOWN][::-1]


def _tops(outcomes: list[Outcome], row: int) -> Ints:
    tops = np.concatenate([outcome.ranking[row, :SHOWN] for outcome in outcomes])
    return tops[tops >= 0]


def _photos(comparison: Comparison, items: list[int], settings: Settings) -> dict[int, str]:
    """Return small photos as data URLs by item; items whose photo cannot be read have none."""
    from vlm4rec_search.common.cache.cache import Cache
    from vlm4rec_search.datasets.photos.decode import read
    from vlm4rec_search.datasets.photos.locate import PhotoError, find

    images = comparison.part.split.catalogue.images
    with Cache(settings.cache) as cache:
        found = find([images[item] for item in items], settings.data_dir, cache)
    photos = {}
    for item, one in zip(items, found, strict=True):
        try:
            image = read(one).image
        except PhotoError:
            continue
        image.thumbnail((SIDE, SIDE))
        content = BytesIO()
        image.save(content, "JPEG", quality=75)
        photos[item] = "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
    return photos


def _example(evaluation: Evaluation, outcomes: list[Outcome], row: int, photos: dict[int, str]) -> Example:
    comparison = evaluation.comparisons[0]
    split, targets = comparison.part.split, comparison.part.targets
    user = int(targets.users[row])
    wanted = set(targets.relevant.indices[targets.relevant.indptr[row] : targets.relevant.indptr[row + 1]].tolist())

    def show(item: int, why: str = "", found: bool = False) -> Shown:
        return Shown(str(split.catalogue.titles[item]), photos.get(item, ""), found, why)

    lists = {}
    for outcome in outcomes:
        items = outcome.ranking[row, :SHOWN]
        items = items[items >= 0]
        reasons = evaluation.fitted[outcome.system].reasons(user, items)
        pairs = zip(items.tolist(), reasons, strict=True)
        lists[outcome.system] = [show(item, why, item in wanted) for item, why in pairs]
    return Example(str(split.user_ids[user]), [show(item) for item in _history(comparison, row)], lists)
