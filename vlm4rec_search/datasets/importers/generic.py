"""Imports a shop's own exports by a column mapping; DuckDB streams, so memory stays bounded."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.files import check_whole, open_table
from vlm4rec_search.datasets.importers.mapping import mapped, parse_mapping
from vlm4rec_search.datasets.importers.write import ImportSummary, Table, check_folders, connect, write_tables


def import_generic(
    source: Path, to: Path, items: str | None, interactions: str | None, maps: Iterable[str] = (), images: bool = True
) -> ImportSummary:
    """Write `items.parquet` and `interactions.parquet` of the raw contract into `to`, and bring the photos.

    Args:
        source: folder of the exports.
        to: data folder; made when absent. Tables of an earlier import are replaced.
        items: file of the catalogue, relative to `source`; None to leave items alone.
        interactions: file of the log, likewise.
        maps: pairs such as `items.item_id=id`.
        images: whether to bring the photos named in the column `image`.

    Raises:
        UsageError: a file is missing or unreadable, a column is missing, a mapping is malformed, or `to` holds the
            same table in another format.
    """
    mapping = parse_mapping(maps)
    files = {table: source / name for table, name in (("items", items), ("interactions", interactions)) if name}
    check_folders(source, to, set(files))
    if not files:
        raise UsageError("nothing to import: give --items, --interactions or both")
    if idle := sorted({table for table, names in mapping.items() if names} - set(files)):
        raise UsageError(f"--map names {idle[0]}, but --{idle[0]} is not given")
    for path in files.values():
        if not path.is_file():
            raise UsageError(f"there is no file {path}")
        check_whole(path)
    with closing(connect()) as connection:
        tables = {
            table: Table(mapped(open_table(connection, path), table, mapping[table], path), path)
            for table, path in files.items()
        }
        return write_tables(connection, tables, source, to, images)
