"""Draws the items of the built-in shop: their texts, prices, looks, and the traits that tastes follow."""

from dataclasses import dataclass

import numpy as np

from vlm4rec_search.datasets.demo_shop.looks import MATERIALS_OF, Look, draw_look
from vlm4rec_search.datasets.demo_shop.shoppers import MONTHS

WORLDS = ("photo", "title")
SEASONS = ("spring", "summer", "autumn", "winter")

_BRANDS = (
    "Alder Bryn Calder Dunmore Elwin Farrow Gable Harlow Ives Jessop Kestrel Larkin "
    "Merrow Nolan Orwell Pemberly Quill Rowan Selby Thorne Upton Verity Wexley Yarrow"
)
_CATEGORIES = {
    "clothing": (48, ("dress", "shirt", "jacket", "trousers", "skirt")),
    "shoes": (75, ("sneaker",)),
    "bags": (65, ("tote", "backpack")),
    "accessories": (25, ("hat",)),
    "home": (22, ("cushion", "vase")),
    "kitchen": (12, ("mug",)),
    "lighting": (55, ("lamp",)),
    "furniture": (140, ("chair",)),
}
"""The typical price and the shapes of each category."""
_CATEGORY_OF = {shape: category for category, (_, shapes) in _CATEGORIES.items() for shape in shapes}
_NAMES = {
    "trousers": ("trousers", "pants"),
    "sneaker": ("sneakers", "shoes"),
    "tote": ("tote", "handbag"),
    "backpack": ("backpack", "rucksack"),
    "cushion": ("cushion", "pillow"),
    "mug": ("mug", "cup"),
    "lamp": ("lamp", "table lamp"),
    "jacket": ("jacket", "coat"),
}
"""Names in titles of the shapes that have more than one."""
_OCCASIONS = {"office": "the office", "outdoor": "the outdoors", "party": "parties"}
_NEUTRAL = (
    "Ships within two days.",
    "Free returns for a month.",
    "Chosen by our buyers.",
    "Please see the size guide.",
    "",
)


@dataclass(frozen=True)
class Item:
    """One item of the catalogue. Tastes follow `style`, `material` and `use`; the photo shows `look`."""

    item_id: str
    title: str
    description: str
    category: str
    price: float
    brand: str
    season: str
    available: bool
    launch_month: int
    style: str
    material: str
    use: str
    look: Look


def draw_items(world: str, count: int, rng: np.random.Generator) -> list[Item]:
    """Draw a catalogue.

    In the world `photo` only the photo shows the traits that tastes follow. In the world `title` the title and the
    description name them, and the photo shows another look, drawn independently.
    """
    return [_draw_item(world, f"{number:05d}", rng) for number in range(1, count + 1)]


def _draw_item(world: str, item_id: str, rng: np.random.Generator) -> Item:
    shape = str(rng.choice(list(MATERIALS_OF)))
    liked = draw_look(shape, rng)
    shown = liked if world == "photo" else draw_look(shape, rng)
    brand, season = str(rng.choice(_BRANDS.split())), str(rng.choice([*SEASONS, "all year"]))
    name = str(rng.choice(_NAMES.get(shape, (shape,))))
    title, description = _texts(world, brand, name, liked, rng)
    category = _CATEGORY_OF[shape]
    return Item(
        item_id=item_id,
        title=title,
        description=description,
        category=category,
        price=round(_CATEGORIES[category][0] * float(rng.lognormal(0, 0.35)), 2),
        brand=brand,
        season=season,
        available=bool(rng.random() < 0.95),
        launch_month=_launch_month(rng),
        style=liked.style,
        material=liked.material,
        use=liked.use,
        look=shown,
    )


def _texts(world: str, brand: str, name: str, liked: Look, rng: np.random.Generator) -> tuple[str, str]:
    neutral = str(rng.choice(_NEUTRAL))
    if world == "photo":
        return f"{brand} {name}", neutral
    title = f"{brand} {liked.style} {liked.material} {name} for {_OCCASIONS[liked.use]}"
    sentence = f"{liked.style.capitalize()} in style and made for {_OCCASIONS[liked.use]}."
    return title, f"{sentence} {neutral}".strip()


def _launch_month(rng: np.random.Generator) -> int:
    """Draw a month: 0 for most items, a month of the second half of the year for 15 percent."""
    return int(rng.integers(MONTHS // 2, MONTHS)) if rng.random() < 0.15 else 0
