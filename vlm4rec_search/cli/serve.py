"""`vlm4rec serve`: the HTTP service."""

import json
import secrets
from pathlib import Path

import click

from vlm4rec_search.cli.search import read_rankings


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is every network.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free port.")
@click.option("--url", "--index", "url", help="Folder or URL of the index; default: VLM4REC_INDEX_URL.")
@click.option(
    "--follow",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600),
    help="Seconds between two looks for a new live release and for changed rules.",
)
@click.option(
    "--keys-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with API keys, one a line; requests then need the header `Authorization: Bearer KEY`.",
)
@click.option(
    "--allowed-host",
    "allowed",
    multiple=True,
    metavar="NAME",
    help="A further name of the service, under which requests may reach it, with the port if the address of the page"
    " has one; * allows all. Can be repeated.",
)
@click.option(
    "--ranking",
    "rankings",
    multiple=True,
    metavar="NAME=FILE",
    help="A ranking that requests can ask for by its name; can be repeated.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes that answer; those of an index in a folder share its memory.",
)
@click.option("--page/--no-page", default=True, show_default=True, help="Serve the page for people at /.")
@click.option("--openapi", is_flag=True, help="Print the description of the API as JSON, and end.")
def serve(
    host: str,
    port: int,
    url: str | None,
    follow: float,
    keys_file: Path | None,
    allowed: tuple[str, ...],
    rankings: tuple[str, ...],
    workers: int,
    page: bool,
    openapi: bool,
) -> None:
    """Answer recommendation and search requests over HTTP.

    The service follows the live release: a publication, a rollback or a change of the file of rules reaches it within
    seconds, and no answer fails or mixes two releases. /openapi.json describes the API, /readyz says whether the index
    answers, and /metrics is for Prometheus. A page at / shows answers with photos and reasons to people.

    \b
    Example:
      vlm4rec serve --port 8000
      curl -s localhost:8000/v1/recommend -H 'content-type: application/json' -d '{"user": "u001", "explain": true}'
    """
    from functools import partial

    from vlm4rec_search.common.logging import configure_logging
    from vlm4rec_search.common.settings import settings
    from vlm4rec_search.serve.app import create_app, describe_api
    from vlm4rec_search.serve.hosts import is_loopback, known_hosts, name_in_url
    from vlm4rec_search.serve.service import Service
    from vlm4rec_search.serve.workers import Worker, listen, run_alone, run_workers

    if openapi:
        click.echo(json.dumps(describe_api(), indent=1))  # in lines, so that a change of it can be read
        return
    named = read_rankings(rankings)
    keys = _read_keys(keys_file) if keys_file else []
    options = settings() if url is None else settings().model_copy(update={"index_url": url})
    hosts = known_hosts(host, allowed)
    if not (keys or allowed or is_loopback(host)):
        click.echo(
            f"Warning: {host} answers whoever reaches it, by any name: see --keys-file, --allowed-host", err=True
        )
    token = secrets.token_urlsafe(16) if page else None
    open_service = partial(Service, options, follow, named, workers > 1)
    with listen(host, port) as listener:
        with open_service() as service:
            address = f"http://{name_in_url(host)}:{listener.getsockname()[1]}"
            click.echo(f"Serving {service.index.release.name}; next: curl -s {address}/readyz", err=True)
            if token:
                echo_page(address, token, bool(keys))
            if workers == 1:
                run_alone(create_app(service, keys, token, hosts, allowed), listener)
                return
        shown = click.get_current_context().find_root().params
        prepare = partial(configure_logging, -1 if shown["quiet"] else shown["verbose"], shown["log_format"])
        run_workers(Worker(open_service, keys, token, hosts, allowed, prepare), workers, listener)


def echo_page(address: str, token: str, has_keys: bool) -> None:
    """Print where the page is; the second address is a secret of the person who started the service."""
    if not has_keys:
        click.echo(f"Page to look with: {address}/", err=True)
    click.echo(f"Page to look, judge, edit rules and roll back: {address}/unlock?token={token}", err=True)


def _read_keys(path: Path) -> list[str]:
    from vlm4rec_search.common.errors import UsageError
    from vlm4rec_search.common.paths import read_text

    keys = [line.strip() for line in read_text(path, "the keys in").splitlines() if line.strip()]
    if not keys or min(map(len, keys)) < 16:
        raise UsageError(f"{path} needs at least one key, each of at least 16 characters")
    return keys
