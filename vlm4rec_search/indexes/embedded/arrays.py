"""Arrays of a release in files beside it: processes that map them share one copy in memory.

    index/releases/<name>.arrays-1/<array>.npy

They follow from the release file, which stays the only one that a publication writes. The first process that wants them
writes them.
"""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)
AnyArray: TypeAlias = NDArray[Any]
_SUFFIX = ".arrays-1"  # another number for other arrays, so that no version reads those of another one


def arrays_folder(release: Path) -> Path:
    """Return the folder of the arrays of a release file."""
    return release.with_suffix(_SUFFIX)


def map_arrays(release: Path, load: Callable[[], Mapping[str, AnyArray]]) -> Mapping[str, AnyArray]:
    """Return the arrays of a release, read-only and mapped from files, which are written first where there are none.

    Where the files cannot be written or read, the arrays are those of this process alone.

    Args:
        release: its file.
        load: reads them from the release.
    """
    folder = arrays_folder(release)
    arrays = None
    try:
        if not folder.is_dir():
            arrays = load()
            _write(folder, arrays)
        return {path.stem: _map(path) for path in folder.glob("*.npy")}
    except (OSError, ValueError, EOFError) as error:  # a full disk, or files that a loss of power cut short
        logger.warning("each process holds its own copy of the release: %s cannot be used (%s)", folder, error)
        return load() if arrays is None else arrays


def _write(folder: Path, arrays: Mapping[str, AnyArray]) -> None:
    """Write all arrays or none; another process may do the same at the same time."""
    temporary = folder.with_name(f".building-{folder.name}-{os.getpid()}")  # swept like a release that is not finished
    try:
        temporary.mkdir()
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _map(path: Path) -> AnyArray:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError:  # an array without elements has nothing to map
        array: AnyArray = np.load(path, allow_pickle=False)
        return array
