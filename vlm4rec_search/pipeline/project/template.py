"""The files of a new project: the SQLMesh project of this version, and the files around it.

In a checkout the SQLMesh project stands at the root of the repository; the build copies it into the wheel.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pydantic import SecretStr

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.paths import replacing_file
from vlm4rec_search.common.settings import CONFIG, ENV_FILE, Settings
from vlm4rec_search.common.version import package_version
from vlm4rec_search.search.ranking import DEFAULT

MANIFEST = ".vlm4rec.json"
"""File of a project: the version of the package that wrote its files, and the sha256 of each file as written."""

# pyproject.toml has the same list.
_PARTS = ("config.py", "models", "macros", "audits", "expectations", "tests/models", "tests/data", "docs")
_PACKAGE = Path(__file__).resolve().parents[2]
_FILES = {
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".github/workflows/check.yml": "workflow.yml",
    "rules.yaml": "rules.yaml",
}
_ENV_HEADER = """\
# The settings of VLM4Rec Search and their defaults. Copy this file to .env and remove the # from a line to change it.
# `sqlmesh` and `vlm4rec` read .env; it wins over variables of the environment. Keep it out of version control.
"""


def checkout() -> Path | None:
    """Return the repository that this package is imported from, or None if it is installed from a wheel."""
    return None if (_PACKAGE / "template").is_dir() else _PACKAGE.parent


def project_files() -> dict[str, bytes]:
    """Return the content of each file of a new project by its path in the project.

    Raises:
        RunError: the package was installed without the template.
    """
    root = checkout() or _PACKAGE / "template"
    if not (root / "config.py").is_file():
        raise RunError(f"{root} has no project template: install the wheel again")
    files = {path.relative_to(root).as_posix(): path for part in _PARTS for path in _files_below(root / part)}
    around = {name: Path(__file__).with_name("files") / file for name, file in _FILES.items()}
    paths = {name: path for name, path in files.items() if _belongs_to_project(name)} | around
    contents = {name: path.read_bytes() for name, path in (paths | {"ranking.yaml": DEFAULT}).items()}
    return dict(sorted((contents | {".env.example": _env_example().encode()}).items()))


def model_names() -> frozenset[str]:
    """Return the names of the models of a new project, <layer>.<table>; errors are those of `project_files`."""
    paths = (PurePosixPath(name) for name in project_files())
    models = (path for path in paths if path.parts[0] == "models" and path.suffix in (".sql", ".py"))
    return frozenset(f"{path.parent.name}.{path.stem}" for path in models)


def write_project(folder: Path, engine: str = "duckdb") -> tuple[list[str], list[str]]:
    """Write a new project; return the paths of the written files, and of files that the folder had and keeps.

    Args:
        folder: of the project, which may exist.
        engine: as in `Settings`; another one than the default stands in the file `.env`.

    Raises:
        UsageError: the folder is a project already, or cannot be written.
    """
    if (folder / MANIFEST).exists() or (folder / CONFIG).exists():
        raise UsageError(f"{folder} has a {CONFIG} already: `vlm4rec upgrade` brings a project to this version")
    environment = {ENV_FILE: f"VLM4REC_ENGINE={engine}\n".encode()} if engine != "duckdb" else {}
    files = {**environment, **project_files()}
    kept = [name for name in files if (folder / name).exists()]
    try:
        for name in files.keys() - kept:
            write_file(folder / name, files[name])
        own = {name: digest(content) for name, content in files.items() if name not in [*kept, ENV_FILE]}
        write_manifest(folder, own)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or folder}: {error.strerror or error}") from None
    return [name for name in files if name not in kept], kept


def digest(content: bytes) -> str:
    """Return the sha256 of a file's content, in hex."""
    return hashlib.sha256(content).hexdigest()


def write_file(path: Path, content: bytes) -> None:
    """Write a file, and the folders above it, in one step."""
    with replacing_file(path) as part:
        part.write_bytes(content)


def write_manifest(folder: Path, hashes: Mapping[str, str]) -> None:
    """Record which files this version of the package has written, with the hash of each."""
    manifest = {"version": package_version(), "files": dict(sorted(hashes.items()))}
    write_file(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())


def _files_below(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _belongs_to_project(name: str) -> bool:
    parts = Path(name).parts
    return "__pycache__" not in parts and not (parts[0] in ("tests", "docs") and name.endswith(".py"))


def _env_example() -> str:
    """Return a line for each setting, all of them comments."""
    lines = [_ENV_HEADER.rstrip()]
    for name, field in Settings.model_fields.items():
        if name == "project":
            continue
        default = "" if field.default is None or isinstance(field.default, SecretStr) else field.default
        lines += ["", f"# {field.description}", f"# VLM4REC_{name.upper()}={default}"]
    return "\n".join(lines) + "\n"
