"""The items of the built-in shop: what is sold, what is written about it, and what tastes follow."""

from dataclasses import dataclass

import numpy as np

from vlm4rec_search.datasets.demo_shop.looks import MATERIALS_OF, Look, draw_look
from vlm4rec_search.datasets.demo_shop.shoppers import MONTHS

WORLDS = ("photo", "title")
SEASONS = ("spring", "summer", "autumn", "winter")

_BRANDS = (
    "Alder", "Bryn", "Calder", "Dunmore", "Elwin", "Farrow", "Gable", "Harlow", "Ives", "Jessop", "Kestrel", "Larkin",
    "Merrow", "Nolan", "Orwell", "Pemberly", "Quill", "Rowan", "Selby", "Thorne", "Upton", "Verity", "Wexley", "Yarrow",
)  # fmt: skip
_CATEGORIES: dict[str, str] = {
    "dress": "clothing", "shirt": "clothing", "jacket": "clothing", "trousers": "clothing", "skirt": "clothing",
    "sneaker": "shoes", "tote": "bags", "backpack": "bags", "hat": "accessories", "cushion": "home", "mug": "kitchen",
    "vase": "home", "lamp": "lighting", "chair": "furniture",
}  # fmt: skip
_NAMES: dict[str, tuple[str, ...]] = {
    "trousers": ("trousers", "pants"), "sneaker": ("sneakers", "shoes"), "tote": ("tote", "handbag"),
    "backpack": ("backpack", "rucksack"), "cushion": ("cushion", "pillow"), "mug": ("mug", "cup"),
    "lamp": ("lamp", "table lamp"), "jacket": ("jacket", "coat"),
}  # fmt: skip
_PRICES = {
    "clothing": 48,
    "shoes": 75,
    "bags": 65,
    "accessories": 25,
    "home": 22,
    "kitchen": 12,
    "lighting": 55,
    "furniture": 140,
}
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
    """One row of the catalogue. Tastes follow `style`, `material` and `use`; the photo shows `look`."""

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

    In the world `photo` the photo shows what tastes follow and no text mentions it; in the world `title`
    title and description say it, and the photo shows a look that was drawn independently.
    """
    return [_draw_item(world, f"{number:05d}", rng) for number in range(1, count + 1)]


def _draw_item(world: str, item_id: str, rng: np.random.Generator) -> Item:
    shape = str(rng.choice(list(MATERIALS_OF)))
    liked = draw_look(shape, rng)
    shown = liked if world == "photo" else draw_look(shape, rng)
    brand, season = str(rng.choice(_BRANDS)), str(rng.choice([*SEASONS, "all year"]))
    name = str(rng.choice(_NAMES.get(shape, (shape,))))
    title, description = _texts(world, brand, name, liked, rng)
    category = _CATEGORIES[shape]
    return Item(
        item_id=item_id,
        title=title,
        description=description,
        category=category,
        price=round(_PRICES[category] * float(rng.lognormal(0, 0.35)), 2),
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
    said = f"{liked.style.capitalize()} in style and made for {_OCCASIONS[liked.use]}."
    return title, f"{said} {neutral}".strip()


def _launch_month(rng: np.random.Generator) -> int:
    """Most items were there from the start; some appear in the second half of the year."""
    return int(rng.integers(MONTHS // 2, MONTHS)) if rng.random() < 0.15 else 0
