"""Records every publication for analysts in a DuckDB file of its own: releases, loads and refused documents."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from vlm4rec_search.common.errors import RunError, Vlm4recError, first_line
from vlm4rec_search.indexes.release import REFUSED, Publication, PublicationError, ReleaseMeta

PATIENCE = 30.0  # seconds to wait while another process has the file open
_CREATE = """
CREATE TABLE IF NOT EXISTS releases (
    release VARCHAR, url VARCHAR, recorded_at TIMESTAMP, mode VARCHAR, outcome VARCHAR, encoder VARCHAR,
    dimension INTEGER, captioner VARCHAR, prompt VARCHAR, as_of TIMESTAMP, checks VARCHAR, package VARCHAR,
    analyzer VARCHAR, schema_version INTEGER, documents BIGINT, users BIGINT, users_before BIGINT,
    added BIGINT, changed BIGINT, deleted BIGINT, rejected BIGINT, rejected_users BIGINT, seconds DOUBLE);
ALTER TABLE releases ADD COLUMN IF NOT EXISTS table_version VARCHAR;  -- older files lack these three
ALTER TABLE releases ADD COLUMN IF NOT EXISTS ranking VARCHAR;
ALTER TABLE releases ADD COLUMN IF NOT EXISTS chosen VARCHAR;
CREATE TABLE IF NOT EXISTS loads (
    release VARCHAR, index VARCHAR, indexed BIGINT, deleted BIGINT, rejected BIGINT, requests BIGINT, repeated BIGINT,
    seconds DOUBLE);
CREATE TABLE IF NOT EXISTS dead_letters (
    release VARCHAR, kind VARCHAR, id VARCHAR, title VARCHAR, reason VARCHAR);
"""

Rows: TypeAlias = list[dict[str, object]] | pa.Table


def record_publication(path: Path, url: str, mode: str, publication: Publication) -> None:
    """Add a successful publication to the file.

    Args:
        path: the DuckDB file, created where it is missing.
        url: of the index, without credentials.
        mode: full or incremental.
        publication: its metadata, counts and refused documents.

    Raises:
        RunError: the file cannot be written.
    """
    release = publication.meta.name
    summary = {**asdict(publication.summary), "mode": mode, "outcome": "published"}
    loads = [{"release": release, **asdict(load)} for load in publication.loads]
    dead_letters = _add_release(publication.refused, release)
    row = _release_row(url, publication.meta) | summary
    _write(path, {"releases": [row], "loads": loads, "dead_letters": dead_letters})


def record_failure(path: Path, url: str, mode: str, meta: ReleaseMeta, reason: str | Vlm4recError) -> None:
    """Add a failed publication to the file: the reason as its outcome, and the documents refused before the failure.

    Raises:
        RunError: the file cannot be written.
    """
    refused = reason.refused if isinstance(reason, PublicationError) else REFUSED.empty_table()
    row = _release_row(url, meta) | {"mode": mode, "outcome": str(reason)}
    _write(path, {"releases": [row], "dead_letters": _add_release(refused, meta.name)})


def _add_release(refused: pa.Table, release: str) -> pa.Table:
    return refused.append_column("release", pa.array([release] * len(refused), pa.string()))


def _release_row(url: str, meta: ReleaseMeta) -> dict[str, object]:
    values = asdict(meta)
    del values["created_at"], values["name"]
    return {"release": meta.name, "url": url, "recorded_at": datetime.now(UTC).replace(tzinfo=None), **values}


def _write(path: Path, tables: dict[str, Rows]) -> None:
    locked = retry_if_exception_type(duckdb.IOException)  # another process has the file open for a moment
    retrying = Retrying(retry=locked, stop=stop_after_delay(PATIENCE), wait=wait_random(0.1, 0.5), reraise=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        retrying(_insert, path, tables)
    except duckdb.Error as error:
        raise RunError(
            f"cannot write {path} ({first_line(error)}): close it elsewhere, or set VLM4REC_RELEASES"
        ) from None


def _insert(path: Path, tables: dict[str, Rows]) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(_CREATE)
        connection.execute("BEGIN")
        for name, rows in tables.items():
            if len(rows):
                table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
                connection.register("incoming", table)
                connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM incoming")  # noqa: S608  our own names
                connection.unregister("incoming")
        connection.execute("COMMIT")
