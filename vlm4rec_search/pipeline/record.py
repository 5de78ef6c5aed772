"""What every publication did, for analysts: releases, loads and refused documents, in a DuckDB file of their own."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from vlm4rec_search.common.errors import RunError, Vlm4recError
from vlm4rec_search.indexes.release import Publication, ReleaseMeta, refused_rows

PATIENCE = 30.0  # seconds for which another process may have the file
_CREATE = """
CREATE TABLE IF NOT EXISTS releases (
    release VARCHAR, url VARCHAR, recorded_at TIMESTAMP, mode VARCHAR, outcome VARCHAR, encoder VARCHAR,
    dimension INTEGER, captioner VARCHAR, prompt VARCHAR, as_of TIMESTAMP, checks VARCHAR, package VARCHAR,
    analyzer VARCHAR, schema_version INTEGER, documents BIGINT, users BIGINT, users_before BIGINT,
    added BIGINT, changed BIGINT, deleted BIGINT, rejected BIGINT, rejected_users BIGINT, seconds DOUBLE);
ALTER TABLE releases ADD COLUMN IF NOT EXISTS table_version VARCHAR;  -- a file of last month has none
CREATE TABLE IF NOT EXISTS loads (
    release VARCHAR, index VARCHAR, indexed BIGINT, deleted BIGINT, rejected BIGINT, requests BIGINT, repeated BIGINT,
    seconds DOUBLE);
CREATE TABLE IF NOT EXISTS dead_letters (
    release VARCHAR, kind VARCHAR, id VARCHAR, title VARCHAR, reason VARCHAR);
"""


def record(path: Path, url: str, mode: str, publication: Publication) -> None:
    """Add a publication to the file.

    Args:
        path: the DuckDB file, made where it is missing.
        url: where the release is, without credentials.
        mode: full or incremental.
        publication: what it did.

    Raises:
        RunError: the file cannot be written.
    """
    release = publication.meta.name
    summary = {**asdict(publication.summary), "mode": mode, "outcome": "published"}
    loads = [{"release": release, **asdict(load)} for load in publication.loads]
    refused = _letters(publication.refused, release)
    _insert(path, {"releases": [_release(url, publication.meta) | summary], "loads": loads, "dead_letters": refused})


def record_failure(path: Path, url: str, mode: str, meta: ReleaseMeta, reason: str | Vlm4recError) -> None:
    """Add a publication that failed, with the reason as its outcome, and what its error says was refused before.

    Raises:
        RunError: the file cannot be written.
    """
    refused = _letters(refused_rows(reason), meta.name)
    row = _release(url, meta) | {"mode": mode, "outcome": str(reason)}
    _insert(path, {"releases": [row], "dead_letters": refused})


def _letters(refused: pa.Table, release: str) -> pa.Table:
    return refused.append_column("release", pa.array([release] * len(refused), pa.string()))


def _release(url: str, meta: ReleaseMeta) -> dict[str, object]:
    values = asdict(meta)
    del values["created_at"], values["name"]
    return {"release": meta.name, "url": url, "recorded_at": datetime.now(UTC).replace(tzinfo=None), **values}


def _insert(path: Path, tables: dict[str, list[dict[str, object]] | pa.Table]) -> None:
    retry = retry_if_exception_type(duckdb.IOException)  # another process has it open for a moment
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Retrying(retry=retry, stop=stop_after_delay(PATIENCE), wait=wait_random(0.1, 0.5), reraise=True)(
            _add, path, tables
        )
    except duckdb.Error as error:
        detail = str(error).splitlines()[0]
        raise RunError(f"cannot write {path} ({detail}): close it elsewhere, or set VLM4REC_RELEASES") from None


def _add(path: Path, tables: dict[str, list[dict[str, object]] | pa.Table]) -> None:
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
