"""Files of weights: located without importing their package, and verified before they are loaded."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from vlm4rec_search.common.errors import RunError, UsageError, first_line, missing_extra
from vlm4rec_search.common.paths import file_sha256


def packaged_file(package: str, file: str) -> Path:
    """Return the path of a file inside an installed package, without importing the package.

    Raises:
        UsageError: the package is not installed.
    """
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise UsageError(f"the package {package} is not installed: pip install {package.replace('_', '-')}")
    return Path(folders[0]) / file


def verify_sha256(path: Path, sha256: str) -> None:
    """Check that a file has the pinned hash.

    Raises:
        RunError: the file is missing or has another hash.
    """
    try:
        actual = file_sha256(path)
    except OSError as error:
        raise RunError(f"the weights {path} cannot be read ({error.strerror}): install their package again") from None
    if actual != sha256:
        raise RunError(f"the weights {path} have sha256 {actual}, expected {sha256}: not loaded; install them again")


def folder_digest(folder: Path) -> str:
    """Return a sha256 (hex) over names and bytes of the files below a folder, without hidden files and Markdown."""
    combined = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and path.suffix != ".md" and not any(part.startswith(".") for part in name.parts):
            combined.update(f"{name.as_posix()}\0{file_sha256(path)}\n".encode())
    return combined.hexdigest()


def hub_commit(repository: str) -> str:
    """Return the commit (hex) of a model in the local cache of the Hugging Face hub, else its newest commit on the hub.

    Raises:
        LookupError: the model cannot be found; the message continues a sentence about the model.
        UsageError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import model_info, snapshot_download
    except ImportError as error:
        raise missing_extra(error, "models") from None
    try:
        return Path(snapshot_download(repository, local_files_only=True, allow_patterns=["config.json"])).name
    except (OSError, ValueError):
        pass
    try:
        return str(model_info(repository, timeout=10).sha)
    except Exception as error:  # errors of the hub and of its transport have no common class
        raise LookupError(
            f"is no folder, not in the local cache of the hub, and cannot be looked up there ({first_line(error)})"
        ) from None
