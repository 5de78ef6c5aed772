"""Rows of the data folder: refused rows are kept with a reason, and all formats give the same tables."""

import json
from collections import Counter
from pathlib import Path

import duckdb
import pytest
from helpers.planned_shop import copy_shop
from helpers.staged import stage
from helpers.workspace import ROOT, Workspace

from vlm4rec_search.datasets.demo_shop.build import build_shop

# The reason in staging for each kind of wrong row in the built-in shop.
ITEM_REASONS = {
    "no id": "no id",
    "duplicate id": "duplicate id",
    "markup in title": "title is markup or page script",
    "page script in title": "title is markup or page script",
    "script tag in title": "title is markup or page script",
    "no title": "no title",
}
INTERACTION_REASONS = {
    "no user": "no user id",
    "no item": "no item id",
    "unparsable time": "time cannot be parsed",
    "future time": "time is in the future",
    "unknown item": "unknown item",
}


def test_wrong_rows_and_bad_photos_are_kept_with_their_reasons(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy_shop(tmp_path_factory, workspace, is_dirty=True)
    planted = json.loads((workspace.data / "SHOP.json").read_text())
    for table, reasons in (("items", ITEM_REASONS), ("interactions", INTERACTION_REASONS)):
        expected: Counter[str] = Counter()
        for kind, count in planted[f"planted_{table}"].items():
            expected[reasons[kind]] += count
        reasons_found = workspace.query(f"SELECT reason, COUNT(*) FROM staging.rejected_{table} GROUP BY ALL")
        assert dict(reasons_found) == expected
    delivered, accepted, refused = workspace.query("""
        SELECT (SELECT COUNT(*) FROM raw.items), (SELECT COUNT(*) FROM staging.items),
               (SELECT COUNT(*) FROM staging.rejected_items)
    """)[0]
    assert delivered == accepted + refused
    rows = workspace.query("SELECT item_id, status, error FROM captions.item_captions")
    assert {status for _, status, _ in rows} >= {"ok", "no_photo", "missing", "unreadable", "too_large", "wrong_type"}
    assert all(error for _, status, error in rows if status != "ok")
    documents = workspace.query("SELECT COUNT(*) FROM search.item_documents")
    assert documents == [(accepted,)], "an item whose photo is bad still has a document from its title"


# Parquet and JSON lines carry types: numbers, booleans, timestamps.
TYPES = {"items": "{'item_id': 'VARCHAR'}", "interactions": "{'item_id': 'VARCHAR', 'user_id': 'VARCHAR'}"}


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_every_format_of_the_contract_gives_the_same_tables(tmp_path: Path, suffix: str) -> None:
    build_shop(tmp_path / "source", "photo", 20, 10, 0, dirty=False)
    data = tmp_path / "data"
    data.mkdir()
    form = {"csv": "(FORMAT csv, HEADER)", "parquet": "(FORMAT parquet)", "jsonl": "(FORMAT json)"}[suffix]
    with duckdb.connect() as connection:
        for stem, source in (("items", "items.csv"), ("interactions", "interactions.csv.gz")):
            options = f"'{tmp_path}/source/{source}', all_varchar = {suffix == 'csv'}, types = {TYPES[stem]}"
            query = f"SELECT * FROM read_csv({options})"
            connection.execute(f"COPY ({query}) TO '{data}/{stem}.{suffix}' {form}")
        delivered = connection.execute(f"SELECT COUNT(*) FROM '{data}/interactions.{suffix}'").fetchall()
    staged = stage(data, {})
    items = staged.items.values()
    assert [sum(item[name] is not None for item in items) for name in ("item_id", "price", "image")] == [20, 20, 20]
    assert [(len(staged.events),)] == delivered
    assert staged.refused == []
    assert any(json.loads(item["attributes"]).get("brand") for item in items)


def test_records_of_many_kinds_are_rows_or_refused_with_their_lines(workspace: Workspace) -> None:
    days = workspace.data / "interactions"
    days.mkdir(parents=True)
    items = "item_id;title;Price;Event\n#1;Oak chair;10;x\n2;Lamp;5;y;z\n;Mug;5;\n3;Pen;;\n"
    (workspace.data / "items.csv").write_text(items)
    (days / "1.jsonl").write_text('{"user_id": "u", "item_id": "#1", "Date": "2025-03-01"}\n{oops\n')
    (days / "2.tsv").write_text("user_id\titem_id\tDate\nu\t9\t2025-03-02\nv\t3\t2025-03-02\n")
    (workspace.data / "contract.yaml").write_text("interactions: {map: {timestamp: Date}}\n")
    process = workspace.start("sqlmesh", "-p", str(ROOT), "plan", "--auto-apply", "--no-prompts", "--skip-tests")
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0
    kept = "has the line, the reason and the text of each"
    assert told.splitlines()[:3] == [
        "items.csv: the column 'Price' is read as price",
        f"items.csv: 1 of 4 records cannot be read; staging.rejected_items {kept}",
        f"interactions/1.jsonl: 1 of 2 records cannot be read; staging.rejected_interactions {kept}",
    ]
    assert workspace.query("SELECT item_id, price FROM staging.items ORDER BY ALL") == [("#1", 10.0), ("3", None)]
    refused = "SELECT file, line, reason FROM staging.rejected_items ORDER BY line"
    assert workspace.query(refused) == [
        ("items.csv", 3, "cannot be read: 5 values, the header has 4"),
        ("items.csv", 4, "no id"),
    ]
    rows = "SELECT row_number, file, line, user_id FROM raw.interactions ORDER BY row_number"
    assert workspace.query(rows) == [
        (1, "interactions/1.jsonl", 1, "u"), (2, "interactions/2.tsv", 2, "u"), (3, "interactions/2.tsv", 3, "v"),
    ]  # fmt: skip
    refused = "SELECT file, line, SPLIT_PART(reason, ':', 1), record FROM staging.rejected_interactions ORDER BY ALL"
    assert [row[:3] for row in workspace.query(refused)] == [
        ("interactions/1.jsonl", 2, "cannot be read"),
        ("interactions/2.tsv", 2, "unknown item"),
    ]
    assert "warning files" in workspace.vlm4rec("check", "--suite", "files")
    (workspace.data / "contract.yaml").write_text("interactions: {map: {timestamp: Date}, set: {event_type: buy}}\n")
    workspace.plan()
    assert workspace.query("SELECT DISTINCT event_type FROM staging.interactions") == [("purchase",)]
