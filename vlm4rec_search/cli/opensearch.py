"""`vlm4rec opensearch` runs a real OpenSearch on this machine; `vlm4rec templates` stores searches on a server."""

from typing import TYPE_CHECKING

import click

from vlm4rec_search.cli.output import echo_json, json_option

if TYPE_CHECKING:
    from vlm4rec_search.indexes.opensearch.local.server import Status


@click.group()
def templates() -> None:
    """Store searches on the OpenSearch server.

    Services in any language can then run them by name.

    Example: vlm4rec templates install
    """


@templates.command()
@click.option("--url", help="URL of the server; default: VLM4REC_INDEX_URL.")
@json_option
def install(url: str | None, as_json: bool) -> None:
    """Store the search templates for semantic and lexical searches.

    On a server that can fuse sub-queries itself, the hybrid template and its search pipeline are stored too.

    Example: vlm4rec templates install --url http://localhost:9200
    """
    from vlm4rec_search.common.errors import UsageError
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes import ranking_in_force
    from vlm4rec_search.indexes.opensearch.connection import connect, redacted
    from vlm4rec_search.indexes.opensearch.templates import install_templates

    options = settings()
    server = url or options.index_url
    if "://" not in server:
        raise UsageError("templates need a server: set VLM4REC_INDEX_URL or --url to its URL")
    names = install_templates(
        connect(server, options),
        options.index_prefix,
        ranking_in_force(options.model_copy(update={"index_url": server})),
    )
    if as_json:
        echo_json({"installed": names})
        return
    for name in names:
        click.echo(f"Installed {name}")
    address = f"{redacted(server).rstrip('/')}/{options.index_prefix}items/_search/template"
    click.echo(f"Next: POST {address} with the id of a template and its params; docs/contract.md lists them")


@click.group()
def opensearch() -> None:
    """Run OpenSearch on this machine.

    It needs neither Docker nor an installed Java, has the k-NN plug-in, listens on 127.0.0.1 only, and keeps
    its data in the folder VLM4REC_OPENSEARCH.

    Example: vlm4rec opensearch start
    """


@opensearch.command()
@click.option(
    "--port",
    type=int,
    help="Port of the first node; 0 takes any free port.  [default: that of the last start, or 9200]",
)
@click.option("--nodes", type=click.IntRange(1, 5), help="Number of nodes.  [default: as many as hold data, else 1]")
@click.option(
    "--heap", type=click.IntRange(256), default=1024, show_default=True, help="Largest Java heap of a node, in MiB."
)
@json_option
def start(port: int | None, nodes: int | None, heap: int, as_json: bool) -> None:
    """Start the server and wait until its cluster is green.

    The first start downloads 90 MB of jars. With a full JDK in VLM4REC_OPENSEARCH_JAVA the server compares vectors by
    SIMD and loads documents about twice as fast.

    Example: vlm4rec opensearch start --nodes 3 --port 9250
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes.opensearch.local import server

    options = settings()
    java, source = options.opensearch_java, options.weights
    started = server.start(options.opensearch, port, nodes, heap, java_home=java, source=source)
    _print_status(started, as_json)
    if not as_json:
        click.echo(f"Next: vlm4rec index --url {started.url}, or set VLM4REC_INDEX_URL={started.url}")


@opensearch.command()
@json_option
def stop(as_json: bool) -> None:
    """Stop the server and wait until it is gone.

    Its data stay for the next start.

    Example: vlm4rec opensearch stop
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes.opensearch.local import server

    folder = settings().opensearch
    stopped = server.stop(folder)
    if as_json:
        echo_json({"stopped": stopped})
        return
    click.echo("OpenSearch has stopped" if stopped else f"no OpenSearch runs in {folder}")


@opensearch.command()
@json_option
def status(as_json: bool) -> None:
    """Show whether the server runs, its URL, and its plug-ins.

    Example: vlm4rec opensearch status --json
    """
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.indexes.opensearch.local import server

    _print_status(server.status(settings().opensearch), as_json)


def _print_status(status: "Status", as_json: bool) -> None:
    if as_json:
        echo_json(status)
    elif status.running:
        click.echo(f"OpenSearch {status.version} runs at {status.url}: {status.nodes} node(s), cluster {status.health}")
        click.echo("Plug-ins: " + ", ".join(name.split(".")[-1] for name in status.plugins))
    elif status.url:
        click.echo(f"OpenSearch runs but does not answer at {status.url}: it is starting, or stuck")
    else:
        click.echo("no OpenSearch runs; `vlm4rec opensearch start` starts it")
