"""A project of its own for tests that run whole commands."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@dataclass
class Workspace:
    """A folder with data, warehouse, cache and index of its own; commands run as a user would run them.

    The tiny encoders stand for the real ones, so that a plan costs no model.
    """

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "VLM4REC_DATA_DIR": "data",
            "VLM4REC_ENCODER": "hashing-64",
            "VLM4REC_IMAGE_ENCODER": "thumbnail-4",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "200",
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("VLM4REC_")}
        return {**inherited, **own, **self.settings}

    def start(self, program: str, *arguments: str) -> "subprocess.Popen[str]":
        command = [str(BIN / program), *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, program: str, *arguments: str, code: int = 0) -> str:
        """Run a command to its end and return what it printed; fail when it ends with another exit code."""
        process = self.start(program, *arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, f"{program} {arguments}: exit {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in out + err, f"{program} {arguments} shows a traceback\n{out}\n{err}"
        return out if code == 0 else out + err

    def vlm4rec(self, *arguments: str, code: int = 0) -> str:
        return self.run("vlm4rec", *arguments, code=code)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.vlm4rec(*arguments, "--json"))

    def plan(self, *arguments: str, code: int = 0) -> str:
        options = ("--auto-apply", "--no-prompts", "--skip-tests")
        return self.run("sqlmesh", "-p", str(ROOT), "plan", *arguments, *options, code=code)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        import duckdb

        with duckdb.connect(str(self.folder / "warehouse.duckdb"), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def computed(self, kind: str) -> list[int]:
        """Return how many results of a kind each run computed, in order of runs."""
        return [row["computed"] for row in self.json("ledger")["rows"] if row["kind"] == kind]
