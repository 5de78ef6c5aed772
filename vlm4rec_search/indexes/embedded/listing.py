"""The release files of a folder in their order: what each says of itself, or why it cannot be opened."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from vlm4rec_search.common.errors import RunError, Vlm4recError, first_line
from vlm4rec_search.indexes.embedded.store import read_meta
from vlm4rec_search.indexes.release import ListedRelease, check_readable, in_order


@contextmanager
def open_release(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection that reads a release file.

    Raises:
        RunError: the file, or what the block asks for, cannot be read.
    """
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            yield connection
    except duckdb.Error as error:
        raise RunError(f"cannot read the release {path} ({first_line(error)})") from None


def list_releases(folder: Path) -> dict[str, ListedRelease]:
    """Return every release of an index folder by name, the oldest first, also those that cannot be opened."""
    return in_order({path.stem: _read(path) for path in (folder / "releases").glob("[!.]*.duckdb")})


def _read(path: Path) -> ListedRelease:
    """Read the metadata of a release file, which may be damaged or of another package version."""
    meta = None
    try:
        with open_release(path) as connection:
            version = connection.execute("SELECT schema_version, analyzer FROM release").fetchone()
            with suppress(TypeError):  # other columns: the version says so
                meta = read_meta(connection)
        check_readable(path.stem, *(version or (None, None)))
    except Vlm4recError as error:
        return ListedRelease(meta, error)
    except (duckdb.Error, ValueError) as error:
        return ListedRelease(None, RunError(f"cannot read the release {path} ({first_line(error)})"))
    if meta is None:
        return ListedRelease(None, RunError(f"cannot read the release {path} (its table `release` has other columns)"))
    return ListedRelease(meta)
