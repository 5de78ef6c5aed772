"""Sizes of the core environment, of the environment with all extras, and of the wheel: `python -m benchmarks.sizes`.

The environments are built with uv in a temporary folder from the versions in constraints.txt. `--full` builds the one
with all extras, too, which takes minutes and 7 GB of disk.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PROJECT = Path(__file__).parents[1]
EXTRAS = "[models,opensearch-local,peers,dev,bench]"


def folder_size(folder: Path) -> int:
    """Return the bytes of the files below a folder; links are not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def describe_size(folder: Path) -> str:
    """Return the size of an environment, and what it is with all modules compiled, as pip leaves them."""
    whole = folder_size(folder)
    compiled = sum(path.stat().st_size for path in folder.rglob("*.pyc"))
    return f"{(whole - compiled) / 1e6:,.0f} MB, {whole / 1e6:,.0f} MB with compiled modules"


def run(*command: str) -> None:
    """Run a program of the environment of this process, in the project."""
    program = str(Path(sys.executable).with_name(command[0]))
    subprocess.run([program, *command[1:]], cwd=PROJECT, check=True)  # noqa: S603  fixed programs, no shell


def build_environment(folder: Path, extras: str = "") -> None:
    """Install the project with some extras into a new environment."""
    run("uv", "venv", "-q", "--python", sys.executable, str(folder))
    python = str(folder / "bin" / "python")
    options = ("--compile-bytecode", "--python", python, "-c", "constraints.txt")  # compiled, as pip installs
    run("uv", "pip", "install", "-q", *options, f".{extras}")


def main() -> None:
    """Build and print the sizes in MB (10^6 bytes)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="build the environment with all extras, too")
    arguments = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        for label, extras in {"core": "", "all extras": EXTRAS if arguments.full else None}.items():
            if extras is not None:
                build_environment(folder / label, extras)
                print(f"{label} environment: {describe_size(folder / label)}", flush=True)
        run("uv", "build", "-q", "--wheel", "--out-dir", str(folder / "dist"))
        for wheel in (folder / "dist").glob("*.whl"):
            print(f"wheel: {wheel.stat().st_size / 1e6:.1f} MB")
    for path in sorted(PROJECT.glob("vlm4rec_search/**/*.onnx")):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
