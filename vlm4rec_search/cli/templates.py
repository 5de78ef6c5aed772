"""`vlm4rec templates`: searches that are stored on the server, for services in any language."""

import click

from vlm4rec_search.cli.output import echo_json, json_option


@click.group()
def templates() -> None:
    """Store searches on the OpenSearch server.

    \b
    Example:
      vlm4rec templates install
    """


@templates.command()
@click.option("--url", help="The server; default: VLM4REC_INDEX_URL.")
@json_option
def install(url: str | None, as_json: bool) -> None:
    """Store the search templates, and where the server joins legs by itself the hybrid one with its pipeline.

    \b
    Example:
      vlm4rec templates install --url http://localhost:9200
    """
    from vlm4rec_search.common.errors import UsageError
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes.opensearch.connection import connect
    from vlm4rec_search.indexes.opensearch.templates import install as store
    from vlm4rec_search.search.ranking import load_ranking

    here = settings()
    place = url or here.index_url
    if "://" not in place:
        raise UsageError("templates are for servers: let VLM4REC_INDEX_URL or --url name one")
    names = store(connect(place, here), here.index_prefix, load_ranking(here.ranking))
    if as_json:
        echo_json({"installed": names})
        return
    for name in names:
        click.echo(f"Installed {name}")
    click.echo(f"Next: POST /{here.index_prefix}items/_search/template with its id and params")
