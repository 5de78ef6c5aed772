"""What a person notices at the terminal: hints, short options, narrow windows, pipes that close early."""

import logging
import os
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers.workspace import BIN, Workspace

from vlm4rec_search.cli import COMMANDS, main
from vlm4rec_search.common.cache import RAW, Cache
from vlm4rec_search.common.logging import PACKAGE
from vlm4rec_search.common.settings import settings

WITHOUT_JSON = {"demo", "serve"}  # the first prints what other commands print, the second answers in JSON


def leaves(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        return [(name, command)]
    return [leaf for inner, child in command.commands.items() for leaf in leaves(child, f"{name} {inner}")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_knows_json_and_both_spellings_of_help(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    for words, leaf in leaves(command, name):
        assert words in WITHOUT_JSON or "--json" in {option for each in leaf.params for option in each.opts}, words
    short, long = (CliRunner().invoke(main, [name, option]) for option in ("-h", "--help"))
    assert (short.exit_code, short.stdout) == (0, long.stdout)


@pytest.mark.parametrize(("words", "hint"), [(["serach"], "search"), (["releases", "lst"], "list")])
def test_a_mistyped_command_gets_a_hint(words: list[str], hint: str) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert f"Did you mean '{hint}'?" in result.stderr


def test_a_name_like_no_command_gets_no_hint() -> None:
    result = CliRunner().invoke(main, ["xyzzy"])
    assert "No such command 'xyzzy'." in result.stderr
    assert "Did you mean" not in result.stderr


def test_a_closed_pipe_ends_a_command_without_a_word(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    # The reader is gone before the command writes.
    command = f"{BIN / 'vlm4rec'} queries list | (exec 0<&-)"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=workspace.environment, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_the_ledger_is_readable_in_80_columns(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, {"COLUMNS": "80"})
    with Cache(tmp_path / ".cache" / "vlm4rec") as cache:
        cache.get_or_compute("caption", "tiny@d39b7375741e-1", {"key": "photo"}, lambda photos: [b"x"], RAW)
    output = workspace.vlm4rec("ledger")
    assert max(map(len, output.splitlines())) <= 80
    assert "caption" in output
    assert "…" not in output


def test_a_command_in_the_process_of_the_tests_ends_as_one_of_its_own(tmp_path: Path) -> None:
    logger, before = logging.getLogger(PACKAGE), dict(os.environ)
    state = logger.handlers[:], logger.level, Path.cwd(), settings()
    own, here = Workspace(tmp_path), Workspace(tmp_path, in_process=True)
    for arguments, code in ((("-v", "queries", "list"), 0), (("search",), 2), (("serach",), 2), (("check",), 2)):
        assert here.vlm4rec(*arguments, code=code) == own.vlm4rec(*arguments, code=code)
    assert (logger.handlers[:], logger.level, Path.cwd(), settings(), dict(os.environ)) == (*state, before)
