"""Builds a release file from what the warehouse hands over, verifies it and lets the pointer name it."""

import time
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from vlm4rec_search.common.bm25 import BOOSTS, bm25, count_terms
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.progress import Advance, bar
from vlm4rec_search.indexes import tables
from vlm4rec_search.indexes.embedded.pointer import current_release, publishing
from vlm4rec_search.indexes.embedded.verify import sample_scans, verify_file
from vlm4rec_search.indexes.release import ReleaseMeta, ReleaseSummary
from vlm4rec_search.indexes.staging import STEPS, Frame, SearchTables, count, one_line, stage


def build_release(folder: Path, given: SearchTables[Frame], meta: ReleaseMeta) -> ReleaseSummary:
    """Build, verify and publish a release; until it is verified, and if anything fails, the last one answers.

    What cannot be searched is kept in the release's table `rejected`, see `staging.stage`.

    Args:
        folder: of the embedded index.
        given: the search layer.
        meta: from `new_release`; its encoder and dimension are what documents have to have.

    Raises:
        UsageError: a column is missing.
        RunError: nothing is left to publish, verification fails, another build is running, or the disk does not take
            the file.
    """
    started = time.perf_counter()
    steps = STEPS + len(BOOSTS) + 1
    with publishing(folder, meta.name) as path, one_line(), bar("building the release", steps) as advance:
        connection = duckdb.connect(str(path))
        try:
            meta = stage(connection, given, meta, advance)
            _fill_postings(connection, advance)
            scans = sample_scans(connection, meta.dimension)
            summary = _summary(connection, folder, meta)
            connection.execute("CHECKPOINT")
        finally:
            connection.close()
        verify_file(path, scans)
        advance(1)
    return replace(summary, seconds=round(time.perf_counter() - started, 2))


def _fill_postings(connection: duckdb.DuckDBPyConnection, advance: Advance) -> None:
    connection.execute(tables.POSTINGS)
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
                return documents, count(connection, "users")
    except (UsageError, duckdb.Error):
        pass  # a damaged index is repaired by publishing again: every document counts as added
    return pa.table({"item_id": pa.array([], pa.string()), "content_hash": pa.array([], pa.string())}), 0
