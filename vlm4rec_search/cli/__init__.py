"""The `vlm4rec` command: thin click commands, found on first use."""

from importlib import import_module
from typing import NoReturn

import click

from vlm4rec_search.cli.output import printable
from vlm4rec_search.common.errors import Vlm4recError

# In the order of the job; a module is imported when its command is asked for, or listed by --help.
COMMANDS = {
    "demo": "demo:demo",
    "shop": "data:shop",
    "simulate": "data:simulate",
    "import": "data:import_data",
    "captions": "captions:captions",
    "check": "check:check",
    "publish-tables": "data:publish_tables",
    "index": "index:index",
    "releases": "releases:releases",
    "doctor": "releases:doctor",
    "search": "search:search",
    "similar": "search:similar",
    "templates": "opensearch:templates",
    "opensearch": "opensearch:opensearch",
    "evaluate": "evaluate:evaluate",
    "tune": "evaluate:tune",
    "ledger": "ledger:ledger",
}


class Commands(click.Group):
    """A group that imports a command's module when it is needed and tells every mistake in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the job."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return the command, or None when there is no such command."""
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name].split(":")
        command: click.Command = getattr(import_module(f"vlm4rec_search.cli.{module}"), attribute)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a `Vlm4recError` becomes one line on stderr and its exit code."""
        try:
            return super().invoke(ctx)
        except Vlm4recError as error:
            _fail(str(error), error.exit_code)
        except OSError as error:
            _fail(f"{error.filename or 'the machine'}: {error.strerror or error}", 1)
        except KeyboardInterrupt:
            _fail("stopped; what was done so far is kept", 1)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"Error: {' '.join(printable(message).split())}", err=True)
    raise SystemExit(code)


@click.command(cls=Commands)
@click.version_option(package_name="vlm4rec-search")
def main() -> None:
    """Logs and product photos in, profile search out.

    The tables are rebuilt by `sqlmesh plan`; these commands stand around it. Settings come from the environment
    (VLM4REC_DATA_DIR, VLM4REC_WAREHOUSE, VLM4REC_INDEX_URL ...; the README lists them).

    \b
    Example, on your own data:
      export VLM4REC_DATA_DIR=data
      sqlmesh plan && vlm4rec check && vlm4rec index
      vlm4rec search --user U1 --explain
    """
