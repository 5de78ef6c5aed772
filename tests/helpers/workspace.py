"""A folder in which a test runs whole commands, with data and settings of its own."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from click.testing import CliRunner

from vlm4rec_search.cli import main
from vlm4rec_search.common.logging import PACKAGE
from vlm4rec_search.common.settings import settings
from vlm4rec_search.search.ranking import DEFAULT

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass
class Workspace:
    """A folder with its own data, warehouse, cache and index, in which commands run as in a user's shell.

    Two encoders without weights replace the default ones, so that a plan loads no model. The packaged ranking is
    pinned, so that `vlm4rec index` takes no time to choose one; `choose_ranking` changes that.

    Attributes:
        folder: the working directory of the commands.
        settings: environment variables for the commands, on top of the test's own.
        in_process: whether `vlm4rec` runs in the process of the tests, which takes a third of the time. Tests about
            processes, signals, imports and memory have to start one.
    """

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    in_process: bool = False

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "VLM4REC_PROJECT": str(ROOT),
            "VLM4REC_DATA_DIR": "data",
            "VLM4REC_ENCODER": "hashing-64",
            "VLM4REC_IMAGE_ENCODER": "thumbnail-4",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "200",
            "VLM4REC_RANKING": str(DEFAULT),
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("VLM4REC_")}
        return {**inherited, **own, **self.settings}

    def choose_ranking(self) -> None:
        """Let `vlm4rec index` choose the ranking, as it does for a user who names none."""
        self.settings["VLM4REC_RANKING"] = ""

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Give this process the working directory, the environment and the settings of the commands."""
        with chdir(self.folder), patch.dict(os.environ, self.environment, clear=True):
            settings.cache_clear()
            try:
                yield
            finally:
                settings.cache_clear()

    def start(self, program: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command without waiting for it; Ctrl-C reaches it also where the tests run in the background."""
        return subprocess.Popen(
            [str(BIN / program), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell starts background jobs with SIGINT ignored, which every process below them inherits.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, program: str, *arguments: str, code: int = 0, told: bool = False) -> str:
        """Run a command and return its output: stdout, and after an expected failure or with `told` also stderr.

        Fails on another exit code than `code`, and on a traceback.
        """
        process = self.start(program, *arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, f"{program} {arguments}: exit {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in out + err, f"{program} {arguments} shows a traceback\n{out}\n{err}"
        return out + err if code or told else out

    def vlm4rec(self, *arguments: str, code: int = 0) -> str:
        """Run `vlm4rec` and return its output."""
        return self._call(*arguments, code=code) if self.in_process else self.run("vlm4rec", *arguments, code=code)

    def _call(self, *arguments: str, code: int) -> str:
        """Run `vlm4rec` in this process; result and failures are those of `run`."""
        logger = logging.getLogger(PACKAGE)
        handlers, level = logger.handlers[:], logger.level
        with self.inside():
            try:
                result = CliRunner().invoke(main, arguments, prog_name="vlm4rec")
            finally:
                logger.handlers[:] = handlers
                logger.setLevel(level)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"vlm4rec {arguments} fails\n{result.output}") from result.exception
        assert result.exit_code == code, f"vlm4rec {arguments}: exit {result.exit_code}\n{result.output}"
        return result.stdout + result.stderr if code else result.stdout

    def json(self, *arguments: str) -> Any:
        """Run `vlm4rec ... --json` and return the parsed output."""
        return json.loads(self.vlm4rec(*arguments, "--json"))

    def plan(self, *arguments: str, code: int = 0) -> str:
        """Run `sqlmesh plan` on the project with the data of this folder, and return its output."""
        options = ("--auto-apply", "--no-prompts", "--skip-tests")
        return self.run("sqlmesh", "-p", str(ROOT), "plan", *arguments, *options, code=code)

    def query(self, sql: str, file: str = "warehouse.duckdb") -> list[tuple[Any, ...]]:
        """Return the rows of a query on the warehouse of this folder, or on another DuckDB file in it."""
        import duckdb

        with duckdb.connect(str(self.folder / file), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def computed(self, kind: str) -> list[int]:
        """Return the number of results of a kind that each run computed, oldest run first."""
        return [row["computed"] for row in self.json("ledger")["rows"] if row["kind"] == kind]
