"""`vlm4rec search` and `vlm4rec similar`: answers for a shopper, a session, a text, or an item."""

from collections.abc import Callable, Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from vlm4rec_search.cli.output import echo_json, json_option, printable

if TYPE_CHECKING:
    from rich.table import Table

    from vlm4rec_search.search.backend import SentRequest
    from vlm4rec_search.search.query import Answer
    from vlm4rec_search.search.ranking import Ranking

_SEARCH = """Search the published index for a shopper, a session, a text, a photo, or several of them.

\b
Examples:
  vlm4rec search --user u001
  vlm4rec search --user u001 --text "warm winter boots" --explain
  vlm4rec search --items A1,B2 --diversity 0.3
  vlm4rec search --text lamp --filter "price=10..50" --filter brand=Alder --json
  vlm4rec search --photo bag.jpg --filter category=bags
  vlm4rec search --user u001 --index http://localhost:9200 --print-request

A filter is field=value, field=10..50, field>=10, field>10, field<=50 or field<50. Two = filters on one field
mean either value; all other filters have to hold together. Items that the shopper has seen are left out unless
--include-seen is given. A search by photo needs a release with vectors of photos (VLM4REC_INDEX_PHOTOS).
"""
_SIMILAR = """Find items that are like an item in meaning and words, or chosen by the same shoppers.

With --mode behaviour: only items that the same shoppers chose.

\b
Examples:
  vlm4rec similar --item A1 --explain
  vlm4rec similar --item A1 --mode behaviour -k 5
"""
_MODES = ["hybrid", "semantic", "lexical", "behaviour", "ease", "shoppers", "fitted"]
_COUNTED = 20  # values of a field that are shown
F = TypeVar("F", bound=Callable[..., Any])


def _shared(command: F) -> F:
    options = (
        click.option("--mode", default="hybrid", show_default=True, type=click.Choice(_MODES)),
        click.option("--filter", "filters", multiple=True, metavar="FIELD=VALUE", help="Condition; can be repeated."),
        click.option("-k", "k", default=10, show_default=True, type=int, help="Number of hits, 1 to 10,000."),
        click.option(
            "--fusion",
            type=click.Choice(["rrf", "minmax", "zscore"]),
            help="Default: that of the ranking; minmax with a text.",
        ),
        click.option(
            "--weight", "weights", multiple=True, metavar="KIND=NUMBER", help="Of a kind of retriever; 0: off."
        ),
        click.option("--diversity", type=float, help="Share of maximal marginal relevance, 0 to 1."),
        click.option("--per-category", type=int, help="The most hits of one category."),
        click.option("--collapse", metavar="FIELD", help="Of items with the same value of a field show only the best."),
        click.option(
            "--count", multiple=True, metavar="FIELD", help="Count the values of a field over the candidates."
        ),
        click.option("--exclude", default="", help="Item ids that are no hits, separated by commas."),
        click.option("--min-score", type=float, help="Leave out hits with a lower score."),
        click.option("--scenario", help="Name of a preset of these options in the file of VLM4REC_RULES."),
        click.option(
            "--at", type=click.DateTime(), help="Moment that conditions of rules compare, in UTC; default: now."
        ),
        click.option("--explain", is_flag=True, help="Explain every hit."),
        click.option("--print-request", is_flag=True, help="Print the requests to the server in place of the hits."),
        json_option,
        click.option("--url", "--index", "url", help="Folder or URL of the index; default: VLM4REC_INDEX_URL."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(name="search", help=_SEARCH)
@click.option("--user", help="Id of the shopper.")
@click.option("--items", default="", help="Item ids of the session, separated by commas.")
@click.option("--text", help="Text to search for.")
@click.option(
    "--photo",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of a photo; finds items that look like it.",
)
@click.option("--photo-of", metavar="ITEM", help="Item whose photo is meant, in place of a file.")
@click.option("--include-seen", is_flag=True, help="Also return items that the shopper has seen.")
@click.option(
    "--buy-again/--no-buy-again",
    default=None,
    help="Also return what the shopper may buy again; default: the ranking configuration's.",
)
@_shared
def search(items: str, photo: Path | None, **options: Any) -> None:
    """Answer one query on the terminal."""
    _answer(options, items=_split(items), photo=photo and _read_photo(photo))


def _read_photo(path: Path) -> bytes:
    """Return the bytes of a file, at most one more than a query takes.

    Raises:
        UsageError: it cannot be read.
    """
    from vlm4rec_search.common.errors import UsageError
    from vlm4rec_search.search.query import LARGEST_PHOTO

    try:
        with path.open("rb") as file:
            return file.read(LARGEST_PHOTO + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


@click.command(name="similar", help=_SIMILAR)
@click.option("--item", required=True, help="Id of the item.")
@_shared
def similar(item: str, **options: Any) -> None:
    """Answer one query for an item."""
    _answer(options, is_similar=True, items=[item])


def _split(ids: str) -> list[str]:
    return [item.strip() for item in ids.split(",") if item.strip()]


def _weight(text: str) -> tuple[str, float]:
    from vlm4rec_search.common.errors import UsageError

    kind, _, number = text.partition("=")
    try:
        return kind.strip(), float(number)
    except ValueError:
        raise UsageError(f"cannot read the weight {text!r}: write semantic=0.5") from None


def under_scenario(scenario: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the running command, of which those that the user has given overrule a scenario's.

    Raises:
        UsageError: there is no such scenario.
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.search.rules import load_rules, preset

    if scenario is None:
        return options
    source = click.get_current_context().get_parameter_source
    given = {name: value for name, value in options.items() if source(name) is not ParameterSource.DEFAULT}
    return preset(load_rules(settings().rules).scenarios, scenario, given)


def read_rankings(values: Sequence[str]) -> "dict[str, Ranking]":
    """Return the rankings of options `--ranking NAME=FILE`, by name.

    Raises:
        UsageError: a value is not NAME=FILE, or a file cannot be read.
    """
    from vlm4rec_search.common.errors import UsageError
    from vlm4rec_search.search.ranking import load_ranking

    named = {}
    for each in values:
        name, sign, path = each.partition("=")
        if not (name and sign and path):
            raise UsageError(f"cannot read --ranking {each!r}: write NAME=FILE")
        named[name] = load_ranking(Path(path), hint="")
    return named


def _answer(options: dict[str, Any], *, is_similar: bool = False, **subject: Any) -> None:
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes import open_index_of
    from vlm4rec_search.search.query import Query
    from vlm4rec_search.search.rules import similar_options

    url, as_json, print_request = (options.pop(name) for name in ("url", "as_json", "print_request"))
    weights = dict(_weight(text) for text in options.pop("weights"))
    options |= {"exclude": _split(options["exclude"]), "weights": weights, **subject}
    if options["at"] is not None:
        options["at"] = options["at"].replace(tzinfo=UTC)
    arguments = under_scenario(options.pop("scenario"), options)
    if is_similar:
        arguments |= similar_options(arguments)
    query = Query(**arguments)
    with open_index_of(settings(), url) as index:
        if print_request:
            _print_requests(index.requests(query), as_json)
            return
        answer = index.search(query)
    echo_json(answer.to_json()) if as_json else _print_table(answer)


def _print_requests(requests: "Sequence[SentRequest]", as_json: bool) -> None:
    """Print requests as the developer console of OpenSearch takes them."""
    if as_json:
        echo_json({"requests": requests})
        return
    for request in requests:
        note = "# together with the next one\n" if request.together else ""
        click.echo(f"{note}{request.method} {request.path}\n{request.body.rstrip()}\n")


def _print_table(answer: "Answer") -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    if answer.degraded:
        console.print(f"Degraded: {escape(printable(answer.degraded))}.", style="yellow")
    if answer.note:
        console.print(f"Note: {escape(printable(answer.note))}.", style="yellow")
    if answer.hits:
        console.print(_table(answer))
    else:
        console.print("No hits.")
    for field, values in answer.counts.items():
        counted = ", ".join(f"{value} {number:,}" for value, number in list(values.items())[:_COUNTED])
        console.print(escape(printable(f"{field} of the candidates: {counted}")), highlight=False)
    console.print(
        f"tier {answer.tier}, ranking {answer.ranking}, release {answer.release}, {answer.took_ms:.1f} ms",
        style="dim",
        highlight=False,
    )


def _table(answer: "Answer") -> "Table":
    from rich.table import Column, Table
    from rich.text import Text

    is_explained = any(hit.explanation for hit in answer.hits)
    # A reason needs the width of the column of categories; a long id is folded, so that it can be read in full.
    table = Table("rank", Column("item", overflow="fold"), "title and reason" if is_explained else "title")
    if not is_explained:
        table.add_column("category")
    table.add_column("score")
    for hit in answer.hits:
        title, category = Text(printable(hit.title)), printable(hit.category or "")
        if hit.explanation:
            title.append(f" ({category})" if category else "", style="dim")
            title.append(f"\n{printable(hit.explanation.sentence)}", style="dim")
        cells = [title] if is_explained else [title, Text(category)]
        table.add_row(str(hit.rank), Text(printable(hit.item_id)), *cells, f"{hit.score:.4f}")
    return table
