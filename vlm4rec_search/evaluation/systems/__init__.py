"""Systems by name: those of the project, and those that other packages register."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.evaluation.systems.base import System

GROUP = "vlm4rec_search.systems"
Make = Callable[[], System]


def registry() -> dict[str, Make]:
    """Return a maker for every system by name, the paper's rows first."""
    from vlm4rec_search.evaluation.systems.behaviour import CoPurchase, Popularity, Random, Recent
    from vlm4rec_search.evaluation.systems.content import BM25, OnlyOne, Pair
    from vlm4rec_search.evaluation.systems.learned import ARCHITECTURES, Learned
    from vlm4rec_search.evaluation.systems.product import Product

    makers: dict[str, Make] = {
        "description-only": lambda: OnlyOne("description-only", "description"),
        "title-only": lambda: OnlyOne("title-only", "title"),
        "vision-only": lambda: OnlyOne("vision-only", "vision"),
        "description+vision-concat": lambda: Pair("description+vision-concat", "description", "vision", False),
        "description+vision-mean": lambda: Pair("description+vision-mean", "description", "vision", True),
        "title+vision-concat": lambda: Pair("title+vision-concat", "title", "vision", False),
        "title+vision-mean": lambda: Pair("title+vision-mean", "title", "vision", True),
        **{
            f"{text}+vision-{architecture}": partial(
                Learned, f"{text}+vision-{architecture}", text, "vision", architecture
            )
            for text in ("description", "title")
            for architecture in ARCHITECTURES
        },
        "popularity": Popularity,
        "recent-popularity": lambda: Recent("recent-popularity", Popularity),
        "bm25": BM25,
        "co-purchase": CoPurchase,
        "recent-co-purchase": lambda: Recent("recent-co-purchase", CoPurchase),
        "random": Random,
        "product-hybrid": lambda: Product("product-hybrid", "hybrid"),
        "product-semantic": lambda: Product("product-semantic", "semantic"),
        "product-lexical": lambda: Product("product-lexical", "lexical"),
        "product-behaviour": lambda: Product("product-behaviour", "behaviour"),
    }
    return makers | {point.name: point.load() for point in entry_points(group=GROUP)}


def load_systems(names: Sequence[str]) -> list[System]:
    """Return the systems of these names, all of them for no name.

    Raises:
        UsageError: an unknown name, or one that is given twice.
    """
    makers = registry()
    unknown = [name for name in names if name not in makers]
    if unknown:
        raise UsageError(f"there is no system {unknown[0]!r}: choose among {', '.join(makers)}")
    if len(set(names)) < len(names):
        raise UsageError("a system is named twice in --systems")
    return [makers[name]() for name in names or makers]
