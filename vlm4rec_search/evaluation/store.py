"""The results file: every run, for analysts, in a DuckDB file apart from the warehouse."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.evaluation.results import METRICS, Results
from vlm4rec_search.evaluation.run import Comparison, Evaluation

LISTED = 10
_CREATE = """
CREATE TABLE IF NOT EXISTS runs (run VARCHAR PRIMARY KEY, protocol JSON);
CREATE TABLE IF NOT EXISTS metrics (
    run VARCHAR, system VARCHAR, setting VARCHAR, "on" VARCHAR, slice VARCHAR, metric VARCHAR,
    value DOUBLE, low DOUBLE, high DOUBLE, users BIGINT, items BIGINT);
ALTER TABLE metrics ADD COLUMN IF NOT EXISTS seeds INT;
ALTER TABLE metrics ADD COLUMN IF NOT EXISTS spread DOUBLE;
CREATE TABLE IF NOT EXISTS differences (
    run VARCHAR, metric VARCHAR, a VARCHAR, b VARCHAR, difference DOUBLE, low DOUBLE, high DOUBLE, p DOUBLE,
    corrected DOUBLE);
CREATE TABLE IF NOT EXISTS user_metrics (
    run VARCHAR, system VARCHAR, "on" VARCHAR, user_id VARCHAR, metric VARCHAR, value DOUBLE);
CREATE TABLE IF NOT EXISTS rankings (
    run VARCHAR, system VARCHAR, user_id VARCHAR, rank INT, item_id VARCHAR, relevant BOOLEAN);
"""


def save(results: Results, evaluation: Evaluation, path: Path) -> str:
    """Add a run to the results file and return its name.

    Tables: runs; metrics (means with intervals, slices too); differences (pairs of systems); user_metrics (one row for
    each system, user and metric); rankings (the first ten items of each list).

    Raises:
        RunError: the file cannot be written.
    """
    run = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(str(path)) as connection:
            connection.execute(_CREATE)
            connection.execute("BEGIN")
            connection.execute("INSERT INTO runs VALUES (?, ?)", [run, json.dumps(results.protocol)])
            for table, frame in _frames(results, evaluation):
                connection.register("incoming", frame.assign(run=run))
                connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")  # noqa: S608  our own names
            connection.execute("COMMIT")
    except duckdb.Error as error:
        detail = str(error).splitlines()[0]
        raise RunError(f"cannot write {path} ({detail}): close it elsewhere, or set VLM4REC_RESULTS") from None
    return run


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
        relevant = np.asarray(targets.relevant[row, items]).ravel() > 0
        columns = {"user_id": split.user_ids[targets.users[row]], "rank": place + 1, "relevant": relevant}
        yield pd.DataFrame({**columns, "item_id": split.catalogue.item_ids[items]}).assign(system=outcome.system)
