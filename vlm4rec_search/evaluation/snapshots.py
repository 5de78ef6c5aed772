"""The product's own tables as of an earlier moment, in a copy of the warehouse.

Captions are those of the warehouse, and none is made: nobody pays for tables that are thrown away. The warehouse itself
is neither locked nor filled with tables that nobody asked for.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock

import pyarrow as pa
from pydantic import SecretStr

from vlm4rec_search.common.concurrency import run_concurrently, usable_cores
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.paths import working_folder
from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.warehouse import copy_warehouse, read
from vlm4rec_search.datasets.declarations import CONTRACT_FILE, InteractionsDeclaration, load_declarations, variable
from vlm4rec_search.datasets.demo_shop.build import build_shop
from vlm4rec_search.datasets.raw import table_names

logger = logging.getLogger(__name__)

AT_ONCE = 2
"""Processes that build tables of earlier moments at once; each needs as much memory as a plan."""
BUILT = "vlm4rec: the tables of a moment are built"
"""What `cli.build_moments` prints after each moment."""
# Accepted rows alone: without the held-out ones, a row that staging refused as their duplicate would be accepted. Times
# name their zone, and numbers have two meanings in no language, so that they are read back as they are.
_KEPT = """
SELECT
    user_id, item_id, strftime(interacted_at, '%Y-%m-%d %H:%M:%S.%fZ') AS timestamp, event_type,
    printf('%.17e', value) AS value
FROM staging.interactions WHERE row_number NOT IN (SELECT row_number FROM held_back) ORDER BY row_number
"""
_MOMENT = "SELECT ANY_VALUE(as_of), (SELECT MAX(interacted_at) FROM staging.interactions) FROM histories.as_of"
_EVENT_TYPES = "SELECT DISTINCT event_type FROM staging.interactions ORDER BY event_type"
_STARS = 5.0  # the best rating there


class Workbench:
    """A copy of the warehouse in a separate folder, which plans may change.

    Plans of several moments run at once, each process in a copy of its own: DuckDB lets one process write a file.

    Attributes:
        settings: those of the caller, with the copy as the warehouse and its moment, and without new captions.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Copy the warehouse.

        Raises:
            UsageError: there is no warehouse, or its tables are a copy of those in Spark.
            RunError: a plan is writing it.
        """
        if settings.engine == "spark":
            raise UsageError(
                "tables of earlier moments are built on DuckDB: pin a ranking (VLM4REC_RANKING) to publish tables of"
                " Spark, and evaluate with VLM4REC_ENGINE=duckdb and a warehouse of its own"
            )
        self._folder = folder
        copy = copy_warehouse(settings.warehouse, folder / "warehouse")
        copy.chmod(0o644)
        as_of = _moment_of_tables(copy, settings.as_of)
        self.settings = settings.model_copy(update={"warehouse": copy, "caption_budget": 0, "as_of": as_of})
        self._places: dict[str, Path] = {}

    def settings_of(self, environment: str) -> Settings:
        """Return `settings` with the copy in which an environment was built."""
        return self.settings.model_copy(update={"warehouse": self._places[environment]})

    def build_moments(self, moments: Mapping[str, datetime], ranking: Path | None = None) -> None:
        """Build the tables as of several moments, each in its environment, if wanted with another ranking.

        What does not depend on the moment stays as the last plan left it. At most `AT_ONCE` processes share the moments
        and the cores; `settings_of` says where each environment is.

        Raises:
            RunError: a model failed.
        """
        settings = self.settings.model_copy(update={"ranking": ranking} if ranking else {})
        pairs = [(name, str(moment)) for name, moment in moments.items()]
        processes = min(AT_ONCE, usable_cores(), len(pairs))
        threads = str(max(1, usable_cores() // processes))

        advancing = Lock()
        running: list[subprocess.Popen[str]] = []

        def build(number: int) -> Path:
            place = self._folder / f"moments-{number}" / settings.warehouse.name  # SQLMesh knows it by this name
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(settings.warehouse, place)
            own, mine = settings.model_copy(update={"warehouse": place}), json.dumps(pairs[number::processes])
            command = (sys.executable, "-m", "vlm4rec_search.cli.build_moments", mine)
            run_sqlmesh(own, *command, each_line=show, started=running.append, OMP_NUM_THREADS=threads)
            return place

        with bar("tables of earlier moments", len(pairs)) as advance:

            def show(line: str) -> None:
                if BUILT in line:
                    with advancing:
                        advance(1)

            try:
                for number, place in run_concurrently(build, range(processes), processes):
                    self._places |= {name: place for name, _ in pairs[number::processes]}
            finally:
                for process in running:  # ctrl-C and SIGTERM reach this thread, but none that waits for a process
                    _end(process)

    def plan_without(self, environment: str, rows: "list[int]") -> None:
        """Build the tables without some rows of the log, given by row_number of staging.interactions.

        Raises:
            RunError: the plan failed.
        """
        folder = self._folder / environment
        data = self.settings.data_dir
        log = table_names(data, "interactions") | {CONTRACT_FILE}
        shutil.copytree(data, folder, ignore=lambda at, names: log if Path(at) == data else set(), copy_function=_link)
        self._write_log(folder / "interactions.parquet", rows)
        self._write_declarations(folder / CONTRACT_FILE)
        # What was fitted knows these rows, and events of the service are in the log that is written.
        without = {"data_dir": folder, "fitted": self._folder / "nothing", "served": self._folder / "nothing"}
        plan(self.settings.model_copy(update=without), environment)
        self._places[environment] = self.settings.warehouse

    def _write_log(self, target: Path, rows: "list[int]") -> None:
        with read(self.settings.warehouse) as connection:
            connection.register("held_back", pa.table({"row_number": pa.array(rows, pa.int64())}))
            connection.sql(_KEPT).write_parquet(str(target))

    def _write_declarations(self, target: Path) -> None:
        """Write what the shop declares, but nothing that would change columns, names or ratings of the log again."""
        declared = load_declarations(self.settings.data_dir)
        values = declared.values
        with read(self.settings.warehouse) as connection:
            names = [name for (name,) in connection.execute(_EVENT_TYPES).fetchall()]
        accepted = {
            "events": {name: name for name in names} if values.events else {},
            "rating_scale": values.rating_scale and _STARS,
        }
        log = {"interactions": InteractionsDeclaration(), "values": values.model_copy(update=accepted)}
        target.write_text(variable(declared.model_copy(update=log)), "utf-8")


def _moment_of_tables(warehouse: Path, wanted: datetime | None) -> datetime | None:
    """Return the moment of the tables of prod, None without interactions; a setting that names another one is logged.

    Raises:
        UsageError: there are no tables yet.
    """
    with read(warehouse) as connection:
        row: tuple[datetime | None, datetime | None] | None = connection.execute(_MOMENT).fetchone()
    as_of, newest = row or (None, None)
    if as_of != (wanted or newest):
        says = f"is {wanted}" if wanted else "is not set"
        logger.warning(
            "the tables are as of %s, and VLM4REC_AS_OF %s: the moment of the tables counts, until `sqlmesh plan`"
            " builds others",
            as_of,
            says,
        )
    return as_of


def plan(settings: Settings, environment: str) -> None:
    """Run `sqlmesh plan` under these settings.

    Raises:
        RunError: the plan failed.
    """
    program = str(Path(sys.executable).with_name("sqlmesh"))
    options = ["--include-unmodified", "--auto-apply", "--no-prompts", "--skip-tests"]
    run_sqlmesh(settings, program, "-p", str(settings.require_project()), "plan", environment, *options)


def run_sqlmesh(
    settings: Settings,
    *command: str,
    each_line: Callable[[str], None] = lambda line: None,
    started: Callable[[subprocess.Popen[str]], None] = lambda process: None,
    **more: str,
) -> None:
    """Run a command that plans under these settings, with more environment variables if wanted.

    Args:
        settings: of the plan.
        command: program and arguments.
        each_line: receives each line of its standard output as it is printed.
        started: receives the process once.
        more: environment variables.

    Raises:
        RunError: the command failed.
    """
    environment = _environment(settings) | more
    with (
        TemporaryFile("w+") as stderr,
        subprocess.Popen(  # noqa: S603  no shell
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment, start_new_session=True
        ) as process,
    ):
        lines = []
        started(process)
        try:
            for line in process.stdout or ():
                each_line(line)
                lines.append(line)
        except BaseException:
            _end(process)
            raise
        code = process.wait()
        stderr.seek(0)
        lines += stderr
    if code:
        lines = [line for line in lines if line.strip()]
        errors = [line for line in lines if "rror" in line and "Plan application failed" not in line]  # says nothing
        detail = (errors or lines or ["no message"])[-1].strip().removeprefix("Error: ")
        raise RunError(f"building the tables of an earlier moment failed ({code}): {detail}")


def _end(process: "subprocess.Popen[str]") -> None:
    """Kill a process and those that it has started: SQLMesh loads a project in several, which would wait for ever."""
    if process.poll() is None:  # else its number may be that of another process by now
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def workbench(settings: Settings) -> Iterator[Workbench]:
    """Yield a copy of the warehouse that is removed at the end of the block; the errors are those of `Workbench`."""
    with working_folder(settings.cache.resolve()) as folder:
        yield Workbench(settings, folder)


def _environment(settings: Settings) -> dict[str, str]:
    """Return the environment that runs a command with exactly these settings; secrets are inherited."""
    secret = {name for name, value in settings if isinstance(value, SecretStr)}
    plain = settings.model_dump(mode="json", exclude=secret)
    values = {f"VLM4REC_{name}".upper(): value for name, value in plain.items()}
    inherited = {name: value for name, value in os.environ.items() if name not in values}
    set_to = {name: str(value) for name, value in values.items() if value is not None}
    return {**inherited, **set_to, "PYTHON_DOTENV_DISABLED": "1"}  # not the settings of the project's .env file


def _link(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)  # of a link itself, another folder would make a dangling one
    except OSError:
        shutil.copy2(source, target)  # another file system


# The built-in shop as a world with known answers: does the effect appear there, and only there, where it has to?

ITEMS, SHOPPERS = 400, 800  # enough for intervals of a few hundredths
_OF_THE_SHOP = (
    "engine", "language", "as_of", "caption_budget", "caption_edits", "caption_max_cost", "other_captioners",
)  # fmt: skip


def settings_of_world(settings: Settings, folder: Path) -> Settings:
    """Return the settings of a world in a folder: what belongs to the caller's shop has no part in it."""
    defaults = {name: Settings.model_fields[name].default for name in _OF_THE_SHOP}
    places = {
        "data_dir": folder / "data",
        "warehouse": folder / "warehouse.duckdb",
        "fitted": folder / "fitted",
        "served": folder / "served",
        "forgotten": folder / "forgotten.json",
    }
    return settings.model_copy(update={**defaults, **places, "captioner": "tiny"})


@contextmanager
def built_world(settings: Settings, world: str, seed: int, say: Callable[[str], None]) -> Iterator[Settings]:
    """Build a shop and its tables in a temporary folder, and yield its settings.

    The captioner is the small model that was trained on this shop's drawings. Encoders, a pinned ranking, cache and
    results file stay the caller's; folder and tables are removed at the end.

    Args:
        settings: of the caller.
        world: `photo` or `title`, see `datasets.demo_shop.build.build_shop`.
        seed: of the shop.
        say: told each long step.

    Raises:
        UsageError: there is no such world.
        RunError: the plan failed.
    """
    with working_folder(settings.cache.resolve()) as folder:
        say(f"Building the world {world}: {ITEMS} items, {SHOPPERS} shoppers, and its tables")
        there = settings_of_world(settings, folder)
        build_shop(there.data_dir, world, ITEMS, SHOPPERS, seed, dirty=False)
        plan(there, "prod")
        yield there
