"""Builds the built-in shop: a data folder with drawn photos and simulated shoppers."""

import csv
import json
import re
import shutil
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.progress import bar
from vlm4rec_search.datasets.demo_shop.catalogue import SEASONS, WORLDS, Item, draw_items
from vlm4rec_search.datasets.demo_shop.dirt import BAD_PHOTOS, ItemRow, bad_interactions, bad_items, bad_photo_kinds
from vlm4rec_search.datasets.demo_shop.drawing import draw_photo
from vlm4rec_search.datasets.demo_shop.looks import MATERIALS_OF, STYLES, USES
from vlm4rec_search.datasets.demo_shop.shoppers import (
    END,
    START,
    ItemTraits,
    draw_popularity,
    log_rows,
    shopper_ids,
    simulate_log,
    write_log,
)

MARKER = "SHOP.json"
MIN_ITEMS = 16
BAD_ROWS_PER_KIND = 3
_WORK = ".shop-in-progress"
_OWN_FILES = ("items.csv", "interactions.csv.gz", "labels.csv", MARKER)
_OWN_PHOTO = re.compile(r"\d{5,}\.(jpg|png|gif)")
_MATERIALS = tuple(sorted({material for materials in MATERIALS_OF.values() for material in materials}))


@dataclass(frozen=True)
class ShopSummary:
    """Contents of a built shop. `items` and `interactions` count the good rows, `planted_*` the wrong ones by kind."""

    world: str
    seed: int
    items: int
    shoppers: int
    interactions: int
    first_day: str
    last_day: str
    planted_items: dict[str, int]
    planted_interactions: dict[str, int]
    planted_photos: dict[str, str]
    """For each item id with a bad photo the kind of error."""


def build_shop(to: Path, world: str, items: int, shoppers: int, seed: int, dirty: bool) -> ShopSummary:
    """Draw the photos, simulate the shoppers and write the folder `to`; the same arguments give the same bytes.

    Args:
        to: data folder. If it exists, it must be empty or an earlier shop, which is replaced.
        world: `photo` (tastes follow traits that only photos show) or `title` (tastes follow traits named in titles).
        items: number of good items, at least MIN_ITEMS.
        shoppers: number of shoppers, at least 1.
        seed: 0 or more.
        dirty: whether to add wrong rows and bad photos, listed in SHOP.json.

    Raises:
        UsageError: a number is too small, the world is unknown, or `to` holds other files than a shop.
    """
    _check_arguments(to, world, items, shoppers, seed)
    # Inside `to`, because files can be moved in one step only within one file system.
    work = to / _WORK
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        summary = _write_shop(work, world, items, shoppers, seed, dirty)
        _replace_shop(to, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return summary


def _check_arguments(to: Path, world: str, items: int, shoppers: int, seed: int) -> None:
    if world not in WORLDS:
        raise UsageError(f"there is no world {world!r}; choose one of {', '.join(WORLDS)}")
    if items < MIN_ITEMS or shoppers < 1 or seed < 0:
        raise UsageError(f"a shop needs at least {MIN_ITEMS} items, 1 shopper and a seed of 0 or more")
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is a file; give a folder")
    if to.is_dir() and {path.name for path in to.iterdir()} - {_WORK} and not (to / MARKER).is_file():
        raise UsageError(f"{to} holds other files (no {MARKER}): give a new or an empty folder")


def _write_shop(work: Path, world: str, items: int, shoppers: int, seed: int, dirty: bool) -> ShopSummary:
    rng = np.random.default_rng(seed)
    catalogue = draw_items(world, items, rng)
    kinds = bad_photo_kinds(items) if dirty else []
    spoiled = {catalogue[items // len(kinds) * number].item_id: kind for number, kind in enumerate(kinds)}
    rows = [_item_row(item, spoiled.get(item.item_id)) for item in catalogue]
    wrong_items = bad_items(rows[1], items + 1) if dirty else {}
    _write_csv(work / "items.csv", [*rows, *wrong_items.values()])
    _write_csv(work / "labels.csv", [_labels(item) for item in catalogue])
    _write_photos(work, catalogue, spoiled, seed)
    events, wrong_events = _write_log(work, catalogue, shoppers, rng, dirty)
    days = (str(START)[:10], str(END)[:10])
    summary = ShopSummary(
        world, seed, items, shoppers, events, *days, dict.fromkeys(wrong_items, 1), wrong_events, spoiled
    )
    about = {"demo": "This is a demo: the photos are drawn and the shoppers are simulated.", **asdict(summary)}
    (work / MARKER).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return summary


def _item_row(item: Item, spoiled: str | None) -> ItemRow:
    suffix = BAD_PHOTOS[spoiled][0] if spoiled else ".jpg"
    return {
        "item_id": item.item_id,
        "title": item.title,
        "description": item.description,
        "category": item.category,
        "price": f"{item.price:.2f}",
        "image": f"images/{item.item_id}{suffix}" if suffix else "",
        "available": str(item.available).lower(),
        "brand": item.brand,
        "season": item.season,
    }


def _labels(item: Item) -> dict[str, str]:
    shown = {f"shown_{name}": value for name, value in asdict(item.look).items()}
    liked = {"style": item.style, "material": item.material, "use": item.use}
    return {"item_id": item.item_id, **liked, **shown, "launch_month": str(item.launch_month)}


def _write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_photos(work: Path, catalogue: list[Item], spoiled: dict[str, str], seed: int) -> None:
    (work / "images").mkdir()
    with bar("drawing photos", len(catalogue)) as advance:
        for number, item in enumerate(catalogue):
            photo = draw_photo(item.look, np.random.default_rng([seed, number]))
            if kind := spoiled.get(item.item_id):
                suffix, spoil = BAD_PHOTOS[kind]
                spoil(photo, work / "images" / f"{item.item_id}{suffix}")
            else:
                photo.save(work / "images" / f"{item.item_id}.jpg", quality=88)
            advance(1)


def _write_log(
    work: Path, catalogue: list[Item], shoppers: int, rng: np.random.Generator, dirty: bool
) -> tuple[int, dict[str, int]]:
    log = simulate_log(_item_traits(catalogue, rng), shoppers, rng)
    users, items = shopper_ids(shoppers), [item.item_id for item in catalogue]
    wrong = bad_interactions(list(islice(log_rows(log, users, items), BAD_ROWS_PER_KIND))) if dirty else {}
    write_log(work / "interactions.csv.gz", chain(log_rows(log, users, items), *wrong.values()))
    return len(log.items), {kind: len(rows) for kind, rows in wrong.items()}


def _item_traits(catalogue: list[Item], rng: np.random.Generator) -> ItemTraits:
    codes = [[STYLES.index(item.style), _MATERIALS.index(item.material), USES.index(item.use)] for item in catalogue]
    seasons = [SEASONS.index(item.season) if item.season in SEASONS else -1 for item in catalogue]
    launches = np.array([item.launch_month for item in catalogue])
    launches[0] = 0
    return ItemTraits(np.array(codes), draw_popularity(len(catalogue), rng), np.array(seasons), launches)


def _replace_shop(to: Path, work: Path) -> None:
    """Move the new files into `to` and delete the photos of the earlier shop; other files stay.

    The marker is copied before all other files, so that an interrupted run can be repeated.
    """
    photos = to / "images"
    photos.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(work / MARKER, to / MARKER)
    for old in photos.iterdir():
        if _OWN_PHOTO.fullmatch(old.name) and not (work / "images" / old.name).exists():
            old.unlink()
    for photo in (work / "images").iterdir():
        photo.replace(photos / photo.name)
    for name in _OWN_FILES:
        (work / name).replace(to / name)
