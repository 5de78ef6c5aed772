"""Arrays of a release in files beside it: processes that map them share one copy in memory.

    index/releases/<name>.arrays-3/<array>.npy

They follow from the release file alone. The first process that wants them writes them: for a large release, that is its
publication.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)
AnyArray: TypeAlias = NDArray[Any]
_SUFFIX = ".arrays-3"  # another number for other arrays, so that no version reads those of another one


class Rows(NamedTuple):
    """A float32 matrix that comes in batches of rows, so that it need not fit into memory.

    Attributes:
        shape: of the whole matrix.
        batches: its rows in order, to be read once.
    """

    shape: tuple[int, int]
    batches: Iterator[NDArray[np.float32]]


Loaded: TypeAlias = Mapping[str, AnyArray | Rows]


def arrays_folder(release: Path) -> Path:
    """Return the folder of the arrays of a release file."""
    return release.with_suffix(_SUFFIX)


def read_arrays(load: Callable[[], Loaded]) -> Mapping[str, AnyArray]:
    """Return the arrays in the memory of this process."""
    return {name: _whole(array) if isinstance(array, Rows) else array for name, array in load().items()}


def _whole(rows: Rows) -> AnyArray:
    whole = np.empty(rows.shape, dtype=np.float32)
    low = 0
    for batch in rows.batches:
        whole[low : low + len(batch)] = batch
        low += len(batch)
    return whole


def map_arrays(release: Path, load: Callable[[], Loaded], use: Callable[[Mapping[str, AnyArray]], None]) -> None:
    """Use the arrays of a release, read-only and mapped from files, which are written first where there are none.

    Where the files cannot be written, read or used, the arrays are those of this process alone.

    Args:
        release: its file.
        load: reads them from the release.
        use: takes them by name; raises KeyError where one is missing, ValueError or OSError where one is wrong.
    """
    folder = arrays_folder(release)
    try:
        if not folder.is_dir():
            try:
                _write(folder, load())
            except FileNotFoundError:  # the publication of this release, as it ended, swept what is not finished
                _write(folder, load())
        use({path.stem: _map(path) for path in folder.glob("*.npy")})
    except (OSError, ValueError, EOFError, KeyError) as error:  # a full disk, or files that a loss of power cut short
        reason = f"it has no array {error}" if isinstance(error, KeyError) else error
        logger.warning("each process holds its own copy of the release: %s cannot be used (%s)", folder, reason)
        use(read_arrays(load))


def _write(folder: Path, arrays: Loaded) -> None:
    """Write all arrays or none; another process may do the same at the same time."""
    temporary = folder.with_name(f".building-{folder.name}-{os.getpid()}")  # swept like a release that is not finished
    try:
        temporary.mkdir()
        for name, array in arrays.items():
            with (temporary / f"{name}.npy").open("wb") as file:
                if isinstance(array, Rows):
                    _write_rows(file, array)
                else:
                    np.save(file, array, allow_pickle=False)
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_rows(file: BinaryIO, rows: Rows) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": rows.shape}
    np.lib.format.write_array_header_1_0(file, header)
    for batch in rows.batches:
        file.write(np.ascontiguousarray(batch, dtype=np.float32).data)


def _map(path: Path) -> AnyArray:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError:  # an array without elements has nothing to map
        array: AnyArray = np.load(path, allow_pickle=False)
        return array
