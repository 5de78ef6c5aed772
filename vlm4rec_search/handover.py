"""From the warehouse's search layer to a published release: check the tables, read them, build, switch."""

import sys
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from vlm4rec_search.errors import RunError, UsageError
from vlm4rec_search.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from vlm4rec_search.indexes.meta import ReleaseSummary
    from vlm4rec_search.quality import QualityReport

DOCUMENTS = "SELECT * FROM search.item_documents ORDER BY item_id"
USERS = "SELECT * FROM search.user_documents ORDER BY user_id"
POPULARITY = "SELECT item_id, interactions FROM search.item_popularity ORDER BY rank"
MADE_BY = """
    SELECT
      ANY_VALUE(documents.encoder), ANY_VALUE(LEN(documents.vector)), ANY_VALUE(documents.captioner),
      (SELECT ANY_VALUE(prompt) FROM captions.item_captions), (SELECT ANY_VALUE(as_of) FROM histories.as_of)
    FROM search.item_documents AS documents
"""


@dataclass(frozen=True)
class SearchTables:
    """What the warehouse hands over, read at one moment: the three tables, and what made them."""

    documents: "pa.Table"
    users: "pa.Table"
    popularity: "pa.Table"
    encoder: str
    dimension: int
    captioner: str
    prompt: str
    as_of: datetime | None


def publish_index(settings: Settings, environment: str = "prod", force: bool = False) -> "ReleaseSummary":
    """Check the tables, build a release of them, verify it and let it answer.

    What is published is what was checked: both are read in one short connection.

    Raises:
        UsageError: no warehouse or tables; or an index URL that is no folder.
        RunError: another process is writing the warehouse; an expectation suite failed (unless `force`, which the
            release records); or the build did.
    """
    from vlm4rec_search.indexes import index_folder
    from vlm4rec_search.indexes.build import build_release
    from vlm4rec_search.indexes.meta import new_release
    from vlm4rec_search.quality import judge, measure_suites
    from vlm4rec_search.warehouse import read

    folder = index_folder(settings.index_url)
    with read(settings.warehouse) as connection:
        measured = measure_suites(connection, settings.project / "expectations", environment)
        tables = read_tables(connection, environment)
    checks = _verdict(judge(measured, {"max_age_days": settings.max_age_days}), force)
    meta = new_release(tables.encoder, tables.dimension, tables.captioner, tables.prompt, tables.as_of, checks)
    return build_release(folder, tables.documents, tables.users, tables.popularity, meta)


def read_tables(connection: "DuckDBPyConnection", environment: str = "prod") -> SearchTables:
    """Read the search layer of an environment.

    Raises:
        UsageError: there are no documents.
    """
    from vlm4rec_search.warehouse import in_environment

    made_by = connection.execute(in_environment(MADE_BY, environment)).fetchone()
    if made_by is None or made_by[0] is None:
        raise UsageError("search.item_documents is empty: look at staging.rejected_items, then run `sqlmesh plan`")
    documents, users, popularity = (
        connection.execute(in_environment(query, environment)).to_arrow_table()
        for query in (DOCUMENTS, USERS, POPULARITY)
    )
    return SearchTables(documents, users, popularity, *made_by)


def _verdict(report: "QualityReport", force: bool) -> str:
    if warnings := sum(len(suite.warnings) for suite in report.suites):
        print(f"{warnings} warnings: `vlm4rec check` says of what", file=sys.stderr)
    failed = ", ".join(suite.suite for suite in report.suites if not suite.success)
    if failed and not force:
        raise RunError(
            f"not published: the suites {failed} failed; `vlm4rec check` says why, --force publishes anyway and"
            " records it"
        )
    return f"forced: {failed}" if failed else "passed"
