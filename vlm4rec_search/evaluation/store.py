"""The results file: every run, for analysts, in a DuckDB file apart from the warehouse."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from vlm4rec_search.common.records import Rows, append_rows
from vlm4rec_search.evaluation.data import are_set
from vlm4rec_search.evaluation.results import METRICS, Results
from vlm4rec_search.evaluation.run import Comparison, Evaluation

LISTED = 10
# The names of the code, where they are words of SQL or too short for a column. Files of 0.1 have them as columns.
_COLUMNS = {
    "system": "system_name", "on": "candidates", "slice": "subset", "value": "measured", "rank": "place",
    "low": "interval_low", "high": "interval_high", "users": "user_count", "items": "item_count",
    "a": "first_system", "b": "second_system", "p": "p_value", "corrected": "p_corrected",
}  # fmt: skip
_OLD = """
SELECT table_name, column_name FROM duckdb_columns()
WHERE database_name = current_database() AND schema_name = current_schema()
    AND table_name IN ('metrics', 'differences', 'user_metrics', 'rankings') AND column_name IN (SELECT unnest(?))
"""
_CREATE = """
CREATE TABLE IF NOT EXISTS runs (run VARCHAR PRIMARY KEY, protocol JSON);
ALTER TABLE runs ADD COLUMN IF NOT EXISTS captioner VARCHAR;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS prompt VARCHAR;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS encoder VARCHAR;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS text_recipe VARCHAR;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS ranking VARCHAR;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS ranking_hash VARCHAR;
ALTER TABLE runs ADD COLUMN IF NOT EXISTS release_schema INT;
CREATE TABLE IF NOT EXISTS metrics (
    run VARCHAR, system_name VARCHAR, setting VARCHAR, candidates VARCHAR, subset VARCHAR, metric VARCHAR,
    measured DOUBLE, interval_low DOUBLE, interval_high DOUBLE, user_count BIGINT, item_count BIGINT,
    seeds INT, spread DOUBLE);
ALTER TABLE metrics ADD COLUMN IF NOT EXISTS is_bound BOOLEAN;
CREATE TABLE IF NOT EXISTS differences (
    run VARCHAR, metric VARCHAR, first_system VARCHAR, second_system VARCHAR, difference DOUBLE, interval_low DOUBLE,
    interval_high DOUBLE, p_value DOUBLE, p_corrected DOUBLE);
CREATE TABLE IF NOT EXISTS user_metrics (
    run VARCHAR, system_name VARCHAR, candidates VARCHAR, user_id VARCHAR, metric VARCHAR, measured DOUBLE);
CREATE TABLE IF NOT EXISTS rankings (
    run VARCHAR, system_name VARCHAR, user_id VARCHAR, place INT, item_id VARCHAR, relevant BOOLEAN);
"""


@dataclass(frozen=True)
class Provenance:
    """What a run was made with.

    Attributes:
        captioner, encoder: ids with their revisions.
        prompt: id of the caption prompt.
        text_recipe: which texts of an item were embedded.
        ranking: version of the ranking configuration.
        ranking_hash: the first 12 hex digits of the sha256 of its values, which tells two files of one version apart.
        release_schema: schema version of releases.
    """

    captioner: str
    prompt: str
    encoder: str
    text_recipe: str
    ranking: str
    ranking_hash: str
    release_schema: int


def save(results: Results, evaluation: Evaluation, path: Path, provenance: Provenance | None = None) -> str:
    """Add a run to the results file and return its name.

    Tables: runs (protocol and provenance); metrics (means with intervals, subsets too); differences (pairs of systems);
    user_metrics (one row for each system, user and metric); rankings (the first ten items of each list). No column is a
    reserved word of SQL; columns of files that an older version wrote are renamed.

    Raises:
        RunError: the file cannot be written.
    """
    run = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    about = {"protocol": json.dumps(results.protocol), **(asdict(provenance) if provenance else {})}

    def tables() -> Iterator[tuple[str, Rows]]:
        for table, frame in chain([("runs", pd.DataFrame([about]))], _frames(results, evaluation)):
            renamed = frame.rename(columns=_COLUMNS).assign(run=run)
            yield table, pa.Table.from_pandas(renamed, preserve_index=False)

    append_rows(path, create_tables, tables, "VLM4REC_RESULTS")
    return run


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the tables where they are missing in the current schema, and bring those of older versions up to date."""
    for table, column in connection.execute(_OLD, [list(_COLUMNS)]).fetchall():
        connection.execute(f'ALTER TABLE {table} RENAME COLUMN "{column}" TO {_COLUMNS[column]}')
    connection.execute(_CREATE)


def _frames(results: Results, evaluation: Evaluation) -> "Iterator[tuple[str, pd.DataFrame]]":
    yield "metrics", pd.DataFrame([asdict(row) for row in (*results.rows, *results.slices)])
    pairs = [{"metric": metric, **asdict(one)} for metric, many in results.differences.items() for one in many]
    if pairs:
        yield "differences", pd.DataFrame(pairs)
    for comparison in evaluation.comparisons:
        for frame in _user_metrics(comparison):
            yield "user_metrics", frame
    for frame in _rankings(evaluation.comparisons[0]):
        yield "rankings", frame


def _user_metrics(comparison: Comparison) -> "Iterator[pd.DataFrame]":
    users = comparison.part.split.user_ids[comparison.part.targets.users]
    for outcome in comparison.outcomes:
        columns = {"user_id": np.repeat(users, len(METRICS)), "metric": np.tile(np.array(METRICS), len(users))}
        frame = pd.DataFrame({**columns, "value": outcome.values.ravel()})
        yield frame.assign(system=outcome.system, on=comparison.on)


def _rankings(comparison: Comparison) -> "Iterator[pd.DataFrame]":
    split, targets = comparison.part.split, comparison.part.targets
    for outcome in comparison.outcomes:
        row, place = np.nonzero(outcome.ranking[:, :LISTED] >= 0)
        items = outcome.ranking[row, place]
        relevant = are_set(targets.relevant, row, items)
        columns = {"user_id": split.user_ids[targets.users[row]], "rank": place + 1, "relevant": relevant}
        yield pd.DataFrame({**columns, "item_id": split.catalogue.item_ids[items]}).assign(system=outcome.system)
