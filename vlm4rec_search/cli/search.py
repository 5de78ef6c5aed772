"""`vlm4rec search`: what the index answers to a shopper, a text, or both."""

from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option, printable

if TYPE_CHECKING:
    from rich.table import Table

    from vlm4rec_search.queries.query import Answer

_HELP = """Search the published index for a shopper, a text, or a text in the light of a shopper.

\b
Examples:
  vlm4rec search --user u001
  vlm4rec search --user u001 --text "warm winter boots" --explain
  vlm4rec search --text lamp --filter "price=10..50" --filter brand=Alder --json

A filter is field=value, field=10..50, field>=10, field>10, field<=50 or field<50. One field twice with =
means either value; all other conditions have to hold together. What the shopper has seen is left out unless
--include-seen is given.
"""


@click.command(name="search", help=_HELP)
@click.option("--user", help="Id of the shopper.")
@click.option("--text", help="What to search for.")
@click.option("--mode", default="hybrid", show_default=True, type=click.Choice(["hybrid", "semantic", "lexical"]))
@click.option("--filter", "filters", multiple=True, metavar="FIELD=VALUE", help="Condition; may be repeated.")
@click.option("-k", "k", default=10, show_default=True, type=int, help="Number of hits, 1 to 10,000.")
@click.option("--include-seen", is_flag=True, help="Also return what the shopper has seen.")
@click.option(
    "--fusion",
    default="rrf",
    show_default=True,
    type=click.Choice(["rrf", "minmax"]),
    help="Reciprocal rank, or min-max weighted mean.",
)
@click.option("--explain", is_flag=True, help="Tell for every hit why it is there.")
@json_option
@click.option("--index", "url", help="Where the index is; default: VLM4REC_INDEX_URL.")
def search(
    user: str | None,
    text: str | None,
    mode: str,
    filters: tuple[str, ...],
    k: int,
    include_seen: bool,
    fusion: str,
    explain: bool,
    as_json: bool,
    url: str | None,
) -> None:
    """Answer one query on the terminal."""
    from typing import cast

    from vlm4rec_search.indexes import open_index
    from vlm4rec_search.queries.query import Fusion, Mode, Query
    from vlm4rec_search.settings import settings

    query = Query(
        user=user,
        text=text,
        mode=cast(Mode, mode),
        filters=filters,
        k=k,
        include_seen=include_seen,
        fusion=cast(Fusion, fusion),
        explain=explain,
    )
    with open_index(url or settings().index_url, settings().encoder) as index:
        answer = index.search(query)
    echo_json(answer.to_json()) if as_json else _print_table(answer)


def _print_table(answer: "Answer") -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    if answer.note:
        console.print(f"Note: {escape(printable(answer.note))}.", style="yellow")
    if answer.hits:
        console.print(_table(answer))
    elif not answer.note:
        console.print("No hits: use fewer filters, other words or --mode semantic.")
    console.print(
        f"tier {answer.tier}, release {answer.release}, {answer.took_ms:.1f} ms", style="dim", highlight=False
    )


def _table(answer: "Answer") -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table("rank", "item", "title", "category", "score")
    for hit in answer.hits:
        title = Text(printable(hit.title))
        if hit.explanation:
            title.append(f"\n{printable(hit.explanation.sentence)}", style="dim")
        item, category = Text(printable(hit.item_id)), Text(printable(hit.category or ""))
        table.add_row(str(hit.rank), item, title, category, f"{hit.score:.4f}")
    return table
