"""What every backend publishes: the tables of the search layer, judged row by row, in one DuckDB connection."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, fields, replace

import duckdb
import pandas as pd
import pyarrow as pa

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.progress import Advance
from vlm4rec_search.indexes import tables
from vlm4rec_search.indexes.checks import verify_rows
from vlm4rec_search.indexes.release import ReleaseMeta
from vlm4rec_search.indexes.search_layer import Frame, SearchTables
from vlm4rec_search.profiles import term_weights
from vlm4rec_search.search.retrievers import MAX_ITEMS, MAX_TERMS

STEPS = 5  # of `stage`, for progress


def stage(
    connection: duckdb.DuckDBPyConnection, given: SearchTables[Frame], meta: ReleaseMeta, advance: Advance
) -> ReleaseMeta:
    """Fill the tables of a release, in `STEPS` steps, and return the metadata with the counts.

    Documents and users that cannot be searched (no or a repeated id, another encoder, a vector that is missing, of
    another dimension, not finite or not of length 1) go to the table `rejected`, with the reason.

    Raises:
        UsageError: a column is missing.
        RunError: nothing is left to publish, or rows got lost.
    """
    _register(connection, given)
    connection.execute(tables.CREATE)
    connection.execute(tables.JUDGE_DOCUMENTS, {"dimension": meta.dimension, "encoder": meta.encoder})
    connection.execute(tables.JUDGE_USERS, {"dimension": meta.dimension})
    connection.execute(tables.FILL_DOCUMENTS)
    _refuse_nothing(connection)
    advance(1)
    connection.execute(tables.FILL_FACETS)
    advance(1)
    connection.execute(tables.FILL_BEHAVIOUR, {"listed": MAX_ITEMS})
    advance(1)
    _fill_words(connection)
    advance(1)
    connection.execute(tables.FILL_USERS)
    verify_rows(connection)
    meta = replace(meta, documents=count(connection, "documents"), users=count(connection, "users"))
    connection.execute("INSERT INTO release VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", astuple(meta))
    advance(1)
    return meta


def count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    """Return the number of rows of a table."""
    return len(connection.table(table))


@contextmanager
def one_line() -> Iterator[None]:
    """Turn DuckDB's errors into one line.

    Raises:
        RunError: in the place of an error of DuckDB.
    """
    try:
        yield
    except duckdb.Error as error:
        raise RunError(f"the release was not published: {str(error).splitlines()[0]}") from error


def _register(connection: duckdb.DuckDBPyConnection, given: SearchTables[Frame]) -> None:
    for name in (field.name for field in fields(given)):
        frame: Frame = getattr(given, name)
        columns = list(frame.column_names if isinstance(frame, pa.Table) else frame.columns)
        missing = [column for column in tables.REQUIRED[name] if column not in columns]
        if missing:
            raise UsageError(f"search {name} have no column {', '.join(missing)}: run `sqlmesh plan` and try again")
        rows = frame.to_arrow_table() if isinstance(frame, duckdb.DuckDBPyRelation) else frame
        connection.register(f"incoming_{name}", rows)


def _refuse_nothing(connection: duckdb.DuckDBPyConnection) -> None:
    if count(connection, "documents"):
        return
    row = connection.execute("SELECT reason, count(*) FROM rejected GROUP BY reason ORDER BY 2 DESC").fetchone()
    why = f"all documents were rejected, {row[1]} of them for: {row[0]}" if row else "there are no documents"
    raise RunError(f"the release was not published: {why}")


def _fill_words(connection: duckdb.DuckDBPyConnection) -> None:
    """Give every item the words that tell it from the catalogue: those of a shopper who knows nothing else."""
    texts = connection.execute("SELECT item_id, title, description, caption FROM documents ORDER BY document").df()
    alone = pd.DataFrame({"user_id": texts["item_id"], "item_id": texts["item_id"], "weight": 1.0})
    connection.register("incoming_words", term_weights(alone, texts, MAX_TERMS))
    connection.execute(tables.FILL_WORDS)
