"""A project of one's own: written by `vlm4rec init`, found from a folder in it, upgraded without losing edits."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from helpers.workspace import ROOT

from vlm4rec_search.captioning.prompts import load_prompt
from vlm4rec_search.cli import main
from vlm4rec_search.common.settings import settings
from vlm4rec_search.common.spark.engine import asked_gateway
from vlm4rec_search.pipeline.project import MANIFEST, find_old_project, project_files
from vlm4rec_search.pipeline.project.template import digest
from vlm4rec_search.search.rules import load_rules

EDITED = "models/staging/items.sql"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A new project, which is the working directory."""
    for name in [name for name in os.environ if name.startswith("VLM4REC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # .env files change it
    assert run("init", str(tmp_path / "shop")).exit_code == 0
    monkeypatch.chdir(tmp_path / "shop")
    yield tmp_path / "shop"
    settings.cache_clear()


def run(*arguments: str) -> Result:
    settings.cache_clear()
    return CliRunner().invoke(main, arguments)


def make_old(project: Path, **contents: str | None) -> None:
    """Let the manifest say that an older version wrote these contents; None for a file that it did not have."""
    manifest = json.loads((project / MANIFEST).read_text())
    for path, content in contents.items():
        if content is None:
            del manifest["files"][path]
            (project / path).unlink()
        else:
            (project / path).write_text(content)
            manifest["files"][path] = digest(content.encode())
    (project / MANIFEST).write_text(json.dumps(manifest))


def test_a_new_project_has_the_files_of_the_repository_and_a_line_for_each_setting(shop: Path) -> None:
    for name in (
        "config.py",
        "models/README.md",
        EDITED,
        "macros/lists.py",
        "audits/rows.sql",
        "expectations/as_of.yaml",
    ):
        assert (shop / name).read_bytes() == (ROOT / name).read_bytes()
    assert sorted(path.name for path in (shop / "tests" / "models").iterdir()) == sorted(
        path.name for path in (ROOT / "tests" / "models").glob("*.yaml")
    )
    assert "# VLM4REC_CAPTION_BUDGET=5000\n" in (shop / ".env.example").read_text()
    assert len((shop / "README.md").read_text().splitlines()) <= 15


def test_links_in_a_new_project_lead_to_its_files(shop: Path) -> None:
    pages = [shop / name for name in project_files() if name.endswith(".md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())]
    assert len(links) > 50
    assert [(page, link) for page, link in links if not (page.parent / link).exists()] == []


def test_the_rules_of_a_new_project_apply_once_their_lines_are_no_comments(shop: Path) -> None:
    file = shop / "rules.yaml"
    assert load_rules(file).rules == ()
    (shop / ".env").write_text("VLM4REC_RULES=rules.yaml\n")
    settings.cache_clear()
    assert settings().rules == Path("rules.yaml")
    lines = file.read_text().splitlines()
    examples = [line for line in lines if re.match("# +- ", line)]
    for example in examples:
        file.write_text("\n".join(line.removeprefix("#") if line == example else line for line in lines))
        assert len(load_rules(file).rules) == 1, example
    file.write_text("\n".join(line.removeprefix("#") if line in examples else line for line in lines))
    assert [rule.action for rule in load_rules(file).rules] == ["pin", "boost", "bury", "drop"]


def test_the_workflow_of_a_new_project_takes_the_package_from_no_index(shop: Path) -> None:
    workflow = (shop / ".github" / "workflows" / "check.yml").read_text()
    assert re.findall(r"pip install (\S+)", workflow) == ["wheels/vlm4rec_search-*.whl"]


def test_init_keeps_the_files_of_a_folder_and_refuses_a_project(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("ours")
    assert f"{tmp_path / 'README.md'}: kept" in run("init", str(tmp_path)).output
    assert (tmp_path / "README.md").read_text() == "ours"
    again = run("init", str(tmp_path))
    assert (again.exit_code, "`vlm4rec upgrade`" in again.output) == (2, True)


def test_the_engine_stands_in_the_settings_of_a_new_project(tmp_path: Path) -> None:
    assert run("init", str(tmp_path / "shop"), "--engine", "spark").exit_code == 0
    assert (tmp_path / "shop" / ".env").read_text() == "VLM4REC_ENGINE=spark\n"
    assert ".env" not in json.loads((tmp_path / "shop" / MANIFEST).read_text())["files"], "the shop's own"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".env").write_text("VLM4REC_LANGUAGE=german\n")
    assert "it needs the line VLM4REC_ENGINE=spark" in run("init", str(tmp_path / "other"), "--engine", "spark").output
    assert (tmp_path / "other" / ".env").read_text() == "VLM4REC_LANGUAGE=german\n"


@pytest.mark.parametrize(
    ("arguments", "gateway"),
    [
        (["sqlmesh", "--gateway", "spark", "plan"], "spark"),
        (["sqlmesh", "-p", "shop", "--gateway=duckdb", "plan"], "duckdb"),
        (["sqlmesh", "plan", "spark"], None),
        (["sqlmesh", "--gateway", "other", "plan"], None),
    ],
)
def test_the_gateway_of_the_command_line_is_known(arguments: list[str], gateway: str | None) -> None:
    assert asked_gateway(arguments) == gateway


def test_a_command_without_a_project_says_how_to_write_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLM4REC_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    result = run("upgrade")
    assert (result.exit_code, "`vlm4rec init DIR`" in result.output) == (2, True)
    settings.cache_clear()


def test_the_project_and_its_files_are_found_from_a_folder_in_it(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop / "models" / "staging")
    settings.cache_clear()
    assert settings().require_project() == shop
    assert (settings().warehouse, settings().index_url) == (shop / "warehouse.duckdb", str(shop / "index"))
    monkeypatch.chdir(shop)
    settings.cache_clear()
    assert (settings().warehouse, settings().index_url) == (Path("warehouse.duckdb"), "index")


def test_a_prompt_and_models_of_the_project_are_found_from_a_folder_in_it(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("own/encoder", "own/vlm", "own/jars", "all-MiniLM-L6-v2", "structured", "tiny"):
        (shop / name).mkdir(parents=True)
    (shop / "own/prompt.yaml").write_text("version: 1\ntext: Describe it.\n")
    given = {
        "prompt": "own/prompt.yaml",
        "encoder": "own/encoder",
        "weights": "own/jars",
        "captioner": "transformers:own/vlm",
        "other_captioners": "tiny, transformers:own/vlm,openai:own/vlm",
    }
    (shop / ".env").write_text("".join(f"VLM4REC_{name.upper()}={value}\n" for name, value in given.items()))
    settings.cache_clear()
    assert {name: getattr(settings(), name) for name in given} == given
    monkeypatch.chdir(shop / "models")
    settings.cache_clear()
    assert {name: getattr(settings(), name) for name in given} == {
        "prompt": f"{shop}/own/prompt.yaml",
        "encoder": f"{shop}/own/encoder",
        "weights": f"{shop}/own/jars",
        "captioner": f"transformers:{shop}/own/vlm",
        "other_captioners": f"tiny,transformers:{shop}/own/vlm,openai:own/vlm",
    }
    assert load_prompt(settings().prompt).id.startswith("prompt@1-")
    packaged = {"prompt": "structured", "encoder": "all-MiniLM-L6-v2", "captioner": "tiny"}
    (shop / ".env").write_text("".join(f"VLM4REC_{name.upper()}={value}\n" for name, value in packaged.items()))
    settings.cache_clear()
    assert {name: getattr(settings(), name) for name in packaged} == packaged


def test_the_env_file_wins_over_the_environment_and_says_so(
    shop: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (shop / ".env").write_text("VLM4REC_PROMPT=structured\nVLM4REC_ENCODER=hashing-4\n")
    monkeypatch.setenv("VLM4REC_PROMPT", "describe")
    settings.cache_clear()
    assert (settings().prompt, settings().encoder) == ("structured", "hashing-4")
    assert [record.args for record in caplog.records] == [("VLM4REC_PROMPT", shop / ".env")]


def test_an_upgrade_of_a_current_project_changes_nothing(shop: Path) -> None:
    (shop / EDITED).write_text("/* ours */")
    assert run("upgrade").output == "The project is up to date.\n"


def test_a_diff_tells_own_edits_from_changes_of_the_package(shop: Path) -> None:
    make_old(shop, **{"config.py": "# vlm4rec_search of old", "macros/lists.py": "old"})
    (shop / "macros" / "lists.py").write_text("both")
    (shop / EDITED).write_text((ROOT / EDITED).read_text() + "/* ours */\n")
    shown = run("upgrade", "--diff")
    lines = [line for line in shown.output.splitlines() if line.startswith(("keep", "own", "replace", "+/*"))]
    assert lines == [
        "replace  config.py: changed in this version",
        "keep     macros/lists.py: you edited it, and this version changed it, too",
        f"own      {EDITED}: you edited it, and this version did not change it",
        "+/* ours */",
    ]
    assert "Changed by you alone: 1." in shown.output
    assert "Changed in this version: 2, of which you edited 1." in shown.output
    run("upgrade", "--force", EDITED)
    assert (shop / EDITED).read_bytes() == (ROOT / EDITED).read_bytes()


def test_an_upgrade_replaces_adds_and_removes_files_that_nobody_edited(shop: Path) -> None:
    (shop / "models" / "old.sql").touch()
    make_old(shop, **{EDITED: "/* old */", "config.py": "# vlm4rec_search of old", "models/old.sql": "old"})
    make_old(shop, **{"rules.yaml": None})
    shown = run("upgrade", "--diff")
    assert "-/* old */\n" in shown.output
    assert (shop / EDITED).read_text() == "/* old */"
    result = run("upgrade", "--json")
    outcomes = {file["path"]: file["outcome"] for file in json.loads(result.output)["files"]}
    assert outcomes == {EDITED: "replace", "config.py": "replace", "models/old.sql": "remove", "rules.yaml": "add"}
    assert {name for name, content in project_files().items() if (shop / name).read_bytes() != content} == set()
    assert not (shop / "models" / "old.sql").exists()
    assert run("upgrade").output == "The project is up to date.\n"


@pytest.mark.parametrize(
    ("option", "content"), [("--force", (ROOT / EDITED).read_text()), ("--keep", "/* ours */")], ids=["force", "keep"]
)
def test_an_edited_model_survives_until_its_owner_decides(shop: Path, option: str, content: str) -> None:
    make_old(shop, **{EDITED: "/* old */"})
    (shop / EDITED).write_text("/* ours */")
    for _ in range(2):
        assert f"keep     {EDITED}: you edited it, and this version changed it, too" in run("upgrade").output
        assert (shop / EDITED).read_text() == "/* ours */"
    run("upgrade", option, EDITED)
    assert (shop / EDITED).read_text() == content
    assert run("upgrade").output == "The project is up to date.\n"


def test_a_removed_file_stays_removed(shop: Path) -> None:
    make_old(shop, **{EDITED: "/* old */"})
    (shop / EDITED).unlink()
    assert "you removed it, and this version changed it" in run("upgrade").output
    assert not (shop / EDITED).exists()


def test_a_project_without_a_manifest_counts_as_edited(shop: Path) -> None:
    (shop / MANIFEST).unlink()
    (shop / EDITED).write_text("/* of version 0.1 */")
    (shop / "rules.yaml").unlink()
    output = run("upgrade").output
    assert f"keep     {EDITED}: it is a file of yours" in output
    assert "add      rules.yaml: new in this version" in output
    run("upgrade", "--force", "models")
    assert (shop / EDITED).read_bytes() == (ROOT / EDITED).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--force", "models/staging/itmes.sql"), "no file of that name differs"),
        (("--keep", "../other"), "is not in the project"),
    ],
)
def test_a_wrong_name_is_refused(shop: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run("upgrade", *arguments)
    assert (result.exit_code, message in result.output) == (2, True)


def test_a_new_model_and_its_test_are_written_into_the_folder_of_its_layer(shop: Path) -> None:
    result = json.loads(run("new", "model", "big_baskets", "--json").output)
    assert result["model"] == "analysis.big_baskets"
    assert [Path(path).relative_to(shop).as_posix() for path in result["files"]] == [
        "models/analysis/big_baskets.sql",
        "tests/models/test_analysis_big_baskets.yaml",
    ]
    assert "test_analysis_big_baskets:\n  model: analysis.big_baskets\n" in Path(result["files"][1]).read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("staging.items", "items.sql exists already"),
        ("Big", "no name of a table"),
        ("../x", "no name of a table"),
        ("a__dev.x", "no name of a table"),
    ],
)
def test_a_name_that_no_new_model_can_have_is_refused(shop: Path, name: str, message: str) -> None:
    result = run("new", "model", name)
    assert (result.exit_code, message in result.output) == (2, True)


def test_files_of_another_version_are_told(shop: Path) -> None:
    assert find_old_project(shop) is None
    manifest = json.loads((shop / MANIFEST).read_text())
    (shop / MANIFEST).write_text(json.dumps(manifest | {"version": "0.1.9"}))
    assert str(find_old_project(shop)).startswith("the project's files are of version 0.1.9, the package is ")
    run("upgrade")
    assert find_old_project(shop) is None


def test_a_damaged_manifest_is_named(shop: Path) -> None:
    (shop / MANIFEST).write_text("{")
    result = run("upgrade")
    assert (result.exit_code, f"{MANIFEST} cannot be read" in result.output) == (2, True)


def test_the_checkout_is_upgraded_with_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("VLM4REC_PROJECT", raising=False)
    result = run("upgrade")
    assert (result.exit_code, "with git" in result.output) == (2, True)
