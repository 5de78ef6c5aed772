"""Events over HTTP: kept before the answer, felt by the next answer of the shopper on both backends, read by a plan."""

import math
import random
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from helpers.backends import Backend, Embedded
from helpers.faulty_proxy import Fault, proxy
from helpers.http_service import serving
from helpers.six_items import ENCODER, RANKING, documents, given, meta
from helpers.ubi_names import own_ubi_names
from helpers.workspace import Workspace

from vlm4rec_search.common.errors import RunError
from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.datasets.events.compaction import INTERACTIONS, compact, event_files
from vlm4rec_search.datasets.events.event import parse_event
from vlm4rec_search.datasets.events.log import EventLog
from vlm4rec_search.indexes.search_layer import read_search_layer
from vlm4rec_search.pipeline import ubi_export
from vlm4rec_search.pipeline.lost_experiments import find_lost_experiments
from vlm4rec_search.pipeline.saved_queries import find_query
from vlm4rec_search.pipeline.served_log import create_served_tables
from vlm4rec_search.search.ranking import load_ranking
from vlm4rec_search.search.rules import load_rules
from vlm4rec_search.serve.journal import Journal, ServedPage
from vlm4rec_search.serve.service import Service

SEMANTIC = {"mode": "semantic", "k": 6}


def event(name: str, action: str, item: str, user: str = "u1", **more: Any) -> dict[str, Any]:
    given = {"event_id": name, "action_name": action, "timestamp": datetime.now(UTC).isoformat(), "user_id": user}
    return {**given, "event_attributes": {"object": {"object_id": item}}, **more}


def settings_of(backend: Backend, folder: Path) -> ExplicitSettings:
    place = {"index_url": backend.releases.url, "index_prefix": backend.prefix}
    return ExplicitSettings(**place, encoder=ENCODER, ranking=RANKING, served=folder / "served")


@pytest.fixture(scope="module")
def published(backend: Backend) -> Backend:
    backend.publish(given(documents()))
    return backend


@pytest.fixture
def client(published: Backend, tmp_path: Path) -> Iterator[httpx.Client]:
    with Service(settings_of(published, tmp_path), 5.0) as service, serving(service) as opened:
        yield opened


def post(client: httpx.Client, *events: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/v1/events", json={"events": events})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ids(client: httpx.Client, **body: Any) -> str:
    response = client.post("/v1/recommend", json={**SEMANTIC, **body})
    assert response.status_code == 200, response.text
    return "".join(item["item_id"] for item in response.json()["items"])


def test_the_next_answer_knows_what_the_shopper_did(client: httpx.Client) -> None:
    assert ids(client, user="u1") == "becf"
    post(client, event("1", "impression", "b"))
    assert ids(client, user="u1") == "becf", "what was only shown may come again"
    post(client, event("2", "click", "f"))
    assert ids(client, user="u1") == "bec", "f speaks and leaves"
    assert "f" in ids(client, user="u1", include_seen=True)
    post(client, event("3", "hide", "e"))
    assert ids(client, user="u1") == "bc"
    assert ids(client, user="u2") == "badef", "of another shopper"


def test_a_shopper_without_profile_gets_what_goes_with_the_visit(client: httpx.Client) -> None:
    assert client.post("/v1/recommend", json={**SEMANTIC, "user": "new"}).json()["tier"] == "popularity"
    post(client, event("1", "view", "a", "new"), event("2", "view", "gone", "new"))
    answer = client.post("/v1/recommend", json={**SEMANTIC, "user": "new", "explain": True}).json()
    assert (answer["tier"], answer["items"][0]["item_id"]) == ("session", "b")
    assert "user new is not known, so the answer is what goes with the items of the session" in answer["note"]
    assert answer["missing"] == []


def test_a_hide_pushes_its_like_away(client: httpx.Client) -> None:
    post(client, event("1", "view", "b", "new"), event("2", "view", "e", "new"))
    before = client.post("/v1/recommend", json={**SEMANTIC, "user": "new"}).json()["items"]
    post(client, event("3", "hide", "d", "new"))
    body = {**SEMANTIC, "user": "new", "explain": True, "include_seen": True}
    items = client.post("/v1/recommend", json=body).json()["items"]
    after = {item["item_id"]: item["score"] for item in items}
    assert [item["item_id"] for item in before if item["item_id"] == "d"] == ["d"]
    assert after["c"] > after["a"], "a resembles d, c does not"


def test_a_service_knows_what_the_shop_declares(embedded: Backend, tmp_path: Path) -> None:
    embedded.publish(given(documents()))
    (tmp_path / "contract.yaml").write_text("values: {events: {Nicht interessant: hide}, nothing: {user_id: [gast]}}")
    settings = settings_of(embedded, tmp_path).model_copy(update={"data_dir": tmp_path})
    with Service(settings, 5.0) as service, serving(service) as client:
        post(client, event("1", "Nicht interessant", "e", "gast", client_id="new"))
        assert service.recent("new").hidden == ("e",)
        refused = client.post("/v1/events", json={"events": [event("2", "click", "a", "gast")]})
    assert (refused.status_code, "give a user_id, or a client_id" in refused.text) == (422, True)


def test_the_lag_is_the_age_of_the_oldest_event_that_the_live_release_lacks(embedded: Backend, tmp_path: Path) -> None:
    embedded.publish(given(documents()))
    settings = settings_of(embedded, tmp_path)

    def lag(client: httpx.Client) -> float:
        (line,) = [each for each in client.get("/metrics").text.splitlines() if each.startswith("vlm4rec_event_lag")]
        return float(line.split()[-1])

    with Service(settings, 5.0) as service, serving(service) as client:
        assert lag(client) == 0.0
        yesterday = event("1", "click", "a", timestamp=(datetime.now(UTC) - timedelta(days=1)).isoformat())
        service.events.record([parse_event(yesterday)], as_happened=True)
        post(client, event("2", "click", "b"))
        assert 86_000 < lag(client) < 100_000
        assert compact(settings.events_file, settings.events_folder) == 2
        assert 86_000 < lag(client) < 100_000, "other commands than a plan move events, too"
    hour_ago, now = (datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=hours) for hours in (1, 0))
    embedded.publish(given(documents()), replace(meta(), events_until=hour_ago))
    with Service(settings, 5.0) as service, serving(service) as client:
        assert 0.0 < lag(client) < 80_000, "a release lacks what was received after what its tables have"
    embedded.publish(given(documents()), replace(meta(), events_until=now))
    with Service(settings, 5.0) as service, serving(service) as client:
        assert lag(client) == 0.0
        with closing(sqlite3.connect(settings.events_file)) as connection:
            connection.execute("DROP TABLE events")
        assert math.isnan(service.event_lag())


def test_answers_and_events_are_copied_in_the_shape_of_user_behavior_insights(
    embedded: Embedded, opensearch_url: str, own_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.publish(given(documents()))
    settings = settings_of(embedded, tmp_path)
    names = own_ubi_names(monkeypatch, own_prefix)
    with Service(settings, 5.0) as service, serving(service) as client:
        first = client.post("/v1/search", json={"user": "u1", "text": "lamp", "mode": "lexical", "k": 1}).json()
        second = client.get(first["next"]).json()
        shown = [item["item_id"] for item in (*first["items"], *second["items"])]
        more = {"query_id": first["recommendation_id"], "shelf": {"colour": "red"}}
        post(client, event("click-1", "click", shown[0], **more))
    for everything, number in ((False, 1), (False, 0), (True, 1)):
        done = ubi_export.export_ubi(settings, opensearch_url, everything)
        assert (list(done.copied.values()), done.refused) == ([number, number], 0)
    with httpx.Client(base_url=opensearch_url) as server:
        server.post(f"/{own_prefix}-*/_refresh").raise_for_status()
        hits = {name: server.get(f"/{name}/_search").json()["hits"]["hits"] for name in names}
        by_item = {"query": {"term": {"event_attributes.object.object_id": shown[0]}}}
        assert server.post(f"/{names[1]}/_count", json=by_item).json()["count"] == 1
    ((query,), (clicked,)) = hits.values()
    assert query["_id"] == query["_source"]["query_id"] == first["recommendation_id"]
    assert (query["_source"]["user_query"], query["_source"]["query_response_hit_ids"]) == ("lamp", shown)
    assert clicked["_id"] == "click-1"
    assert clicked["_source"].items() >= {**more, "action_name": "click", "user_id": "u1", "client_id": "u1"}.items()
    assert ubi_export.forget_ubi(settings, opensearch_url, {"u2"}) == {}
    for dry_run in (True, False):
        assert ubi_export.forget_ubi(settings, opensearch_url, {"u1"}, dry_run) == dict.fromkeys(names, 1)
    assert ubi_export.forget_ubi(settings, opensearch_url, {"u1"}) == {}


def test_a_copy_goes_on_where_the_last_one_has_ended(
    opensearch_url: str, own_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = own_ubi_names(monkeypatch, own_prefix)
    settings = ExplicitSettings(served=tmp_path / "served")

    def copy(url: str = opensearch_url) -> list[int]:
        return list(ubi_export.export_ubi(settings, url).copied.values())

    assert copy() == [0, 0], "no service has run yet"
    journal, log = Journal(settings.served_file), EventLog(settings.events_file)

    def serve(recommendation: str, page: int = 1) -> None:
        journal.record(recommendation, page, {"user": "u1"}, ServedPage([(f"item-{page}", 0.5)], "text", "r", "v"))

    def happen(*numbers: int) -> None:
        log.record([parse_event(event(str(number), "click", "a")) for number in numbers])

    serve("new")
    happen(1, 2)
    log.record([parse_event(event("odd", "click", "a", **{"": "no server reads this key"}))])
    refused = ubi_export.export_ubi(settings, opensearch_url)
    assert (refused.refused, str(refused.reason).startswith("odd: ")) == (1, True)
    assert list(refused.copied.values()) == [1, 2]
    assert copy() == [0, 0]
    serve("new", page=2)
    happen(3)
    compact(settings.events_file, settings.events_folder)
    happen(4)
    with proxy(opensearch_url, lambda number, _body: Fault(cut="after") if number == 1 else None) as url:
        with pytest.raises(RunError):
            copy(url)
        assert copy(url) == [0, 2], "the answers were whole"
    with httpx.Client(base_url=opensearch_url) as server:
        assert server.get(f"/{names[0]}/_doc/new").json()["_source"]["query_response_hit_ids"] == ["item-1", "item-2"]
        server.post(f"/{names[1]}/_refresh").raise_for_status()
        assert server.get(f"/{names[1]}/_count").json()["count"] == 4
        server.delete(f"/{names[1]}").raise_for_status()
    assert copy() == [0, 4], "the index was made anew"  # the odd one is refused again
    assert ubi_export.forget_ubi(settings, opensearch_url, {"u1"}) == {names[0]: 1, names[1]: 4}


def test_the_answer_counts_what_is_kept_known_and_wrong(client: httpx.Client) -> None:
    events = [event("1", "click", "a"), event("1", "click", "a"), {"action_name": "click"}, event("2", "buy", "b")]
    receipt = post(client, *events)
    assert (receipt["accepted"], receipt["duplicates"]) == (2, 1)
    assert receipt["rejected"] == [{"index": 2, "detail": "timestamp: Field required"}]
    assert post(client, events[0]) == {"accepted": 0, "duplicates": 1, "rejected": []}
    wrong = client.post("/v1/events", json={"events": [{"action_name": "click"}]})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "events.0")
    for body in ({"events": []}, {"events": [{}] * 1_001}, {"events": ["x"]}, {}):
        assert client.post("/v1/events", json=body).status_code == 422
    assert 'vlm4rec_events_total{outcome="duplicate"} 2.0' in client.get("/metrics").text


def test_two_services_share_events_and_a_restart_keeps_them(embedded: Embedded, tmp_path: Path) -> None:
    embedded.publish(given(documents()))
    settings = settings_of(embedded, tmp_path)
    with Service(settings) as one, Service(settings) as two, serving(one) as first, serving(two) as second:
        post(first, event("1", "purchase", "b"))
        assert ids(second, user="u1") == "cef"
        assert post(second, event("1", "purchase", "b"))["duplicates"] == 1
    with Service(settings) as again, serving(again) as client:
        assert ids(client, user="u1") == "cef"


def test_a_plan_reads_an_event_once(workspace: Workspace) -> None:
    workspace.vlm4rec("shop", "--to", "data", "--items", "30", "--shoppers", "10", "--clean")
    item = duckdb.read_csv(str(workspace.data / "items.csv"), all_varchar=True).project("item_id").fetchall()[0][0]
    served = workspace.folder / "served"
    log = EventLog(served / "events.sqlite")
    sent = [event("1", "add_to_cart", item, "new"), event("2", "impression", item, "new")]
    log.record([parse_event(each) for each in sent])
    compact(log.path, served / "events")
    log.record([parse_event(each) for each in (*sent, event("3", "hide", item, "new"))])
    workspace.plan()
    ((found, why),) = workspace.query("SELECT item_id, why FROM profiles.profile_weights WHERE user_id = 'new'")
    assert (found, "1 x cart +0.60, 1 x hide -1.00" in why) == (item, True)
    files = workspace.query("SELECT file, records FROM raw.files WHERE file LIKE 'events/%'")
    assert [records for _, records in files] == [2]
    with read(workspace.folder / "warehouse.duckdb") as connection:
        until = read_search_layer(connection).events_until
    assert until is not None and log.oldest_after(until) is None


EXPERIMENT = """
experiments:
  new: {{b: {{ranking: {ranking}}}, method: {method}}}
"""


def experimenting(embedded: Embedded, folder: Path, method: str, ranking: str = "popular") -> Service:
    """Return a service with an experiment between the release's ranking and one by popularity."""
    rules = folder / "rules.yaml"
    rules.write_text(EXPERIMENT.format(method=method, ranking=ranking))
    settings = settings_of(embedded, folder).model_copy(update={"rules": rules})
    popular = load_ranking(RANKING).model_copy(update={"version": "popular", "fallback_chain": ("popularity",)})
    return Service(settings, 5.0, {"popular": popular})


def test_a_split_experiment_is_told_and_compared(embedded: Embedded, workspace: Workspace) -> None:
    embedded.publish(given(documents()))
    rankings = set()
    with experimenting(embedded, workspace.folder, "split") as service, serving(service) as client:
        for number in range(12):
            answer = client.post("/v1/recommend", json={"user": f"s{number}", "k": 2}).json()
            told, (first, _) = answer["experiment"], answer["items"]
            assert (told["name"], told["teams"], answer["ranking"]) == ("new", None, RANKED[told["arm"]])
            rankings.add(answer["ranking"])
            page = client.get(answer["next"]).json()
            assert page["experiment"] == told
            of_answer = {"query_id": answer["recommendation_id"], "event_attributes": {"position": {"ordinal": 1}}}
            seen = event(f"i{number}", "impression", first["item_id"], f"s{number}")
            of_answer["event_attributes"] |= seen["event_attributes"]
            post(client, {**seen, **of_answer}, {**seen, **of_answer, "event_id": f"c{number}", "action_name": "click"})
        named = client.post("/v1/recommend", json={"user": "s1", "ranking": "popular"}).json()
        assert (named["experiment"], named["ranking"]) == (None, "popular")
    assert rankings == {"test-1", "popular"}
    workspace.settings["VLM4REC_RULES"] = "rules.yaml"
    result = workspace.json("compare", "new")
    assert (result["shoppers_a"] + result["shoppers_b"], result["answers"], result["is_void"]) == (12, 12, False)
    click, cart, _ = result["outcomes"]
    assert (click["a"], click["b"], cart["a"], click["verdict"]) == (1.0, 1.0, 0.0, "no difference can be told")
    assert "12 answers" in workspace.vlm4rec("compare")
    with duckdb.connect() as connection:
        create_served_tables(connection, settings_of(embedded, workspace.folder))
        query = find_query(None, "click_through_by_position").sql
        assert connection.sql(query).fetchall()[:3] == [
            (1, 13, 12, 12, 0, 0, 1.0, "impressions"),
            (2, 13, 0, 0, 0, 0, None, "impressions"),
            (3, 13, 0, 0, 0, 0, None, "impressions"),
        ]


def test_an_answer_without_items_is_a_row_without_an_item(embedded: Embedded, tmp_path: Path) -> None:
    settings = settings_of(embedded, tmp_path)
    journal = Journal(settings.served_file)
    for name, items in (("full", [("a", 0.5), ("b", 0.25)]), ("empty", [])):
        journal.record(
            name, 1, {"user": "u1"}, ServedPage(items, "profile", "r1", "v1", "new", None, "ab"[: len(items)])
        )
    journal.record("full", 2, {"user": "u1"}, ServedPage([("c", 0.1)], "profile", "r1", "v1"))
    with duckdb.connect() as connection:
        create_served_tables(connection, settings)
        shown = "SELECT recommendation_id, position, item_id, score, team FROM served.recommendations ORDER BY ALL"
        assert connection.sql(shown).fetchall() == [
            ("empty", None, None, None, None),
            ("full", 1, "a", 0.5, "a"),
            ("full", 2, "b", 0.25, "b"),
            ("full", 3, "c", 0.1, None),
        ]
        by_position = connection.sql(find_query(None, "click_through_by_position").sql).fetchall()
        assert [row[:2] for row in by_position] == [(1, 1), (2, 1), (3, 1)]
        by_ranking = connection.sql(find_query(None, "click_through_by_ranking").sql)
        ((answers, served),) = by_ranking.project("answers, served").fetchall()
        assert (answers, served) == (2, 3)
        connection.execute("CREATE SCHEMA search; CREATE TABLE search.item_popularity (item_id VARCHAR, shoppers INT)")
        connection.execute(
            "CREATE TABLE search.item_documents AS SELECT 'z' AS item_id, '' AS title, '' AS category, 1 AS available"
        )
        (never,) = connection.sql(find_query(None, "items_never_served").sql).fetchall()
        assert never[0] == "z"


RANKED = {"a": "test-1", "b": "popular"}


def test_an_interleaved_list_has_teams_and_a_broken_experiment_costs_nothing(
    embedded: Embedded, tmp_path: Path
) -> None:
    embedded.publish(given(documents()))
    with experimenting(embedded, tmp_path, "interleave") as service, serving(service) as client:
        answer = client.post("/v1/recommend", json={"user": "u1", "k": 3}).json()
        teams = answer["experiment"]["teams"]
        assert (len(teams), answer["experiment"]["arm"], answer["ranking"]) == (3, None, "test-1 + popular")
        assert set(teams[:2]) == {"a", "b"}
        first = [item["item_id"] for item in answer["items"]]
        page = client.get(answer["next"]).json()
        assert not set(first) & {item["item_id"] for item in page["items"]}
        again = client.get(answer["next"].replace("page=2", "page=1")).json()
        assert (again["experiment"], [item["item_id"] for item in again["items"]]) == (answer["experiment"], first)
        with duckdb.connect() as connection:
            create_served_tables(connection, settings_of(embedded, tmp_path))
            shown = "SELECT position, item_id, team FROM served.recommendations WHERE page = 1 ORDER BY position"
            assert connection.sql(shown).fetchall() == list(zip((1, 2, 3), first, teams, strict=True))
    with experimenting(embedded, tmp_path, "split", "gone") as service, serving(service) as client:
        answers = [client.post("/v1/recommend", json={"user": f"u{number}"}).json() for number in range(8)]
        assert {(answer["ranking"], str(answer["experiment"])) for answer in answers} == {("test-1", "None")}


def test_without_one_variant_nobody_takes_part_and_readyz_says_why(embedded: Embedded, tmp_path: Path) -> None:
    old, live = (embedded.publish(given(documents())) for _ in range(2))
    rules = tmp_path / "rules.yaml"
    settings = settings_of(embedded, tmp_path).model_copy(update={"rules": rules})
    obstacles = {
        live: f"a and b are both the release {live}, which is live",
        f"{old}0": f"there is no release '{old}0'",
    }
    for release, obstacle in obstacles.items():
        rules.write_text(f"experiments:\n  new: {{b: {{release: {release}}}}}\n")
        with Service(settings, 5.0) as service, serving(service) as client:
            answers = [client.post("/v1/recommend", json={"user": f"s{number}"}).json() for number in range(8)]
            assert {(answer["release"], str(answer["experiment"])) for answer in answers} == {(live, "None")}
            assert client.get("/readyz").json()["problem"].startswith(f"the experiment new is left out: {obstacle}")
        (lost,) = find_lost_experiments(load_rules(rules).experiments, embedded.releases)
        assert lost.startswith("new (")
    rules.write_text(f"experiments:\n  new: {{b: {{release: {old}}}}}\n")
    assert find_lost_experiments(load_rules(rules).experiments, embedded.releases) == []


def test_a_variant_that_fails_at_a_query_stops_both_and_a_wrong_request_stops_none(
    embedded: Embedded, tmp_path: Path
) -> None:
    other = ENCODER.replace("@1", "@2")  # a revision that is not installed: texts cannot be encoded
    old = embedded.publish(given(documents().assign(encoder=other)), meta(other))
    live = embedded.publish(given(documents()))
    rules = tmp_path / "rules.yaml"
    rules.write_text(f"experiments:\n  new: {{b: {{release: {old}}}}}\n")
    settings = settings_of(embedded, tmp_path).model_copy(update={"rules": rules})

    def arms(client: httpx.Client, address: str, **body: Any) -> set[str | None]:
        answers = [client.post(address, json={"user": f"s{number}", **body}).json() for number in range(8)]
        return {answer["experiment"] and answer["experiment"]["arm"] for answer in answers}

    with Service(settings, 5.0) as service, serving(service) as client:
        for number in range(8):
            wrong = client.post("/v1/recommend", json={"user": f"s{number}", "filters": ["colour=red"]})
            assert (wrong.status_code, "colour" in wrong.json()["detail"]) == (400, True)
        assert client.get("/readyz").json()["problem"] is None
        assert arms(client, "/v1/recommend") == {"a", "b"}
        of_b = next(
            f"s{number}" for number in range(8) if service.index.experiments["new"].arm("new", f"s{number}") == "b"
        )
        answer = client.post("/v1/search", json={"user": of_b, "text": "red dress"}).json()
        assert (answer["release"], answer["experiment"]) == (live, None)
        problem = client.get("/readyz").json()["problem"]
        assert problem.startswith("the experiment new is left out: the index was built by the encoder hashing-4@2")
        assert arms(client, "/v1/search", text="red dress") == arms(client, "/v1/recommend") == {None}


def test_a_variant_whose_release_is_damaged_costs_no_shopper_the_answer(tmp_path: Path) -> None:
    embedded = Embedded(tmp_path / "index")
    old, live = (embedded.publish(given(documents())) for _ in range(2))
    with duckdb.connect(str(embedded.folder / "releases" / f"{old}.duckdb")) as connection:
        connection.execute("DROP TABLE documents")
    rules = tmp_path / "rules.yaml"
    for method in ("split", "interleave"):
        rules.write_text(f"experiments:\n  new: {{b: {{release: {old}}}, method: {method}, share: 0.99}}\n")
        settings = settings_of(embedded, tmp_path).model_copy(update={"rules": rules})
        with Service(settings, 5.0) as service, serving(service) as client:
            told = client.post("/v1/recommend", json={"user": "u1", "release": old})
            assert (told.status_code, old in told.json()["detail"]) == (503, True)
            answers = [client.post("/v1/recommend", json={"user": f"s{number}", "k": 2}) for number in range(4)]
            assert {answer.status_code for answer in answers} == {200}
            assert {(answer.json()["release"], answer.json()["experiment"]) for answer in answers} == {(live, None)}


def test_a_degraded_answer_takes_no_part_in_an_experiment(
    embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.publish(given(documents()))
    for method, told in (("interleave", {None}), ("split", {None, "b"})):
        with experimenting(embedded, tmp_path, method) as service, serving(service) as client:
            search = service.index.search  # of variant a
            monkeypatch.setattr(service.index, "search", lambda query, of=search: replace(of(query), degraded="late"))
            answers = [client.post("/v1/recommend", json={"user": f"s{number}", "k": 2}).json() for number in range(8)]
        assert {answer["experiment"] and answer["experiment"]["arm"] for answer in answers} == told
        for answer in answers:
            of_a = answer["experiment"] is None
            assert (answer["degraded"], answer["ranking"]) == (("late", "test-1") if of_a else (None, "popular"))


KILLS = [pytest.param(3, 120, id="some"), pytest.param(20, 10_000, id="many", marks=pytest.mark.long)]


@pytest.mark.parametrize(("kills", "events"), KILLS)
def test_a_killed_service_loses_and_doubles_no_event(
    workspace: Workspace, embedded: Embedded, kills: int, events: int
) -> None:
    embedded.publish(given(documents()))
    url = embedded.releases.url
    workspace.settings.update(VLM4REC_INDEX_URL=url, VLM4REC_ENCODER=ENCODER.split("@")[0], VLM4REC_RANKING="")
    waiting, acknowledged = [str(number) for number in range(events)], list[str]()
    chance = random.Random(7)
    log, folder = workspace.folder / "served" / "events.sqlite", workspace.folder / "served" / "events"
    for life in range(kills + 1):
        goal = len(acknowledged) + len(waiting) // (kills + 1 - life)
        process, port = start_service(workspace)
        killer = threading.Event()

        def kill(process: "subprocess.Popen[str]" = process, killer: threading.Event = killer) -> None:
            killer.wait()
            process.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                while waiting:
                    batch = waiting[: chance.randint(1, 10)]
                    if life < kills and len(acknowledged) >= goal - 10:
                        killer.set()  # while this request is on its way
                    post(client, *(event(name, "click", "a") for name in batch))
                    acknowledged += batch
                    del waiting[: len(batch)]
        except httpx.TransportError:
            assert life < kills
        finally:
            killer.set()
            thread.join()
            process.communicate()
        compact(log, folder)
    assert not waiting
    kept = duckdb.read_parquet([str(path) for path in event_files(folder, INTERACTIONS)])
    found = [name for (name,) in kept.project("event_id").fetchall()]
    assert sorted(found) == sorted(acknowledged)


def start_service(workspace: Workspace) -> "tuple[subprocess.Popen[str], int]":
    """Start a service of its own and wait until it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = workspace.start("vlm4rec", "-q", "serve", "--port", str(port))
    while process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).raise_for_status()
            return process, port
        except httpx.HTTPError:
            time.sleep(0.05)
    raise AssertionError(process.communicate()[1])
