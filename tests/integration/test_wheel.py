"""The built wheel has every file, and works by itself in an environment of its own, outside of the checkout."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from helpers.workspace import BIN, ROOT

from vlm4rec_search.pipeline.project import project_files

PACKAGE, TEMPLATE = "vlm4rec_search/", "vlm4rec_search/template/"
BUILD = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, capture_output=True, check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel_files(wheel: Path) -> dict[str, bytes]:
    """The content of each file in the wheel by its path."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_every_file_of_the_package(wheel_files: dict[str, bytes]) -> None:
    paths = [path.relative_to(ROOT) for path in (ROOT / PACKAGE).rglob("*") if path.is_file()]
    expected = {path.as_posix() for path in paths if "__pycache__" not in path.parts and not hidden(path)}
    assert {name for name in wheel_files if name.startswith(PACKAGE) and not name.startswith(TEMPLATE)} == expected


def test_the_wheel_has_the_project_of_the_repository(wheel_files: dict[str, bytes]) -> None:
    template = {name.removeprefix(TEMPLATE): wheel_files[name] for name in wheel_files if name.startswith(TEMPLATE)}
    expected = {name: content for name, content in project_files().items() if (ROOT / name).is_file()}
    for own in ("README.md", ".gitignore"):  # of a new project, not of the repository
        del expected[own]
    written = {name for name in template if not (name.startswith(("tests/", "docs/")) and name.endswith(".py"))}
    assert written == set(expected)
    assert [name for name, content in expected.items() if template[name] != content] == []


def test_the_metadata_has_the_version_of_pyproject_and_names_no_machine(wheel_files: dict[str, bytes]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (text,) = (content.decode() for name, content in wheel_files.items() if name.endswith("dist-info/METADATA"))
    metadata = Parser().parsestr(text)
    assert (metadata["Version"], metadata["License-Expression"]) == (project["version"], project["license"])
    assert str(ROOT) not in text


def test_the_wheel_alone_turns_a_data_folder_into_search_results(wheel: Path, tmp_path: Path) -> None:
    """It needs no torch: both encoders and the captioner `tiny` run in ONNX Runtime."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VLM4REC_", "PYTHON"))}
    environment["VLM4REC_CAPTIONER"] = "tiny"
    venv, shop = tmp_path / "venv", tmp_path / "shop"

    def run(*command: str | Path, cwd: Path = tmp_path, code: int = 0) -> str:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
        return done.stderr if code else done.stdout

    run(BIN / "uv", "venv", "--python", sys.executable, venv)
    pip = (BIN / "uv", "pip", "install", "--python", venv / "bin" / "python")
    run(*pip, "--constraint", ROOT / "constraints.txt", wheel)
    run(venv / "bin" / "vlm4rec", "init", "shop")
    shutil.copytree(shop / "tests" / "data" / "raw", shop / "data")
    run(venv / "bin" / "vlm4rec", "new", "model", "big_baskets", cwd=shop)
    run(venv / "bin" / "sqlmesh", "plan", "--auto-apply", "--no-prompts", cwd=shop)
    run(venv / "bin" / "vlm4rec", "index", cwd=shop)
    answer = json.loads(
        run(venv / "bin" / "vlm4rec", "search", "--text", "alder", "--mode", "lexical", "--json", cwd=shop)
    )
    assert answer["hits"][0]["item_id"] == "00001"
    answer = json.loads(
        run(venv / "bin" / "vlm4rec", "search", "--text", "alder", "--mode", "semantic", "--json", cwd=shop)
    )
    assert answer["hits"][0]["item_id"] == "00001"
    assert not list((venv / "lib").glob("*/site-packages/torch"))
    environment["VLM4REC_CAPTIONER"] = f"transformers:{venv}"
    told = run(venv / "bin" / "vlm4rec", "captions", "preview", "-n", "1", cwd=shop, code=2)
    assert told.endswith("the package torch is not installed: pip install 'vlm4rec-search[models]'\n")
    site = run(venv / "bin" / "python", "-c", "import vlm4rec_search; print(vlm4rec_search.__file__)", cwd=shop)
    assert Path(site.strip()).is_relative_to(venv)


def test_the_image_gets_every_file_that_the_build_reads_and_runs_without_rights() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    assert not any("--no-compile" in line for line in lines)  # without rights, each start would compile the modules
    assert [line for line in lines if line.startswith("USER ")][-1] not in ("USER root", "USER 0")
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    build = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    read = {*build["packages"], *build["force-include"], "pyproject.toml", "README.md", "LICENSE", "constraints.txt"}
    assert [name for name in sent if not (ROOT / name).exists()] == []
    assert [name for name in read if not any(Path(name).is_relative_to(path) for path in sent)] == []


def hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
