"""Brings a project to the version of the installed package without losing edits.

Each file is compared three ways: as the package wrote it (a hash in the manifest), as it is now, and as this version
writes it. Only a file that nobody edited is replaced or removed.
"""

import difflib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ValidationError

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.version import package_version
from vlm4rec_search.pipeline.project.template import (
    MANIFEST,
    checkout,
    digest,
    project_files,
    write_file,
    write_manifest,
)


class Outcome(StrEnum):
    """What an upgrade does with a file."""

    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"
    KEEP = "keep"
    OWN = "own"


@dataclass(frozen=True)
class Change:
    """A file of the project that is not as this version of the package writes it.

    Attributes:
        path: in the project.
        outcome: KEEP and OWN are for a file that somebody edited or removed; it stays as it is. This version of the
            package changed the first, too, but not the second.
        reason: why, for people.
        current: content in the project; None where there is no such file.
        new: content that this version writes; None if it has no such file.
    """

    path: str
    outcome: Outcome
    reason: str
    current: bytes | None
    new: bytes | None

    def diff(self) -> str:
        """Return a unified diff from the current to the new content; of OWN, from the package's to the current one."""
        here, there = (self.current, f"{self.path} (here)"), (self.new, f"{self.path} ({package_version()})")
        (before, name), (after, new_name) = (there, here) if self.outcome is Outcome.OWN else (here, there)
        if any(b"\0" in content for content in (before, after) if content):
            return "(no text)\n"
        lines = difflib.unified_diff(_lines(before), _lines(after), name, new_name)
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


class _Manifest(BaseModel):
    version: str
    files: dict[str, str]


def plan_upgrade(project: Path, force: Collection[str] = (), keep: Collection[str] = ()) -> list[Change]:
    """Return what an upgrade of the project would change, and which edits it would keep; nothing is written.

    Args:
        project: folder of the project.
        force: files, or folders, whose edits give way to the content of this version.
        keep: edited files, or folders, that are right as they are; they are not reported again until the package
            changes them again.

    Raises:
        UsageError: the project is the checkout of the package, its manifest cannot be read, or a name in `force` or
            `keep` is no file that differs.
    """
    written = _read_manifest(project).files
    new_files = project_files()
    changes, differing = [], []
    for path in sorted({*written, *new_files}):
        file = project / path
        current = file.read_bytes() if file.is_file() else None
        change = _compare(path, written.get(path), current, new_files.get(path))
        if change and change.outcome in (Outcome.KEEP, Outcome.OWN) and _is_named(path, force):
            outcome = Outcome.REMOVE if change.new is None else Outcome.REPLACE if current is not None else Outcome.ADD
            change = Change(path, outcome, "forced", current, change.new)
        if change:
            differing.append(path)
        if change and not (change.outcome is Outcome.KEEP and _is_named(path, keep)):
            changes.append(change)
    for name in (*force, *keep):
        if not any(_is_named(path, [name]) for path in differing):
            raise UsageError(f"{name}: no file of that name differs from this version; see `vlm4rec upgrade --diff`")
    return changes


def upgrade_project(project: Path, changes: Sequence[Change]) -> None:
    """Apply the changes of `plan_upgrade`, and record the new state in the manifest.

    A kept file keeps its entry of the manifest, so that the next upgrade reports it again.
    """
    written = _read_manifest(project).files
    hashes = {path: digest(content) for path, content in project_files().items()}
    for change in changes:
        if change.outcome is Outcome.OWN:
            continue
        if change.outcome is Outcome.KEEP:
            hashes.pop(change.path, None)
            if change.path in written:
                hashes[change.path] = written[change.path]
        elif change.new is None:
            (project / change.path).unlink()
        else:
            write_file(project / change.path, change.new)
    write_manifest(project, hashes)


def find_old_project(project: Path) -> str | None:
    """Return which other version of the package wrote the files of a project, None if it is this one or unknown.

    Raises:
        UsageError: the manifest cannot be read.
    """
    if not (project / MANIFEST).exists():
        return None
    written = _read_manifest(project).version
    if written == package_version():
        return None
    return f"the project's files are of version {written}, the package is {package_version()}: run `vlm4rec upgrade`"


def _compare(path: str, written: str | None, current: bytes | None, new: bytes | None) -> Change | None:
    """Return the change of one file, None if there is nothing to do or to report.

    Args:
        written: hash of the content that the package wrote; None if it wrote no such file.
    """
    if current == new:
        return None
    if new is not None and written == digest(new):
        done = "edited" if current is not None else "removed"
        return Change(path, Outcome.OWN, f"you {done} it, and this version did not change it", current, new)
    if current is None:
        if written is None:
            return Change(path, Outcome.ADD, "new in this version", current, new)
        return Change(path, Outcome.KEEP, "you removed it, and this version changed it", current, new)
    if written == digest(current):
        if new is None:
            return Change(path, Outcome.REMOVE, "this version has no such file", current, new)
        return Change(path, Outcome.REPLACE, "changed in this version", current, new)
    if written is None:
        return Change(path, Outcome.KEEP, "it is a file of yours, and this version has one of this name", current, new)
    theirs = "changed it, too" if new is not None else "has no such file"
    return Change(path, Outcome.KEEP, f"you edited it, and this version {theirs}", current, new)


def _is_named(path: str, names: Collection[str]) -> bool:
    return any(Path(path).is_relative_to(name) for name in names)


def _read_manifest(project: Path) -> _Manifest:
    """Return the manifest; a project of version 0.1, which wrote none, counts as edited in every file."""
    source = checkout()
    if source and project.resolve() == source:
        raise UsageError(f"{project} is the checkout of the package itself: upgrade it with git")
    path = project / MANIFEST
    if not path.exists():
        return _Manifest(version="0.1", files={})
    try:
        return _Manifest.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, ValidationError):
        raise UsageError(f"{path} cannot be read: restore it, or remove it to treat every file as edited") from None


def _lines(content: bytes | None) -> list[str]:
    return content.decode("utf-8", errors="replace").splitlines(keepends=True) if content else []
