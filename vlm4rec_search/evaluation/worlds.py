"""The built-in shop as a world with known answers: does the effect appear there, and only there, where it has to?"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vlm4rec_search.common.settings import Settings
from vlm4rec_search.evaluation.snapshots import plan

ITEMS, SHOPPERS = 400, 800  # enough for intervals of a few hundredths


@contextmanager
def built_world(settings: Settings, world: str, seed: int, say: Callable[[str], None]) -> Iterator[Settings]:
    """Build a shop and its tables in a folder of their own, and yield settings that name them.

    The captioner is the small model that was trained on this shop's drawings. Encoders, cache and results file stay the
    caller's; folder and tables are removed at the end.

    Args:
        settings: of the caller.
        world: `photo` or `title`, see `shop.build.build_shop`.
        seed: of the shop.
        say: told each long step.

    Raises:
        UsageError: there is no such world.
        RunError: the plan failed.
    """
    from vlm4rec_search.datasets.demo_shop.build import build_shop

    settings.cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=settings.cache.resolve(), prefix="evaluation-") as name:
        folder = Path(name)
        say(f"Building the world {world}: {ITEMS} items, {SHOPPERS} shoppers, and its tables")
        build_shop(folder / "data", world, ITEMS, SHOPPERS, seed, dirty=False)
        places = {"data_dir": folder / "data", "warehouse": folder / "warehouse.duckdb", "as_of": None}
        there = settings.model_copy(update={**places, "captioner": "tiny"})
        plan(there, "prod")
        yield there
