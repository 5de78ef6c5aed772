"""`vlm4rec opensearch`: a real OpenSearch on this machine."""

from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option

if TYPE_CHECKING:
    from vlm4rec_search.indexes.opensearch.local.server import Status


# `vlm4rec templates`: searches that are stored on the server, for services in any language.


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


@click.group()
def opensearch() -> None:
    """Run a real OpenSearch with the k-NN plug-in on this machine, without Docker and without an installed Java.

    It listens on 127.0.0.1 only. Its data stay in VLM4REC_OPENSEARCH (default: in the cache's folder).

    \b
    Example:
      vlm4rec opensearch start
    """


@opensearch.command()
@click.option("--port", type=int, help="Port of the first node; 0: any free one.  [default: 9200, or any free one]")
@click.option("--nodes", type=click.IntRange(1, 5), help="Nodes of the cluster.  [default: as before, else 1]")
@click.option(
    "--heap", type=click.IntRange(256), default=1024, show_default=True, help="Most Java memory of a node, in MiB."
)
@json_option
def start(port: int | None, nodes: int | None, heap: int, as_json: bool) -> None:
    """Start it and wait until the cluster is green; the first time downloads 90 MB of jars.

    With a full JDK in VLM4REC_OPENSEARCH_JAVA it compares vectors by SIMD and is about twice as fast at loads.

    \b
    Example:
      vlm4rec opensearch start --nodes 3 --port 9250
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes.opensearch.local import server

    chosen = settings()
    _tell(server.start(chosen.opensearch, port, nodes, heap, java_home=chosen.opensearch_java), as_json)


@opensearch.command()
def stop() -> None:
    """Stop it and wait until it is gone; its data stay for the next start.

    \b
    Example:
      vlm4rec opensearch stop
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes.opensearch.local import server

    folder = settings().opensearch
    click.echo("OpenSearch has stopped" if server.stop(folder) else f"no OpenSearch runs in {folder}")


@opensearch.command()
@json_option
def status(as_json: bool) -> None:
    """Tell whether it runs, where, and with which plug-ins.

    \b
    Example:
      vlm4rec opensearch status --json
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes.opensearch.local import server

    _tell(server.status(settings().opensearch), as_json)


def _tell(found: "Status", as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        echo_json(asdict(found))
    elif found.running:
        click.echo(f"OpenSearch {found.version} runs at {found.url}: {found.nodes} node(s), cluster {found.health}")
        click.echo("with " + ", ".join(name.split(".")[-1] for name in found.plugins))
    elif found.url:
        click.echo(f"OpenSearch is there but does not answer at {found.url} (coming up, or stuck)")
    else:
        click.echo("no OpenSearch runs; `vlm4rec opensearch start` starts one")
