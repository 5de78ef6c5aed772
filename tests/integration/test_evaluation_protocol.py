"""The protocol on the product's own tables, by real plans: who takes part, what is seen, and known numbers."""

import csv
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from helpers.caption_server import answer, serving
from helpers.interaction_logs import DAY, START, planted
from helpers.six_items import RANKING
from helpers.workspace import ROOT, Workspace

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.datasets.events.event import parse_event
from vlm4rec_search.datasets.events.log import EventLog
from vlm4rec_search.evaluation.protocol import Protocol
from vlm4rec_search.evaluation.results import summarise
from vlm4rec_search.evaluation.run import evaluate
from vlm4rec_search.evaluation.snapshots import workbench
from vlm4rec_search.evaluation.splits import Part, Parts, build_parts, load_split
from vlm4rec_search.evaluation.store import save
from vlm4rec_search.evaluation.systems.behaviour import CoPurchase, Popularity
from vlm4rec_search.evaluation.systems.content import BM25, OnlyOne
from vlm4rec_search.evaluation.systems.peers import Ease, ItemKNN, UserKNN
from vlm4rec_search.evaluation.systems.product import Product
from vlm4rec_search.indexes.release import SCHEMA_VERSION
from vlm4rec_search.search.query import Mode

ONLINE_RETAIL = ROOT.parent / "shared" / "data" / "online_retail"
SYSTEMS = "popularity,recent-popularity,description-only,product-semantic,product-hybrid,vision-only,oracle-of-legs"
FIRST = [(user, item) for user in range(9) for item in range(4)]


def write(folder: Path) -> None:
    """Write 12 items and a log of one first interaction an hour: 36 early ones, the last four below.

    Two thirds of the items have photos, drawn here.
    """
    from PIL import Image

    folder.mkdir()
    with (folder / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["item_id", "title", "image"])
        for item in range(12):
            rows.writerow(
                [f"i{item:02d}", f"thing number {item} of kind {item % 3}", f"{item}.png" if item % 3 else ""]
            )
            Image.new("RGB", (16, 16), (20 * item, 255 - 20 * item, 90)).save(folder / f"{item}.png")
    # u0 takes something known, u1 something that nobody knew, u9 is new, u2 repeats i00 and takes i05.
    last = [(0, 4), (1, 11), (9, 0), (2, 5)]
    log = [*FIRST[:34], (3, 4), (4, 5), *last]
    with (folder / "interactions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "item_id", "timestamp", "event_type"])
        for hour, (user, item) in enumerate(log):
            when = f"2025-01-{1 + hour // 24:02d} {hour % 24:02d}:00:00"
            rows.writerow([f"u{user}", f"i{item:02d}", when, "purchase"])
        rows.writerow(["u2", "i00", "2025-01-02 15:30:00", "purchase"])
        # What is hidden or was merely shown is nothing to find: u3 and u4 do not take part.
        rows.writerow(["u3", "i05", "2025-01-02 15:40:00", "hide"])
        rows.writerow(["u4", "i04", "2025-01-02 15:50:00", "impression"])
        # Answers leave out what was sent back, too, so that taking it again is nothing to find: nor does u6 take part.
        rows.writerow(["u6", "i00", "2025-01-02 10:45:00", "return"])
        rows.writerow(["u6", "i00", "2025-01-02 15:55:00", "purchase"])


def test_evaluate_on_the_products_own_tables(workspace: Workspace) -> None:
    assert "run `sqlmesh plan` first" in workspace.vlm4rec("evaluate", code=2)
    write(workspace.data)
    (workspace.data / "items.csv").rename(workspace.folder / "delivered.csv")
    (workspace.data / "items.csv").symlink_to("../delivered.csv")
    # Without captions, and with one vector for each profile, the product's semantic search is description-only.
    workspace.settings |= {"VLM4REC_CAPTION_BUDGET": "0", "VLM4REC_RANKING": str(RANKING)}
    workspace.plan()
    before = (workspace.folder / "warehouse.duckdb").read_bytes()

    # 40 first interactions: nine tenths are up to hour 35.1, so what came later is `last`. u1 takes an item that nobody
    # knew, u9 has no history, and a repetition is nothing to find: u0 and u2 take part.
    answer = workspace.json("evaluate", "--systems", SYSTEMS, "--report", "out/page.html")
    protocol = answer["protocol"]
    assert (protocol["rule"], protocol["leaks_in_time"], protocol["as_of"][:16]) == ("time", False, "2025-01-02T11:06")
    assert (protocol["users"], protocol["items"], protocol["skipped"]) == (2, 6, {})
    values = {(row["system"], row["metric"]): row for row in answer["rows"] if row["on"] == "all candidates"}
    assert {"system", "metric", "value", "low", "high", "users", "items"} <= values["popularity", "R@10"].keys()
    # Unseen candidates are i04 and i05 for both, with one user each: i04 comes first.
    assert values["popularity", "R@5"]["value"] == 1
    assert values["popularity", "MRR@5"]["value"] == (1 + 1 / 2) / 2
    # The product's own semantic search is description-only, see above; photos cover four of the six candidates.
    for metric in ("MRR@10", "nDCG@10"):
        assert values["product-semantic", metric]["value"] == values["description-only", metric]["value"]
    assert {row["items"] for row in answer["rows"] if row["on"] == "what vision-only covers"} == {4}

    assert values["oracle-of-legs", "nDCG@10"]["value"] == 1, "six candidates: every retriever finds both"
    assert {one["a"] for one in answer["differences"]} & {"oracle-of-legs"} == set()

    page = (workspace.folder / "out" / "page.html").read_text()
    assert "finds best what users took next" in page
    assert "oracle-of-legs finds best" not in page
    assert "data:image/jpeg;base64," in page
    assert "thing number 4 of kind 1" in page
    assert not any(mark in page for mark in ("<script", "http://", "https://"))
    assert (workspace.folder / "warehouse.duckdb").read_bytes() == before, "the warehouse is only read"
    assert not list((workspace.folder / ".cache" / "vlm4rec").glob("vlm4rec-working-*"))

    with pytest.raises(UsageError, match="--candidates all or --protocol leave-one-out"):
        build_parts(places(workspace), Protocol(history=5), frozenset(), False, lambda step: None)
    with pytest.raises(UsageError, match="evaluate` with --protocol leave-one-out"):
        build_parts(places(workspace), Protocol(history=5, candidates="all"), frozenset(), False, lambda step: None)

    # Leave-one-out: the last new item of each of the nine users with three items; it says that it leaks.
    one_system = ("--candidates", "all", "--systems", "popularity")
    left = workspace.json("evaluate", "--protocol", "leave-one-out", *one_system, "--users", "7")
    assert (left["protocol"]["leaks_in_time"], left["protocol"]["users"], left["protocol"]["items"]) == (True, 7, 12)
    assert results(workspace) == [(2, 7)]
    assert provenance(workspace) == [("hashing-64", "test-1", SCHEMA_VERSION)] * 2

    with pytest.raises(UsageError, match="vectors by hashing-64@1, VLM4REC_ENCODER is hashing-32@1"):
        load_split(places(workspace, "hashing-32"), "prod", Protocol(), frozenset({"title"}))

    split = load_split(places(workspace), "prod", Protocol(), frozenset())
    hidden = list(split.user_ids).index("u3"), split.catalogue.positions(["i05"])[0]
    assert (split.seen.toarray()[hidden], split.excluded.toarray()[hidden]) == (0, 1)
    shown = list(split.user_ids).index("u4"), split.catalogue.positions(["i04"])[0]
    assert (split.seen.toarray()[shown], split.excluded.toarray()[shown]) == (0, 0)
    assert split.profile_weights is not None
    fixed, own = split.weights.toarray()[0], split.profile_weights.toarray()[0]
    taken = own > 0
    days = -90 * np.log2(own[taken] / own.max())
    assert days.max() > 0.1, "the ranking file has a half-life of 90 days"
    assert -120 * np.log2(fixed[taken] / fixed.max()) == pytest.approx(days, abs=0.01), "all other systems have 120"


OWN_LOG = """Kunde;Artikel;Datum;Art;Wert
u1;i1;01.03.2025 20:00:00,25;Kauf;1.234
u1;i2;02.03.2025;Kauf;-2
u1;i3;03.03.2025 09:30;Sterne;9
u2;i1;03.03.2025 09:30;Sterne;3
u2;i2;04.03.2025 10:00;Sicht;1,125
u2;i3;05.03.2025 10:00;sale;0,1
u2;i3;05.03.2025 11:00;nonsense;-1
"""
CONTRACT = """
interactions:
  delimiter: ";"
  map: {user_id: Kunde, item_id: Artikel, timestamp: Datum, event_type: Art, value: Wert}
values:
  locale: de_DE
  time_zone: Europe/Berlin
  events: {Kauf: purchase, Sterne: rating, Sicht: view, sale: sale}
  rating_scale: 10
"""
ACCEPTED = "SELECT user_id, item_id, interacted_at, event_type, value FROM {}.interactions ORDER BY row_number"
STATUSES = "SELECT item_id, status FROM captions__without.all_captions WHERE photo_hash IS NOT NULL"


def test_what_is_held_out_stays_out_and_other_rows_stay_as_they_were(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from PIL import Image

    workspace.data.mkdir()
    (workspace.data / "items.csv").write_text("item_id,title\ni1,red bag\ni2,blue bag\ni3,green bag\n")
    (workspace.data / "interactions.csv").write_text(OWN_LOG)
    (workspace.data / "contract.yaml").write_text(CONTRACT)
    # The service was told of the first purchase, too: staging refuses this event.
    told = {"event_id": "1", "action_name": "purchase", "timestamp": "2025-03-01T19:10:00Z", "user_id": "u1"}
    event = parse_event({**told, "event_attributes": {"object": {"object_id": "i1"}}})
    EventLog(workspace.folder / "served" / "events.sqlite").record([event], as_happened=True)
    workspace.settings["VLM4REC_AS_OF"] = "2025-03-04 12:00:00"  # before the sale; later nobody sets it
    workspace.plan()
    assert workspace.query("SELECT reason FROM staging.rejected_interactions ORDER BY row_number") == [
        ("value is not positive",),
        ("the purchase is in the log of the shop, too",),
    ]
    before = workspace.query(ACCEPTED.format("staging"))
    assert [(kind, value) for *_, kind, value in before] == [
        ("purchase", 1234.0), ("return", 2.0), ("rating", 4.5), ("dislike", 1.0), ("view", 1.125), ("sale", 0.1)
    ]  # fmt: skip
    # A new photo gets no paid caption in tables that are thrown away, and the arguments of the plan tell no password.
    Image.new("RGB", (64, 64), "green").save(workspace.data / "4.png")
    (workspace.data / "items.csv").write_text(
        "item_id,title,image\ni1,red bag,\ni2,blue bag,\ni3,green bag,\ni4,green hat,4.png\n"
    )
    commands = record_commands(monkeypatch)
    with serving(lambda title, earlier: answer("A green hat.")) as server:
        changes = {"served": workspace.folder / "served", "captioner": "openai:vlm", "openai_url": server.url}
        changes["index_url"] = "https://user:pass-word@localhost:9200"
        with workbench(places(workspace).model_copy(update=changes)) as bench:
            bench.plan_without("without", [1])
            with read(bench.settings.warehouse) as connection:
                after = connection.execute(ACCEPTED.format("staging__without")).fetchall()
                statuses = connection.execute(STATUSES).fetchall()
                (moment,) = connection.execute("SELECT as_of FROM histories__without.as_of").fetchone() or (None,)
    assert after == before[1:]
    assert moment == datetime(2025, 3, 4, 12), "what shoppers did after the moment of the tables is known to no system"
    assert [record.message for record in caplog.records if "VLM4REC_AS_OF" in record.message] == [
        "the tables are as of 2025-03-04 12:00:00, and VLM4REC_AS_OF is not set: the moment of the tables counts, until"
        " `sqlmesh plan` builds others"
    ]
    assert (statuses, server.calls) == ([("i4", "pending")], [])
    assert "sqlmesh" in str(commands)
    assert "pass-word" not in str(commands)


def record_commands(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list to which the arguments of each process that is started are added."""
    commands: list[object] = []
    start = subprocess.Popen.__init__

    def record(process: "subprocess.Popen[str]", command: object, **options: Any) -> None:
        commands.append(command)
        start(process, command, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", record)
    return commands


def results(workspace: Workspace) -> list[tuple[int, ...]]:
    """Return the number of runs, and of users of the second run, from the results file."""
    with duckdb.connect(str(workspace.folder / "results.duckdb"), read_only=True) as connection:
        return connection.execute("""
            SELECT (SELECT COUNT(*) FROM runs), COUNT(DISTINCT user_id) FROM user_metrics
            WHERE run = (SELECT MAX(run) FROM runs)
        """).fetchall()


def provenance(workspace: Workspace) -> list[tuple[str, str, int]]:
    """Return the encoder without its revision, the ranking and the schema of releases of each run."""
    with duckdb.connect(str(workspace.folder / "results.duckdb"), read_only=True) as connection:
        return connection.execute("""
            SELECT split_part(encoder, '@', 1), ranking, release_schema FROM runs
            WHERE length(ranking_hash) = 12 AND captioner <> '' AND text_recipe <> '' ORDER BY run
        """).fetchall()


def places(workspace: Workspace, encoder: str = "hashing-64") -> Settings:
    """Return the settings of a workspace for calls in this process."""
    return Settings(
        project=ROOT,
        encoder=encoder,
        image_encoder="thumbnail-4",
        data_dir=workspace.data,
        warehouse=workspace.folder / "warehouse.duckdb",
        cache=workspace.folder / ".cache/vlm4rec",
    )


HOLD = """
import sys, time, duckdb
with duckdb.connect(sys.argv[1]):
    print("open", flush=True)
    time.sleep(1)
"""


def test_a_finished_evaluation_waits_while_another_process_has_the_results_open(tmp_path: Path) -> None:
    log = planted()
    split = log.split(START + 70 * DAY)
    evaluation = evaluate(Parts(None, Part(split, log.targets(split))), [Popularity()])
    results, path = summarise(evaluation, {}, 7), tmp_path / "results.duckdb"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"open\n"
        run = save(results, evaluation, path)
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT DISTINCT run FROM rankings").fetchall() == [(run,)]


def test_wrong_calls_are_told_in_one_line(workspace: Workspace) -> None:
    assert "there is no system 'magic'" in workspace.vlm4rec("evaluate", "--systems", "magic", code=2)
    assert "the number of users has to be 1 or more" in workspace.vlm4rec("evaluate", "--users", "0", code=2)
    told = workspace.vlm4rec("evaluate", "--protocol", "leave-one-out", "--repeat", code=2)
    assert "--repeat needs --protocol time" in told
    assert "the seed has to be 0 or more" in workspace.vlm4rec("evaluate", "--seed", "-1", code=2)


@pytest.mark.long
@pytest.mark.skipif(not ONLINE_RETAIL.is_dir(), reason="the data set is not here")
def test_online_retail_agrees_with_an_independent_script(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of the script, with its 95% intervals: 1,094 users, all 3,659 items."""
    files = ("--items", "items.csv", "--interactions", "interactions.csv.gz")
    quantity = ("--map", "interactions.value=quantity")
    workspace.vlm4rec("import", "generic", str(ONLINE_RETAIL), "--to", str(workspace.data), *files, *quantity)
    workspace.settings["VLM4REC_ENCODER"] = "all-MiniLM-L6-v2"
    workspace.plan()
    monkeypatch.chdir(workspace.folder)
    settings, kinds = places(workspace, "all-MiniLM-L6-v2"), frozenset({"description"})
    parts = build_parts(settings, Protocol(candidates="all"), kinds, False, lambda step: None)
    split = parts.test.split
    assert (len(parts.test.targets.users), int(split.candidates.sum())) == (1094, 3659)

    rows = np.unique(split.users * split.shape[1] + split.items, return_index=True)[1]
    tenth = np.quantile(split.times[rows].astype(np.int64), 0.9).astype("datetime64[us]")
    days = float((split.as_of - tenth) / np.timedelta64(1, "D"))
    alone: dict[str, Mode] = {"words": "lexical", "meaning": "semantic", "behaviour": "behaviour"}
    product = [Product(name, mode) for name, mode in alone.items()]
    systems = [
        Popularity(),
        Popularity("last tenth", days),
        Popularity("30 days", 30.0),
        BM25(),
        CoPurchase(),
        CoPurchase("90 days", 90.0),
        OnlyOne("mean", "description"),
        Ease(20.0, 300.0),
        UserKNN(10.0, 1_000),
        ItemKNN(20.0, 0.25),
        Product("default", "hybrid"),
        *product,
    ]
    results = summarise(evaluate(parts, systems), {}, 7)
    found = {row.system: row.value for row in results.rows if row.metric == "R@10"}
    expected = {
        "popularity": (0.019, 0.004),
        "30 days": (0.049, 0.008),
        "90 days": (0.059, 0.008),
        "mean": (0.025, 0.006),
        "last tenth": (0.050, 0.007),
        "bm25": (0.037, 0.007),
        "co-purchase": (0.041, 0.006),
        "ease": (0.077, 0.008),
        "user-knn": (0.073, 0.008),
        "item-knn": (0.063, 0.008),
    }
    for system, (value, half) in expected.items():
        assert found[system] == pytest.approx(value, abs=half), system
    sure = {(one.a, one.b): one for one in results.differences["R@10"]}
    assert sure["popularity", "co-purchase"].corrected < 0.05
    # The shipped ranking, chosen on earlier interactions, beats every leg alone, and what is popular.
    assert found["default"] >= max(0.065, 2 * found["mean"])
    peers = ("ease", "user-knn", "item-knn", "default")
    gains = {name: -sure[name, "default"].high if (name, "default") in sure else sure["default", name].low
             for name in found if name not in peers}  # fmt: skip
    assert min(gains.values()) > 0, gains
