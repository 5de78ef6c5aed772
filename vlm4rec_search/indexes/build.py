"""Builds a release file from what the warehouse hands over, verifies it and lets the pointer name it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from pathlib import Path
from typing import TypeAlias

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from vlm4rec_search.bm25 import BOOSTS, bm25, count_terms
from vlm4rec_search.errors import RunError, UsageError
from vlm4rec_search.indexes import tables
from vlm4rec_search.indexes.meta import ReleaseMeta, ReleaseSummary
from vlm4rec_search.indexes.verify import sample_scans, verify_file, verify_rows
from vlm4rec_search.progress import Advance, bar
from vlm4rec_search.releases import current_release, publishing

Frame: TypeAlias = pa.Table | pd.DataFrame | duckdb.DuckDBPyRelation


def build_release(folder: Path, documents: Frame, users: Frame, popularity: Frame, meta: ReleaseMeta) -> ReleaseSummary:
    """Build, verify and publish a release; until it is verified, and if anything fails, the last one answers.

    Documents and users that cannot be searched (no or a repeated id, another encoder, a vector that is missing, of
    another dimension, not finite or not of length 1) are kept in the release's table `rejected`, with the reason.

    Args:
        folder: of the embedded index.
        documents: columns of search.item_documents.
        users: columns of search.user_documents.
        popularity: item_id, interactions.
        meta: from `new_release`; its encoder and dimension are what documents have to have.

    Raises:
        UsageError: a column is missing.
        RunError: nothing is left to publish, verification fails, another build is running, or the disk does not take
            the file.
    """
    started = time.perf_counter()
    frames = {"documents": documents, "users": users, "popularity": popularity}
    with publishing(folder, meta.name) as path, _one_line(), bar("building the release", len(BOOSTS) + 3) as advance:
        connection = duckdb.connect(str(path))
        try:
            _register(connection, frames)
            meta = _fill(connection, meta, advance)
            scans = sample_scans(connection, meta.dimension)
            summary = _summary(connection, folder, meta)
            connection.execute("CHECKPOINT")
        finally:
            connection.close()
        verify_file(path, scans)
        advance(1)
    return replace(summary, seconds=round(time.perf_counter() - started, 2))


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise RunError(f"the release was not published: {str(error).splitlines()[0]}") from error


def _register(connection: duckdb.DuckDBPyConnection, frames: dict[str, Frame]) -> None:
    for name, frame in frames.items():
        columns = list(frame.column_names if isinstance(frame, pa.Table) else frame.columns)
        missing = [column for column in tables.REQUIRED[name] if column not in columns]
        if missing:
            raise UsageError(f"search {name} have no column {', '.join(missing)}: run `sqlmesh plan` and try again")
        rows = frame.to_arrow_table() if isinstance(frame, duckdb.DuckDBPyRelation) else frame
        connection.register(f"incoming_{name}", rows)


def _fill(connection: duckdb.DuckDBPyConnection, meta: ReleaseMeta, advance: Advance) -> ReleaseMeta:
    """Fill every table and return the metadata with the numbers of documents and users."""
    connection.execute(tables.CREATE)
    connection.execute(tables.JUDGE_DOCUMENTS, {"dimension": meta.dimension, "encoder": meta.encoder})
    connection.execute(tables.JUDGE_USERS, {"dimension": meta.dimension})
    connection.execute(tables.FILL_DOCUMENTS)
    _refuse_nothing(connection)
    connection.execute(tables.FILL_FACETS)
    advance(1)
    connection.execute(tables.FILL_USERS)
    advance(1)
    _fill_postings(connection, advance)
    verify_rows(connection)
    meta = replace(meta, documents=_count(connection, "documents"), users=_count(connection, "users"))
    connection.execute("INSERT INTO release VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", astuple(meta))
    return meta


def _refuse_nothing(connection: duckdb.DuckDBPyConnection) -> None:
    if _count(connection, "documents"):
        return
    row = connection.execute("SELECT reason, count(*) FROM rejected GROUP BY reason ORDER BY 2 DESC").fetchone()
    why = f"all documents were rejected, {row[1]} of them for: {row[0]}" if row else "there are no documents"
    raise RunError(f"the release was not published: {why}")


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    return len(connection.table(table))


def _fill_postings(connection: duckdb.DuckDBPyConnection, advance: Advance) -> None:
    for field in BOOSTS:
        texts = connection.table("documents").order("document").project(f'"{field}"').fetchall()
        terms, _, counts = count_terms(text for (text,) in texts)
        scores = bm25(counts)
        offsets = pa.array(scores.indptr.astype(np.int32))
        columns = {
            "field": pa.array([field] * len(terms), pa.string()),
            "term": pa.array(terms, pa.string()),
            "df": pa.array(np.diff(scores.indptr).astype(np.int32)),
            "documents": pa.ListArray.from_arrays(offsets, pa.array(scores.indices.astype(np.int32))),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(scores.data)),
        }
        connection.register("incoming_postings", pa.table(columns))
        connection.execute("INSERT INTO postings SELECT * FROM incoming_postings")
        connection.unregister("incoming_postings")
        advance(1)


def _summary(connection: duckdb.DuckDBPyConnection, folder: Path, meta: ReleaseMeta) -> ReleaseSummary:
    """Compare what was built with the release that answers so far."""
    previous, users_before = _previous(folder)
    connection.register("previous", previous)
    added, changed, deleted, documents, users = connection.execute("""
        SELECT count(*) FILTER (old.item_id IS NULL),
            count(*) FILTER (old.content_hash IS DISTINCT FROM new.content_hash AND old.item_id = new.item_id),
            count(*) FILTER (new.item_id IS NULL),
            (SELECT count(*) FROM rejected WHERE kind = 'document'), (SELECT count(*) FROM rejected WHERE kind = 'user')
        FROM documents AS new FULL JOIN previous AS old ON old.item_id = new.item_id
    """).fetchall()[0]
    changes = {"added": added, "changed": changed, "deleted": deleted, "rejected": documents, "rejected_users": users}
    return ReleaseSummary(meta.name, meta.documents, users=meta.users, users_before=users_before, **changes)


def _previous(folder: Path) -> tuple[pa.Table, int]:
    """Return item_id and content_hash of the current release, and its number of users; nothing where there is none."""
    try:
        path = current_release(folder)
        if path is not None:
            with duckdb.connect(str(path), read_only=True) as connection:
                documents = connection.execute("SELECT item_id, content_hash FROM documents").to_arrow_table()
                return documents, _count(connection, "users")
    except (UsageError, duckdb.Error):
        pass  # a damaged index is repaired by publishing again: every document counts as added
    return pa.table({"item_id": pa.array([], pa.string()), "content_hash": pa.array([], pa.string())}), 0
