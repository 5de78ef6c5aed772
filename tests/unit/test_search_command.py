"""`vlm4rec search` at a prompt: JSON, tables, notes and mistakes."""

import json
from pathlib import Path
from typing import get_args

import pytest
from click import Choice
from click.testing import CliRunner
from helpers.six_items import documents, publish

from vlm4rec_search.cli import main
from vlm4rec_search.cli.search import search
from vlm4rec_search.search.query import Mode


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index")
    publish(path)
    return path


def run(folder: Path, *arguments: str) -> str:
    outcome = CliRunner().invoke(
        main, ["search", *arguments, "--index", str(folder)], env={"COLUMNS": "160"}, catch_exceptions=False
    )
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


def test_the_command_offers_every_mode() -> None:
    (mode,) = (option for option in search.params if option.name == "mode")
    assert isinstance(mode.type, Choice)
    assert list(mode.type.choices) == list(get_args(Mode))


@pytest.mark.usefixtures("hashing_encoder")
def test_command_prints_json(folder: Path) -> None:
    answer = json.loads(run(folder, "--user", "u1", "-k", "2", "--json", "--explain", "--filter", "price<40"))
    assert (answer["user"], answer["tier"], [hit["item_id"] for hit in answer["hits"]]) == ("u1", "profile", ["b", "c"])
    assert answer["hits"][0]["explanation"]["words"][0]["word"] == "dress"


@pytest.mark.usefixtures("hashing_encoder")
def test_command_prints_a_table(folder: Path) -> None:
    output = run(folder, "--user", "u1", "--explain", "--fusion", "minmax")
    assert "blue dress" in output
    assert "from the history" in output
    assert "release items__v8__hashing-4__" in output


@pytest.mark.usefixtures("hashing_encoder")
def test_a_narrow_terminal_shows_whole_ids_and_reasons(tmp_path: Path) -> None:
    frame = documents()
    frame["item_id"] = [f"3f2b8c1e-6a74-4f0b-9f3e-1c2d3e4f5a6{item}" for item in frame["item_id"]]
    publish(tmp_path, frame)
    arguments = ["--user", "nobody", "-k", "1", "--explain", "--index", str(tmp_path)]
    output = CliRunner().invoke(main, ["search", *arguments], env={"COLUMNS": "80"}).output
    rows = [line.split("│")[1:-1] for line in output.splitlines() if line.startswith("│")]
    assert "".join(row[1].strip() for row in rows) == "3f2b8c1e-6a74-4f0b-9f3e-1c2d3e4f5a6a"
    assert " ".join(row[2].strip() for row in rows).strip() == "red dress (dresses) Nothing better is left."


@pytest.mark.usefixtures("hashing_encoder")
def test_command_tells_of_an_unknown_user_and_of_no_hits(folder: Path) -> None:
    assert "Note: user nobody is not known" in run(folder, "--user", "nobody")
    assert "No hits" in run(folder, "--text", "zebra", "--mode", "lexical")


@pytest.mark.usefixtures("hashing_encoder")
@pytest.mark.parametrize("arguments", [["--user", "u1", "-k", "0"], ["--user", "u1", "--filter", "nofield=1"], []])
def test_command_ends_with_2_for_wrong_usage(folder: Path, arguments: list[str]) -> None:
    outcome = CliRunner().invoke(main, ["search", *arguments, "--index", str(folder)])
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("Error: ")


def test_command_help_has_an_example() -> None:
    assert "vlm4rec search --user u001" in CliRunner().invoke(main, ["search", "--help"]).output
