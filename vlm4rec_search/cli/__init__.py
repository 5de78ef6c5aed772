"""The `vlm4rec` command: thin click commands that are imported on first use."""

import logging
import signal
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

import click

from vlm4rec_search.cli.output import printable
from vlm4rec_search.common.errors import UsageError, Vlm4recError, one_line
from vlm4rec_search.common.logging import LogFormat, configure_logging

logger = logging.getLogger(__name__)

# In the order of the work; `--help` imports all of these modules, a command only its own.
COMMANDS = {
    "demo": "demo:demo",
    "init": "project:init",
    "shop": "data:shop",
    "simulate": "data:simulate",
    "import": "data:import_data",
    "captions": "captions:captions",
    "new": "project:new",
    "check": "check:check",
    "fetch-tables": "data:fetch_tables",
    "publish-tables": "data:publish_tables",
    "publish-events": "data:publish_events",
    "queries": "queries:queries",
    "index": "index:index",
    "releases": "releases:releases",
    "doctor": "releases:doctor",
    "search": "search:search",
    "similar": "search:similar",
    "recommend": "recommend:recommend",
    "serve": "serve:serve",
    "compare": "compare:compare",
    "templates": "opensearch:templates",
    "opensearch": "opensearch:opensearch",
    "evaluate": "evaluate:evaluate",
    "fit": "fit:fit",
    "tune": "evaluate:tune",
    "ledger": "ledger:ledger",
    "forget": "forget:forget",
    "upgrade": "project:upgrade",
    "backup": "backup:backup",
    "restore": "backup:restore",
}


class Commands(click.Group):
    """A group that imports a command's module when it is needed, and reports every error in one line."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run as a program, which SIGTERM, and the end of its terminal, end as ctrl-C does: nothing of it stays."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as below `nohup`
                signal.signal(number, signal.default_int_handler)
        return super().__call__(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return the command, or None when there is no such command."""
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name].split(":")
        command: click.Command = getattr(import_module(f"vlm4rec_search.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; a mistyped name gets a hint."""
        near = get_close_matches(args[0], COMMANDS, 1)
        if near and args[0] not in COMMANDS and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a `Vlm4recError` becomes one line on stderr and its exit code."""
        try:
            return super().invoke(ctx)
        except Vlm4recError as error:
            _fail(ctx, str(error), error.exit_code)
        except BrokenPipeError:  # such as `vlm4rec releases list | head -1`; click ends without a word
            raise
        except OSError as error:
            _fail(ctx, f"{error.filename or 'this machine'}: {error.strerror or error}", 1)
        except KeyboardInterrupt:
            _fail(ctx, "stopped; finished work is kept", 1)


def _fail(ctx: click.Context, message: str, code: int) -> NoReturn:
    """Report an error in the chosen log format and exit."""
    line = one_line(printable(message))
    if ctx.params["log_format"] == "json":
        logger.error("%s", line)
    else:
        click.echo(f"Error: {line}", err=True)
    raise SystemExit(code)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vlm4rec-search")
@click.option(
    "-v", "--verbose", count=True, help="Show details on stderr; -vv adds time, level and module to each line."
)
@click.option("-q", "--quiet", is_flag=True, help="Show warnings and errors only, without notices and progress.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How notices and errors are written to stderr: plain lines, or one JSON object per line.",
)
def main(verbose: int, quiet: bool, log_format: LogFormat) -> None:
    """Turn shop logs and product photos into a profile search.

    `sqlmesh plan` builds the tables; these commands prepare its input, check and publish its tables, and search. The
    environment, or the file .env of the project, has the settings (VLM4REC_DATA_DIR, VLM4REC_WAREHOUSE ...); the file
    .env.example of the project lists them. The options below stand before the command: `vlm4rec -v index`.

    \b
    Example with your own data:
      vlm4rec init shop && cd shop
      vlm4rec import generic exports --to data --items catalogue.csv --interactions orders.csv
      sqlmesh plan && vlm4rec check && vlm4rec index
      vlm4rec search --user U1 --explain
    """
    if quiet and verbose:
        raise UsageError("use --quiet or --verbose, not both")
    configure_logging(-1 if quiet else verbose, log_format)
