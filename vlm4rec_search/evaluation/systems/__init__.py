"""Systems by name: those of the project, and those that other packages register."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import entry_points

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.evaluation.systems.base import System
from vlm4rec_search.evaluation.systems.behaviour import CoPurchase, Popularity, Random, Recent
from vlm4rec_search.evaluation.systems.content import BM25, OnlyOne, Pair
from vlm4rec_search.evaluation.systems.learned import ARCHITECTURES, Learned
from vlm4rec_search.evaluation.systems.peers import Ease, Factors, ItemKNN, UserKNN
from vlm4rec_search.evaluation.systems.product import OracleOfLegs, Product, SplitReleases
from vlm4rec_search.search.ranking import Ranking

GROUP = "vlm4rec_search.systems"
Make = Callable[[], System]


def registry(ranking: Ranking | None = None) -> dict[str, Make]:
    """Return the factory of every system by name, the systems of the paper first.

    Args:
        ranking: configuration of the product's own systems; None takes the one that comes with the package.
    """
    releases = SplitReleases()
    factories: dict[str, Make] = {
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
        "ease": Ease,
        "item-knn": ItemKNN,
        "user-knn": UserKNN,
        "als": partial(Factors, "als"),
        "bpr": partial(Factors, "bpr"),
        "random": Random,
        "product-hybrid": lambda: Product("product-hybrid", "hybrid", ranking, releases),
        "product-semantic": lambda: Product("product-semantic", "semantic", ranking, releases),
        "product-lexical": lambda: Product("product-lexical", "lexical", ranking, releases),
        "product-behaviour": lambda: Product("product-behaviour", "behaviour", ranking, releases),
        "product-ease": lambda: Product("product-ease", "ease", ranking, releases),
        "product-shoppers": lambda: Product("product-shoppers", "shoppers", ranking, releases),
        "product-fitted": lambda: Product("product-fitted", "fitted", ranking, releases),
        "oracle-of-legs": lambda: OracleOfLegs(ranking, releases),
    }
    return factories | {point.name: point.load() for point in entry_points(group=GROUP)}


def load_systems(names: Sequence[str], ranking: Ranking | None = None) -> list[System]:
    """Return the systems of these names; without names, all of them.

    Args:
        names: of the systems.
        ranking: see `registry`.

    Raises:
        UsageError: a name is unknown or repeated.
    """
    factories = registry(ranking)
    unknown = [name for name in names if name not in factories]
    if unknown:
        raise UsageError(f"there is no system {unknown[0]!r}: choose among {', '.join(factories)}")
    if len(set(names)) < len(names):
        raise UsageError("a system is named twice in --systems")
    return [factories[name]() for name in names or factories]
