"""Records every publication for analysts in a DuckDB file of its own.

The tables are `releases`, `loads` and `dead_letters` (refused documents); the schema `shown` has what each release
would show to a sample of shoppers.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from vlm4rec_search.common.errors import RunError, Vlm4recError, first_line
from vlm4rec_search.common.records import Rows, append_rows, when_free
from vlm4rec_search.indexes.release import REFUSED, Publication, PublicationError
from vlm4rec_search.search.release import ReleaseMeta

_SETTING = "VLM4REC_RELEASES"
CREATE = """
CREATE TABLE IF NOT EXISTS releases (
    release VARCHAR, url VARCHAR, recorded_at TIMESTAMP, mode VARCHAR, outcome VARCHAR, encoder VARCHAR,
    dimension INTEGER, captioner VARCHAR, prompt VARCHAR, as_of TIMESTAMP, checks VARCHAR, package VARCHAR,
    analyzer VARCHAR, schema_version INTEGER, documents BIGINT, users BIGINT, users_before BIGINT,
    added BIGINT, changed BIGINT, deleted BIGINT, rejected BIGINT, rejected_users BIGINT, seconds DOUBLE,
    table_version VARCHAR);
ALTER TABLE releases ADD COLUMN IF NOT EXISTS ranking VARCHAR;  -- files of 0.1 lack this and the next columns
ALTER TABLE releases ADD COLUMN IF NOT EXISTS chosen VARCHAR;
ALTER TABLE releases ADD COLUMN IF NOT EXISTS fitted VARCHAR;
ALTER TABLE releases ADD COLUMN IF NOT EXISTS fitted_dimension INTEGER;
ALTER TABLE releases ADD COLUMN IF NOT EXISTS chosen_from VARCHAR;
ALTER TABLE releases ADD COLUMN IF NOT EXISTS image_encoder VARCHAR;
ALTER TABLE releases ADD COLUMN IF NOT EXISTS image_dimension INTEGER;
ALTER TABLE releases ADD COLUMN IF NOT EXISTS popularity_days DOUBLE;
ALTER TABLE releases ADD COLUMN IF NOT EXISTS events_until TIMESTAMP;
CREATE TABLE IF NOT EXISTS loads (
    release VARCHAR, index VARCHAR, indexed BIGINT, deleted BIGINT, rejected BIGINT, requests BIGINT, repeated BIGINT,
    seconds DOUBLE);
CREATE TABLE IF NOT EXISTS dead_letters (
    release VARCHAR, kind VARCHAR, id VARCHAR, title VARCHAR, reason VARCHAR);
CREATE SCHEMA IF NOT EXISTS shown;
CREATE TABLE IF NOT EXISTS shown.shoppers (release VARCHAR, user_id VARCHAR, tier VARCHAR, vector FLOAT[]);
CREATE TABLE IF NOT EXISTS shown.top_lists (
    release VARCHAR, user_id VARCHAR, tier VARCHAR, rank INTEGER, item_id VARCHAR, title VARCHAR, score DOUBLE);
CREATE TABLE IF NOT EXISTS shown.popular_items (
    release VARCHAR, rank INTEGER, item_id VARCHAR, title VARCHAR, popularity DOUBLE);
CREATE OR REPLACE VIEW shown.top_items AS
    SELECT
        release, tier, item_id, ANY_VALUE(title) AS title, COUNT(*) AS shoppers,
        COUNT(*) FILTER (rank = 1) AS first_hits, MIN(rank) AS best_rank
    FROM shown.top_lists
    GROUP BY release, tier, item_id;
"""


def record_publication(path: Path, url: str, publication: Publication) -> None:
    """Add a successful publication to the file.

    Args:
        path: the DuckDB file, created where it is missing.
        url: of the index, without credentials.
        publication: its metadata, mode, counts and refused documents.

    Raises:
        RunError: the file cannot be written.
    """
    release = publication.meta.name
    summary = {**asdict(publication.summary), "mode": publication.mode, "outcome": "published"}
    loads = [{"release": release, **asdict(load)} for load in publication.loads]
    dead_letters = _add_release(publication.refused, release)
    row = _release_row(url, publication.meta) | summary
    append_rows(path, CREATE, {"releases": [row], "loads": loads, "dead_letters": dead_letters}, _SETTING)


def record_failure(path: Path, url: str, mode: str, meta: ReleaseMeta, reason: str | Vlm4recError) -> None:
    """Add a failed publication to the file: the reason as its outcome, and the documents refused before the failure.

    Raises:
        RunError: the file cannot be written.
    """
    refused = reason.refused if isinstance(reason, PublicationError) else REFUSED.empty_table()
    row = _release_row(url, meta) | {"mode": mode, "outcome": str(reason)}
    append_rows(path, CREATE, {"releases": [row], "dead_letters": _add_release(refused, meta.name)}, _SETTING)


def read_refused(path: Path, release: str) -> pa.Table:
    """Return kind (document, user or segment) and id of what the publication of a release refused.

    Empty without a file, such as on another machine than that which published.

    Raises:
        RunError: the file cannot be read.
    """
    if not path.is_file():
        return REFUSED.empty_table().select(["kind", "id"])
    try:
        with when_free(lambda: duckdb.connect(str(path), read_only=True)) as connection:
            rows = connection.execute("SELECT kind, id FROM dead_letters WHERE release = ?", [release])
            return rows.to_arrow_table()
    except duckdb.Error as error:
        raise RunError(f"cannot read {path}: {first_line(error)}") from None


def record_shown(path: Path, release: str, shown: Mapping[str, pa.Table]) -> None:
    """Add what a release would show to a sample of shoppers, see `shown.observe_release`.

    Args:
        path: the DuckDB file.
        release: its name.
        shown: rows by table of the schema `shown`.

    Raises:
        RunError: the file cannot be written.
    """
    tables: dict[str, Rows] = {f"shown.{name}": _add_release(rows, release) for name, rows in shown.items()}
    append_rows(path, CREATE, tables, _SETTING)


def _add_release(refused: pa.Table, release: str) -> pa.Table:
    return refused.append_column("release", pa.array([release] * len(refused), pa.string()))


def _release_row(url: str, meta: ReleaseMeta) -> dict[str, object]:
    values = asdict(meta)
    del values["created_at"], values["name"]
    return {"release": meta.name, "url": url, "recorded_at": datetime.now(UTC).replace(tzinfo=None), **values}
