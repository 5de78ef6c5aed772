"""`vlm4rec queries`: the saved queries on the analysts' copy."""

import click

from vlm4rec_search.cli.output import echo_json, json_option, print_rows, printable

_ROWS = 20  # rows that are shown by default


@click.group()
def queries() -> None:
    """List, show and run the saved queries, which answer questions on the analysts' copy.

    A query is an SQL file whose first line describes it. A file in the folder queries/ of your project adds a query, or
    replaces one of the same name. In the copy, each query is a view in the schema `questions`.

    Example: vlm4rec queries list
    """


@queries.command(name="list")
@json_option
def list_queries(as_json: bool) -> None:
    """List the saved queries.

    Example: vlm4rec queries list
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.pipeline.saved_queries import load_queries

    found = load_queries(settings().project)
    if as_json:
        echo_json({"queries": [{"name": query.name, "description": query.description} for query in found]})
        return
    width = max(len(query.name) for query in found)
    for query in found:
        click.echo(printable(f"{query.name:<{width}}  {query.description}"))
    click.echo("Next: vlm4rec queries run NAME")


@queries.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Print the SQL of a saved query, to copy and change.

    Example: vlm4rec queries show rows_refused > queries/my_rows_refused.sql
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.pipeline.saved_queries import find_query

    query = find_query(settings().project, name)
    echo_json(query) if as_json else click.echo(f"-- {query.description}\n{query.sql}")


@queries.command()
@click.argument("name")
@click.option(
    "--limit", type=click.IntRange(0), default=_ROWS, show_default=True, help="The most rows to show; 0 shows all."
)
@json_option
def run(name: str, limit: int, as_json: bool) -> None:
    """Run a saved query on the copy of `vlm4rec publish-tables`.

    \b
    Example:
      vlm4rec queries run captions_failed
      vlm4rec queries run items_nobody_sees --limit 0 --json
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.pipeline.saved_queries import describe_age, find_query, run_query

    options = settings()
    query, copy = find_query(options.project, name), options.published / options.warehouse.name
    result = run_query(query, copy, limit + 1 if limit else None)
    if line := describe_age(copy, options.releases):
        click.echo(line, err=True)
    more = bool(limit) and len(result.rows) > limit
    rows = result.rows[:limit] if limit else result.rows
    if as_json:
        named = [dict(zip(result.columns, map(_plain, row), strict=True)) for row in rows]
        echo_json({"query": name, "description": query.description, "rows": named, "more": more})
        return
    click.echo(printable(query.description))
    if not rows:
        click.echo("No rows.")
        return
    print_rows(result.columns, rows)
    if more:
        click.echo(f"The first {limit} rows; --limit 0 shows all.")


def _plain(value: object) -> object:
    """Return a value that JSON knows: times and other values as text."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
