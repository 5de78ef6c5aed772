"""Commands that fill a data folder: `shop`, `simulate`, `import`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from vlm4rec_search.datasets.importers.write import ImportSummary


# `vlm4rec publish-tables`: the analysts' copy of the warehouse.

_TRY = """Try:
  python -c "import duckdb; duckdb.connect('{path}', read_only=True).sql('QUERY').show()"
with a query such as
  from captions.item_captions select status, count(*) group by all
  from staging.rejected_items select reason, count(*) group by all
  from profiles.term_weights where rank <= 3 order by user_id, rank limit 30"""


@click.command("publish-tables")
@json_option
def publish_tables(as_json: bool) -> None:
    """Replace the analysts' read-only copy of the warehouse in one step.

    Whoever has the old copy open goes on reading it; `sqlmesh plan` is never in anybody's way.

    \b
    Example:
      vlm4rec publish-tables
      VLM4REC_PUBLISHED=/srv/analysts vlm4rec publish-tables --json
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.common.warehouse import publish

    path = publish(settings().warehouse, settings().published)
    size = path.stat().st_size
    if as_json:
        echo_json({"path": str(path), "bytes": size})
        return
    click.echo(f"Published {path} ({size / 1e6:.1f} MB)")
    click.echo(_TRY.format(path=path))


def _print_json(summary: "DataclassInstance") -> None:
    from dataclasses import asdict

    echo_json(asdict(summary))


@click.command()
@click.option("--to", type=click.Path(path_type=Path), help="Folder to write; default: VLM4REC_DATA_DIR, or data.")
@click.option("--world", type=click.Choice(["photo", "title"]), default="photo", show_default=True,
              help="Where what shoppers like can be seen: only in photos, or in titles.")  # fmt: skip
@click.option("--items", type=int, default=240, show_default=True, help="Number of good items.")
@click.option("--shoppers", type=int, default=300, show_default=True, help="Number of shoppers.")
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed gives the same files.")
@click.option("--dirty/--clean", default=True, show_default=True, help="Plant wrong rows and bad photos.")
@json_option
def shop(to: Path | None, world: str, items: int, shoppers: int, seed: int, dirty: bool, as_json: bool) -> None:
    """Build the built-in shop: a demo with drawn photos and simulated shoppers.

    Example: vlm4rec shop --to data --world photo --items 240 --shoppers 300
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.datasets.demo_shop.build import build_shop

    to = to or settings().data_dir
    summary = build_shop(to, world, items, shoppers, seed, dirty)
    if as_json:
        _print_json(summary)
        return
    click.echo(f"{to}: a demo shop (drawn photos, simulated shoppers), world {world}, seed {seed}")
    click.echo(f"  {summary.items} items, {summary.shoppers} shoppers, {summary.interactions} interactions "
               f"from {summary.first_day} to {summary.last_day}")  # fmt: skip
    if dirty:
        click.echo(f"  wrong on purpose: {sum(summary.planted_items.values())} item rows, "
                   f"{sum(summary.planted_interactions.values())} interaction rows, "
                   f"{len(summary.planted_photos)} photos; SHOP.json lists them")  # fmt: skip


@click.command()
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder with items.*; default: VLM4REC_DATA_DIR, or data."
)
@click.option("--shoppers", type=int, default=300, show_default=True, help="Number of shoppers.")
@click.option("--taste", required=True, help="Item columns that tastes follow, separated by commas.")
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed gives the same file.")
@json_option
def simulate(data: Path | None, shoppers: int, taste: str, seed: int, as_json: bool) -> None:
    """Simulate histories for a catalogue that has none; SIMULATED.json says so.

    Example: vlm4rec simulate --data data --shoppers 300 --taste color,category
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.datasets.demo_shop.simulate import simulate as run

    data = data or settings().data_dir
    summary = run(data, shoppers, [name.strip() for name in taste.split(",") if name.strip()], seed)
    if as_json:
        _print_json(summary)
        return
    click.echo(f"{data}: {summary.interactions} SIMULATED interactions of {summary.shoppers} shoppers with "
               f"{summary.items} items; tastes follow {', '.join(summary.taste)}")  # fmt: skip


@click.group("import")
def import_data() -> None:
    """Turn other people's files into the raw data contract."""


_SOURCE = click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
_TO = click.option("--to", type=click.Path(path_type=Path), required=True, help="Data folder to write.")
_IMAGES = click.option("--images/--no-images", default=True, show_default=True, help="Bring the photos.")


def _tell(summary: "ImportSummary", source: Path, to: Path, as_json: bool) -> None:
    if as_json:
        _print_json(summary)
        return
    for name, rows in (("items", summary.items), ("interactions", summary.interactions)):
        if rows is not None:
            click.echo(f"{to / name}.parquet: {rows} rows")
    photos = summary.photos
    click.echo(f"photos: {photos.copied} brought, {photos.not_found} not found, {photos.refused} refused "
               f"(a table, or outside of {source}), {photos.remote} remote addresses left as they are")  # fmt: skip
    for reason, rows in summary.left_out.items():
        click.echo(f"{reason.replace('_', ' ')}: {rows}")


@import_data.command()
@_SOURCE
@_TO
@click.option("--items", help="File of the catalogue in SRC: csv, csv.gz, parquet or jsonl.")
@click.option("--interactions", help="File of the log in SRC, likewise.")
@click.option("--map", "maps", multiple=True, metavar="TABLE.COLUMN=SOURCE", help="Which column is which; repeat.")
@_IMAGES
@json_option
def generic(
    source: Path,
    to: Path,
    items: str | None,
    interactions: str | None,
    maps: tuple[str, ...],
    images: bool,
    as_json: bool,
) -> None:
    """Import a shop's own exports by a column mapping. Columns that are not mapped are kept.

    Example: vlm4rec import generic exports --to data --items items.jsonl --map items.item_id=id
    """
    from vlm4rec_search.datasets.importers.generic import import_generic

    _tell(import_generic(source, to, items, interactions, maps, images), source, to, as_json)


@import_data.command()
@_SOURCE
@_TO
@click.option("--category", help="Such as All_Beauty; needed when SRC holds more than one.")
@json_option
def amazon(source: Path, to: Path, category: str | None, as_json: bool) -> None:
    """Import Amazon Reviews 2023: meta_CATEGORY.jsonl and CATEGORY.jsonl, plain, .gz or .zst.

    Example: vlm4rec import amazon downloads --to data --category All_Beauty
    """
    from vlm4rec_search.datasets.importers.amazon import import_amazon

    _tell(import_amazon(source, to, category), source, to, as_json)


@import_data.command()
@_SOURCE
@_TO
@_IMAGES
@json_option
def hm(source: Path, to: Path, images: bool, as_json: bool) -> None:
    """Import H&M Personalized Fashion: articles.csv, transactions_train.csv (plain, .gz or .zst) and images/.

    Example: vlm4rec import hm h-and-m-personalized-fashion-recommendations --to data
    """
    from vlm4rec_search.datasets.importers.hm import import_hm

    _tell(import_hm(source, to, images), source, to, as_json)


@import_data.command()
@_SOURCE
@_TO
@click.option("--meta", type=click.Path(path_type=Path),
              help="Amazon item metadata (2018 or 2023) with the titles, texts and photos that SRC lacks.")  # fmt: skip
@json_option
def kaggle(source: Path, to: Path, meta: Path | None, as_json: bool) -> None:
    """Import the paper's data: one folder of Kaggle's "Multimodal Recommendation", with its splits and vectors.

    The data set has no times: a day stands in for each split, and GIVEN.json says so.

    Example: vlm4rec import kaggle Clothing_Shoes_and_Jewelry-clip_clip --to data --meta meta_Clothing.json.gz
    """
    from vlm4rec_search.datasets.importers.kaggle import import_kaggle

    _tell(import_kaggle(source, to, meta), source, to, as_json)
    if not as_json:
        click.echo("times: none in this data set; a day stands in for each split, see GIVEN.json")
