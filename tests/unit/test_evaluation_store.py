"""The results file: what analysts find in it, and files of an older version."""

import re
from pathlib import Path

import duckdb
import pytest
from helpers.interaction_logs import DAY, START, planted
from helpers.workspace import ROOT

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.vectors import Ints, Scores
from vlm4rec_search.evaluation.data import Split, Targets
from vlm4rec_search.evaluation.results import summarise
from vlm4rec_search.evaluation.run import Evaluation, evaluate
from vlm4rec_search.evaluation.splits import Part, Parts
from vlm4rec_search.evaluation.store import Provenance, save
from vlm4rec_search.evaluation.systems.base import UpperBound
from vlm4rec_search.evaluation.systems.behaviour import CoPurchase, Popularity

MADE_WITH = Provenance("tiny@1", "product@1", "hashing-64@1", "caption_title", "default-2", "0123456789ab", 4)
STANDARD = {"VALUE", "RANK", "SYSTEM", "ON", "BY", "LOW", "HIGH", "A", "P", "SLICE", "USERS", "ITEMS"}
OLD = """
CREATE TABLE runs (run VARCHAR PRIMARY KEY, protocol JSON);
CREATE TABLE metrics (
    run VARCHAR, system VARCHAR, setting VARCHAR, "on" VARCHAR, slice VARCHAR, metric VARCHAR,
    value DOUBLE, low DOUBLE, high DOUBLE, users BIGINT, items BIGINT, seeds INT, spread DOUBLE);
CREATE TABLE differences (
    run VARCHAR, metric VARCHAR, a VARCHAR, b VARCHAR, difference DOUBLE, low DOUBLE, high DOUBLE, p DOUBLE,
    corrected DOUBLE);
CREATE TABLE user_metrics (
    run VARCHAR, system VARCHAR, "on" VARCHAR, user_id VARCHAR, metric VARCHAR, value DOUBLE);
CREATE TABLE rankings (
    run VARCHAR, system VARCHAR, user_id VARCHAR, rank INT, item_id VARCHAR, relevant BOOLEAN);
INSERT INTO runs VALUES ('2024', '{}');
INSERT INTO metrics VALUES ('2024', 'bm25', '', 'all candidates', '', 'R@10', 0.25, 0.2, 0.3, 9, 90, 1, NULL);
"""


class Knows(UpperBound):
    """Ranks what has to be found."""

    name = "knows"

    def fit(self, split: Split, validation: Targets | None = None) -> None:
        """Learn nothing."""

    def reveal(self, targets: Targets) -> None:
        self.targets = targets

    def scores(self, users: Ints) -> Scores:
        return self.targets.relevant[: len(users)].toarray().astype("float32")


def evaluated() -> Evaluation:
    log = planted()
    split = log.split(START + 70 * DAY)
    return evaluate(Parts(None, Part(split, log.targets(split))), [CoPurchase(), Popularity(), Knows()])


def test_no_column_is_a_word_of_sql_and_runs_say_what_they_were_made_with(tmp_path: Path) -> None:
    evaluation = evaluated()
    path = tmp_path / "results.duckdb"
    run = save(summarise(evaluation, {"rule": "time"}, 7), evaluation, path, MADE_WITH)
    with duckdb.connect(str(path), read_only=True) as connection:
        columns = {
            name
            for (name,) in connection.execute("SELECT column_name FROM duckdb_columns() WHERE NOT internal").fetchall()
        }
        words = {word for (word,) in connection.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()}
        runs = connection.execute("SELECT run, ranking, ranking_hash, text_recipe, release_schema FROM runs").fetchall()
        rows = connection.execute("""
            SELECT system_name, measured FROM metrics
            WHERE metric = 'nDCG@10' AND subset = '' AND NOT is_bound ORDER BY measured DESC
        """).fetchall()
        pairs = connection.execute("SELECT DISTINCT first_system, second_system FROM differences").fetchall()
    assert columns & words == set()
    assert {column.upper() for column in columns} & STANDARD == set()
    assert runs == [(run, "default-2", "0123456789ab", "caption_title", 4)]
    assert [system for system, _ in rows] == ["co-purchase", "popularity"]
    assert pairs == [("co-purchase", "popularity")], "an upper bound is no system to compare with"


def test_the_query_of_the_docs_runs(tmp_path: Path) -> None:
    (query,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "evaluation.md").read_text("utf-8"), flags=re.DOTALL)
    evaluation = evaluated()
    save(summarise(evaluation, {}, 7), evaluation, tmp_path / "results.duckdb", MADE_WITH)
    with duckdb.connect(str(tmp_path / "results.duckdb"), read_only=True) as connection:
        rows = connection.execute(query).fetchall()
    assert [(ranking, system) for ranking, system, *_ in rows] == [
        ("default-2", "co-purchase"),
        ("default-2", "popularity"),
    ]


def test_a_results_file_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    evaluation = evaluated()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RunError, match=r"cannot write .* \((Not a directory|File exists)\): .* set VLM4REC_RESULTS"):
        save(summarise(evaluation, {}, 7), evaluation, tmp_path / "file" / "results.duckdb")


def test_a_file_of_an_older_version_keeps_its_runs(tmp_path: Path) -> None:
    path = tmp_path / "results.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(OLD)
    evaluation = evaluated()
    results = summarise(evaluation, {}, 7)
    save(results, evaluation, path)
    save(results, evaluation, path, MADE_WITH)
    with duckdb.connect(str(path), read_only=True) as connection:
        old = connection.execute(
            "SELECT system_name, measured, interval_low, user_count FROM metrics WHERE run = '2024'"
        )
        assert old.fetchall() == [("bm25", 0.25, 0.2, 9)]
        encoders = connection.execute("SELECT encoder FROM runs ORDER BY run").fetchall()
    assert encoders == [(None,), (None,), ("hashing-64@1",)]
