"""A built wheel contains every file that the package reads besides its modules."""

import os
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from helpers.workspace import ROOT

BUILD = "from setuptools.build_meta import build_wheel; print(build_wheel('dist'))"
KINDS = (
    "py.typed",
    "captioning/captioners/tiny/weights/model.safetensors",
    "captioning/prompts/*.yaml",
    "captioning/templates/*.html",
    "evaluation/templates/*.html",
    "indexes/opensearch/local/jars.txt",
    "indexes/opensearch/local/node.js",
    "indexes/opensearch/roles.yml",
    "search/*.yaml",
)


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build a wheel from a copy of the project; return the paths in it, below the package."""
    project = tmp_path_factory.mktemp("wheel") / "project"
    copytree(ROOT / "vlm4rec_search", project / "vlm4rec_search", ignore=ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (project / name).write_bytes((ROOT / name).read_bytes())
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", BUILD], cwd=project, env=environment, capture_output=True, check=True)
    (wheel,) = (project / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    return {name.removeprefix("vlm4rec_search/") for name in names if name.startswith("vlm4rec_search/")}


def test_the_wheel_has_every_file_of_the_package(wheel_files: set[str]) -> None:
    package = ROOT / "vlm4rec_search"
    paths = [path.relative_to(package) for path in package.rglob("*") if path.is_file()]
    expected = {path.as_posix() for path in paths if not set(path.parts) & {"__pycache__"} and not hidden(path)}
    assert wheel_files == expected


def hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@pytest.mark.parametrize("pattern", KINDS)
def test_the_wheel_has_each_kind_of_data_file(wheel_files: set[str], pattern: str) -> None:
    assert [name for name in wheel_files if fnmatch(name, pattern)]
