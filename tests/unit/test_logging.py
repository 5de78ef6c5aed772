"""Log records on stderr: plain lines, JSON lines, how much is shown, and that no credentials get there."""

import json
import logging
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from vlm4rec_search.cli import COMMANDS, Commands, main
from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.logging import PACKAGE, configure_logging
from vlm4rec_search.common.progress import bar, lines

logger = logging.getLogger(f"{PACKAGE}.test")


@pytest.fixture(autouse=True)
def restored_logger() -> Iterator[None]:
    package = logging.getLogger(PACKAGE)
    handlers, level = list(package.handlers), package.level
    yield
    package.handlers[:] = handlers
    package.setLevel(level)


@pytest.mark.parametrize(
    ("verbosity", "shown"),
    [(-1, ["warning"]), (0, ["notice", "warning"]), (1, ["detail", "notice", "warning"])],
    ids=["quiet", "default", "verbose"],
)
def test_verbosity_chooses_the_plain_lines(
    verbosity: int, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(verbosity)
    configure_logging(verbosity)  # replaces the first, so that nothing is written twice
    logger.debug("detail")
    logger.info("notice")
    logger.warning("warning")
    assert capsys.readouterr().err.splitlines() == shown


def test_very_verbose_lines_name_level_and_module(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(2)
    logger.debug("detail")
    assert capsys.readouterr().err.endswith("DEBUG vlm4rec_search.test: detail\n")


def test_json_lines_hold_level_logger_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(0, "json")
    logger.warning("%d\nrows", 2)
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["level"], record["logger"], record["message"]) == ("warning", "vlm4rec_search.test", "2\nrows")


@pytest.mark.parametrize("password", ["pass", "p@pass", "p@@pass:1"])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_credentials_in_a_url_are_not_written(
    log_format: str, password: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(0, log_format)  # type: ignore[arg-type]
    logger.info("reading %s", f"https://user:{password}@shop.example/a")
    written = capsys.readouterr().err
    assert "https://shop.example/a" in written
    assert "pass" not in written


def test_quiet_hides_progress(capsys: pytest.CaptureFixture[str]) -> None:
    for verbosity in (-1, 0):
        configure_logging(verbosity)
        with bar(f"loading {verbosity}", 1) as advance:
            advance(1)
    assert capsys.readouterr().err.startswith("loading 0: 1/1, ")


def test_progress_of_long_steps_shows_how_long_one_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logging()
    moments = iter([0.0, 40.0])
    monkeypatch.setattr("vlm4rec_search.common.progress.time.monotonic", lambda: next(moments))
    with lines("tables", 4) as advance:
        advance(1)
    assert capsys.readouterr().err == "tables: 1/4, 40 s each, 120 s left\n"


@pytest.fixture
def failing_command(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def fail() -> None:
        raise RunError("the disk\nis full")

    monkeypatch.setitem(COMMANDS, "fail", "unused:unused")
    monkeypatch.setattr(Commands, "get_command", lambda *_: fail)


@pytest.mark.usefixtures("failing_command")
def test_an_error_is_one_line_in_either_format() -> None:
    run = CliRunner().invoke(main, ["fail"])
    assert (run.exit_code, run.stderr) == (1, "Error: the disk is full\n")
    run = CliRunner().invoke(main, ["--log-format", "json", "fail"])
    record = json.loads(run.stderr)
    assert (run.exit_code, record["level"], record["message"]) == (1, "error", "the disk is full")


def test_quiet_and_verbose_contradict_each_other() -> None:
    run = CliRunner().invoke(main, ["-q", "-v", "check"])
    assert (run.exit_code, run.stderr) == (2, "Error: use --quiet or --verbose, not both\n")
