"""The rows of a Parquet file, as an import writes them."""

from pathlib import Path

import duckdb


def read_rows(path: Path) -> list[dict[str, object]]:
    """Return the rows in the order of the file."""
    relation = duckdb.read_parquet(str(path), hive_partitioning=False)
    return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]
