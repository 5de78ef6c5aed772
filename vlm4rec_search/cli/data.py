"""Commands that write a data folder (`shop`, `simulate`, `import`) or copy tables and events out and back.

The latter are `fetch-tables`, `publish-tables` and `publish-events`.
"""

import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option, printable
from vlm4rec_search.common.errors import UsageError

if TYPE_CHECKING:
    from vlm4rec_search.datasets.importers.write import ImportSummary

_NEXT = """Next:
  vlm4rec queries list
  python -c "import duckdb; duckdb.connect('{path}', read_only=True).sql('SHOW ALL TABLES').show()\""""

_PATH = click.Path(path_type=Path)

world_option = click.option(
    "--world",
    type=click.Choice(["photo", "title"]),
    default="photo",
    show_default=True,
    help="Where the traits that shoppers like can be seen: only in photos, or in titles.",
)
items_option = click.option(
    "--items", type=int, default=240, show_default=True, help="Number of items, without the wrong rows."
)
shoppers_option = click.option("--shoppers", type=int, default=300, show_default=True, help="Number of shoppers.")
seed_option = click.option("--seed", type=int, default=7, show_default=True, help="The same seed gives the same data.")
_source = click.argument("source", metavar="SRC", type=_PATH)
_to = click.option("--to", type=_PATH, required=True, help="Data folder to write.")


def _only(_context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> str | None:
    if len(given) > 1:  # click would forget all but the last
        raise UsageError(
            f"give {parameter.opts[0]} once: for several files a pattern such as 'log*.csv', or"
            f" `files: [{', '.join(given)}]` of the table in contract.yaml in the source folder"
        )
    return given[0] if given else None


_file = partial(click.option, multiple=True, callback=_only)
_images = click.option("--images/--no-images", default=True, show_default=True, help="Copy the photos.")


@click.command()
@click.option("--to", type=_PATH, help="Data folder to write. Default: VLM4REC_DATA_DIR, or the folder data.")
@world_option
@items_option
@shoppers_option
@seed_option
@click.option("--dirty/--clean", default=True, show_default=True, help="Add wrong rows and bad photos.")
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
        echo_json(summary)
        return
    click.echo(f"{to}: a demo shop (drawn photos, simulated shoppers), world {world}, seed {seed}")
    click.echo(
        f"  {summary.items} items, {summary.shoppers} shoppers, {summary.interactions} interactions"
        f" from {summary.first_day} to {summary.last_day}"
    )
    if dirty:
        click.echo(
            f"  wrong on purpose: {sum(summary.planted_items.values())} item rows,"
            f" {sum(summary.planted_interactions.values())} interaction rows,"
            f" {len(summary.planted_photos)} photos; SHOP.json lists them"
        )


@click.command()
@click.option(
    "--data", type=_PATH, help="Data folder with the catalogue. Default: VLM4REC_DATA_DIR, or the folder data."
)
@shoppers_option
@click.option("--taste", required=True, help="Item columns that the shoppers' tastes follow, separated by commas.")
@seed_option
@json_option
def simulate(data: Path | None, shoppers: int, taste: str, seed: int, as_json: bool) -> None:
    """Simulate shoppers and their interactions for a catalogue that has none.

    The command writes interactions.csv.gz and a file SIMULATED.json, which marks the interactions as simulated.

    Example: vlm4rec simulate --data data --shoppers 300 --taste color,category
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.datasets.demo_shop import simulate as simulator

    data = data or settings().data_dir
    columns = [name.strip() for name in taste.split(",") if name.strip()]
    summary = simulator.simulate(data, shoppers, columns, seed)
    if as_json:
        echo_json(summary)
        return
    click.echo(
        f"{data}: {summary.interactions} SIMULATED interactions of {summary.shoppers} shoppers with"
        f" {summary.items} items; tastes follow {', '.join(summary.taste)}"
    )


@click.group("import")
def import_data() -> None:
    """Convert your own exports or a public data set into a data folder.

    Each import writes items.parquet and interactions.parquet, or a folder of each, from which `sqlmesh plan` builds the
    tables. Only `ubi` writes neither: it adds events to the log of `vlm4rec serve`.
    """


def _import_command(name: str, about: str) -> click.Command:
    """Return the command that imports exports of one format."""
    form = None if name == "generic" else name
    example = (
        "vlm4rec import generic exports --to data --items items.jsonl --map items.item_id=id"
        if form is None
        else f"vlm4rec import {name} exports --to data --dry-run"
    )

    @import_data.command(name, help=f"{about}\n\nExample: {example}", short_help=about)
    @_source
    @_to
    @_file("--items", help="File of the catalogue in SRC, or a pattern such as 'products/*.csv'.")
    @_file("--interactions", help="File of the interaction log in SRC, or a pattern.")
    @_file("--users", help="File of the shoppers in SRC, or a pattern.")
    @click.option(
        "--map",
        "maps",
        multiple=True,
        metavar="TABLE.COLUMN=SOURCE",
        help="The column of your file to use for a column of the table. Can be repeated.",
    )
    @click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="TABLE.COLUMN=TEXT",
        help="A text for a column of the table; {NAME} in it is the value of a column of your file. Can be repeated.",
    )
    @click.option("--delimiter", default="", help="Between values in all text files, such as ';' or tab.")
    @click.option("--encoding", default="", help="Of all text files, such as windows-1252.")
    @_images
    @click.option(
        "--dry-run",
        is_flag=True,
        help="Write nothing; show the first rows, and what would be refused. This needs a project, whose rules refuse.",
    )
    @json_option
    def command(
        source: Path,
        to: Path,
        items: str | None,
        interactions: str | None,
        users: str | None,
        maps: tuple[str, ...],
        sets: tuple[str, ...],
        delimiter: str,
        encoding: str,
        images: bool,
        dry_run: bool,
        as_json: bool,
    ) -> None:
        from vlm4rec_search.common.settings import settings
        from vlm4rec_search.datasets.importers.formats import GENERIC, load_format
        from vlm4rec_search.datasets.importers.generic import ImportOptions, import_generic
        from vlm4rec_search.datasets.importers.log_warnings import weighted_kinds

        given = {"items": items, "interactions": interactions, "users": users}
        files = {table: file for table, file in given.items() if file}
        options = ImportOptions(files, maps, sets, delimiter, encoding)
        mapping = load_format(form) if form else GENERIC
        if dry_run:
            from vlm4rec_search.cli.preview import print_preview

            print_preview(source, to, options, mapping, as_json)
        else:
            weighted = weighted_kinds(settings().project)
            _echo_import(import_generic(source, to, options, mapping, images, weighted), source, to, as_json)

    return command


generic = _import_command(
    "generic", "Import a shop's own exports from the folder SRC. Columns that are not mapped keep their names."
)
_FORMATS = {
    "shopify": "Import the products export of a Shopify shop: products_export.csv in SRC.",
    "woocommerce": "Import the product export of WooCommerce: wc-product-export*.csv in SRC.",
    "google-merchant": "Import a product feed for Google Merchant Center: csv, tsv or txt in SRC.",
    "magento": "Import the product export of Magento or Adobe Commerce: catalog_product*.csv in SRC.",
    "movielens": "Import MovieLens, each edition from 100K to 32M: movies, ratings and users in SRC.",
    "retailrocket": "Import RetailRocket's data set: events.csv and item_properties*.csv in SRC.",
    "yelp": "Import the Yelp data set, or ratings like it: business.json and review.json in SRC.",
}
for _name, _about in _FORMATS.items():
    _import_command(_name, _about)


@import_data.command()
@_source
@json_option
def ubi(source: Path, as_json: bool) -> None:
    """Import events of User Behavior Insights: *events*.jsonl in SRC, or one such file.

    They go into the log of `vlm4rec serve` (VLM4REC_SERVED), an id once, and the next plan reads them as interactions.

    Example: vlm4rec import ubi exports
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.datasets.declarations import load_declarations
    from vlm4rec_search.datasets.events.log import EventLog
    from vlm4rec_search.datasets.importers.ubi import import_events

    nobody = load_declarations(settings().data_dir).values.words_for_nothing("user_id")
    log = EventLog(settings().events_file)
    summary = import_events(source, log, nobody)
    if as_json:
        echo_json(summary)
        return
    click.echo(f"{log.path}: {summary.accepted:,} events, {summary.duplicates:,} that were known")
    for reason, places in summary.rejected.items():
        click.echo(f"  left out: {printable(reason)}: {printable(places)}")
    click.echo("Next: sqlmesh plan")


@import_data.command()
@_source
@_to
@click.option("--category", help="Category to import, such as All_Beauty. Required if SRC holds more than one.")
@json_option
def amazon(source: Path, to: Path, category: str | None, as_json: bool) -> None:
    """Import Amazon Reviews 2023: meta_CATEGORY.jsonl and CATEGORY.jsonl in SRC, plain, .gz or .zst.

    Example: vlm4rec import amazon downloads --to data --category All_Beauty
    """
    from vlm4rec_search.datasets.importers.amazon import import_amazon

    _echo_import(import_amazon(source, to, category), source, to, as_json)


@import_data.command()
@_source
@_to
@_images
@json_option
def hm(source: Path, to: Path, images: bool, as_json: bool) -> None:
    """Import H&M Personalized Fashion: articles.csv, transactions_train.csv (plain, .gz or .zst) and images/ in SRC.

    Example: vlm4rec import hm h-and-m-personalized-fashion-recommendations --to data
    """
    from vlm4rec_search.datasets.importers.hm import import_hm

    _echo_import(import_hm(source, to, images), source, to, as_json)


@import_data.command()
@_source
@_to
@click.option(
    "--meta",
    type=_PATH,
    help="File of Amazon item metadata (2018 or 2023) with the titles, texts and photos that SRC lacks.",
)
@json_option
def kaggle(source: Path, to: Path, meta: Path | None, as_json: bool) -> None:
    """Import the paper's data: one folder of Kaggle's "Multimodal Recommendation", with its splits and vectors.

    The data set has no times. Each split gets a day instead, which GIVEN.json lists.

    Example: vlm4rec import kaggle Clothing_Shoes_and_Jewelry-clip_clip --to data --meta meta_Clothing.json.gz
    """
    from vlm4rec_search.datasets.importers.kaggle import import_kaggle

    summary = import_kaggle(source, to, meta)
    if not as_json:
        click.echo("times: none in this data set; a day stands in for each split, see GIVEN.json")
    _echo_import(summary, source, to, as_json)


def _echo_import(summary: "ImportSummary", source: Path, to: Path, as_json: bool) -> None:
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.datasets.files import broken_name
    from vlm4rec_search.datasets.importers.write import table_path

    if as_json:
        echo_json(summary)
        return
    for file in summary.files:
        click.echo(f"read {printable(file)}")
    for name, rows in (("items", summary.items), ("interactions", summary.interactions), ("users", summary.users)):
        if rows is not None:
            click.echo(f"{table_path(to, name)}: {rows:,} rows")
    for note in summary.notes:
        click.echo(f"note: {printable(note)}")
    for warning in summary.warnings:
        click.echo(f"warning: {printable(warning)}")
    photos = summary.photos
    if any(asdict(photos).values()):
        click.echo(
            f"photos: {photos.copied:,} copied, {photos.not_found:,} not found, {photos.refused:,} refused"
            f" (a table, or outside of {source}), {photos.remote:,} remote addresses (not downloaded)"
        )
    for reason, rows in summary.left_out.items():
        table = reason.removesuffix("_records_that_cannot_be_read")
        kept = f", kept in {to / broken_name(table)} with their reasons" if table != reason else ""
        click.echo(f"{reason.replace('_', ' ')}: {rows:,}{kept}")
    is_read = to.resolve() == settings().data_dir.resolve()
    click.echo("Next: " + ("" if is_read else f"VLM4REC_DATA_DIR={shlex.quote(str(to.resolve()))} ") + "sqlmesh plan")


@click.command("fetch-tables")
@json_option
def fetch_tables(as_json: bool) -> None:
    """Copy the tables of a plan on Spark into the DuckDB file that all other commands read.

    The tables of all environments replace the file of VLM4REC_WAREHOUSE in one step. A file that a plan on DuckDB has
    written is not replaced.

    \b
    Example:
      vlm4rec fetch-tables                     # after a `sqlmesh plan` with VLM4REC_ENGINE=spark
      vlm4rec check && vlm4rec index
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.pipeline.spark_tables import fetch_tables as fetch

    copy = fetch(settings())
    if as_json:
        echo_json(copy)
        return
    click.echo(f"Fetched {copy.views} tables of {copy.rows:,} rows into {copy.path} in {copy.seconds:.1f} s")


@click.command("publish-tables")
@click.option(
    "--parquet", type=_PATH, metavar="FOLDER", help="Also write the tables as FOLDER/<layer>/<table>.parquet."
)
@click.option("--layer", "layers", multiple=True, help="Write only this layer as Parquet files. Can be repeated.")
@json_option
def publish_tables(parquet: Path | None, layers: tuple[str, ...], as_json: bool) -> None:
    """Replace the analysts' read-only copy of all tables and records in one step.

    The copy has the layers of prod, the releases and what they would show (shown), what the service served (served),
    the results of evaluations and checks, the model calls with their cost, and the saved queries as views (questions).
    A reader that has the old copy open can go on reading it, and readers of the copy never block `sqlmesh plan`.

    \b
    Example:
      vlm4rec publish-tables
      vlm4rec publish-tables --parquet export --layer search --layer served
      VLM4REC_PUBLISHED=/srv/analysts vlm4rec publish-tables --json
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.evaluation.store import create_tables
    from vlm4rec_search.pipeline.analysts_copy import RecordFile, export_parquet
    from vlm4rec_search.pipeline.analysts_copy import publish_tables as publish

    if layers and parquet is None:
        raise UsageError("--layer chooses the layers of --parquet FOLDER: give both")
    options = settings()
    copy = publish(options, [RecordFile("evaluation", options.results, create_tables)])
    files = export_parquet(copy.path, parquet, layers) if parquet else []
    if as_json:
        echo_json({**asdict(copy), "parquet": files})
        return
    click.echo(
        f"Published {copy.path} ({copy.bytes / 1e6:.1f} MB): {copy.tables} tables, {copy.rows:,} rows,"
        f" {copy.queries} saved queries, in {copy.seconds:.1f} s"
    )
    if files:
        click.echo(f"Wrote {len(files)} files to {parquet} ({sum(path.stat().st_size for path in files) / 1e6:.1f} MB)")
    click.echo(_NEXT.format(path=copy.path))


@click.command()
@click.option("--to", "url", required=True, metavar="URL", help="Address of an OpenSearch server.")
@click.option("--all", "everything", is_flag=True, help="Copy everything again, not only what is new.")
@json_option
def publish_events(url: str, everything: bool, as_json: bool) -> None:
    """Copy what was served and the events to the indices ubi_queries and ubi_events of a server.

    The documents have the shape of User Behavior Insights 1.3, which OpenSearch's dashboards and search relevance
    workbench read. Credentials are those of the index. A further run copies what is new since the last one.

    \b
    Example:
      vlm4rec publish-events --to http://localhost:9200
    """
    from vlm4rec_search.common.errors import RunError
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.pipeline.ubi_export import export_ubi

    done = export_ubi(settings(), url, everything)
    if as_json:
        echo_json(done)
    else:
        click.echo("; ".join(f"{index}: {number:,} documents" for index, number in done.copied.items()))
    if done.refused:
        raise RunError(f"the server refused {done.refused:,} documents, the first one {done.reason}")
