"""The JSON API over HTTP, on both backends: answers, pages, look-ups, and errors that say what to do."""

import json
import re
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import duckdb
import httpx
import pytest
import yaml
from helpers.alias_reader import labelled_tables
from helpers.backends import Backend, Embedded, Server
from helpers.faulty_proxy import proxy
from helpers.http_service import serving
from helpers.six_items import ENCODER, RANKING, documents, given, meta
from helpers.waiting import wait_until
from helpers.workspace import BIN, ROOT

from vlm4rec_search.common.logging import configure_logging
from vlm4rec_search.common.settings import ExplicitSettings
from vlm4rec_search.embeddings.encoders import load_sentence_encoder
from vlm4rec_search.indexes.embedded.pointer import POINTER, release_path
from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases
from vlm4rec_search.search.query import Answer, Query
from vlm4rec_search.search.ranking import load_ranking
from vlm4rec_search.serve.journal import ServedPage
from vlm4rec_search.serve.service import Service

TOKEN = "token-of-the-test"  # noqa: S105
RULES = """
rules:
  - {action: bury, filter: brand=Birch, reason: too many left}
scenarios:
  cart: {k: 2, mode: semantic}
"""


def settings_of(backend: Backend, folder: Path) -> ExplicitSettings:
    (folder / "rules.yaml").write_text(RULES)
    return ExplicitSettings(
        index_url=backend.releases.url,
        index_prefix=backend.prefix,
        encoder=ENCODER,
        ranking=RANKING,
        rules=folder / "rules.yaml",
        served=folder / "served",
    )


@pytest.fixture(scope="module")
def client(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    backend.publish(given(documents()))
    settings = settings_of(backend, tmp_path_factory.mktemp("service"))
    popular = load_ranking(RANKING).model_copy(update={"version": "popular", "fallback_chain": ("popularity",)})
    with Service(settings, 0.1, {"popular": popular}) as service, serving(service) as opened:
        yield opened


def ids(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return "".join(item["item_id"] for item in response.json()["items"])


def test_a_shopper_gets_items_with_reasons_and_rules(client: httpx.Client) -> None:
    body = {"user": "u1", "mode": "semantic", "include_seen": True, "explain": True}
    answer = client.post("/v1/recommend", json=body).json()
    assert [item["item_id"] for item in answer["items"]] == list("adecfb")
    first, last = answer["items"][0], answer["items"][-1]
    assert (first["rank"], first["title"], first["price"]) == (1, "red dress", 50.0)
    assert first["reasons"] == [{"text": "it is in the history", "share": 1.0}]
    assert last["rule"] == "is put last by a rule (too many left)"
    assert (answer["tier"], answer["ranking"], answer["missing"], answer["note"]) == ("profile", "test-1", [], None)


def test_an_unknown_shopper_is_no_error_and_an_unknown_item_is_reported(client: httpx.Client) -> None:
    answer = client.post("/v1/recommend", json={"user": "nobody", "items": ["gone"]}).json()
    assert (answer["tier"], answer["missing"]) == ("popularity", ["gone"])
    assert "user nobody is not known" in answer["note"]
    missing = client.post("/v1/similar", json={"item": "gone"})
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    assert "does not have the item gone" in missing.json()["detail"]


def test_a_service_closes_what_it_opened(backend: Backend, tmp_path: Path) -> None:
    if isinstance(backend, Embedded):
        backend = Embedded(tmp_path / "index")  # the services of other tests follow the folder that they share
    first, _ = backend.publish(given(documents())), backend.publish(given(documents()))
    with Service(settings_of(backend, tmp_path), 5.0) as service:
        assert service.look({"user": "u1", "release": first}).release == first
    if isinstance(backend, Embedded):
        duckdb.connect(str(release_path(backend.folder, first))).close()  # DuckDB refuses to write a file that is open
    else:
        assert isinstance(service.all_releases, OpenSearchReleases)
        assert service.all_releases.catalogue.client.transport.get_connection().pool is None  # it has no connection


def test_a_text_and_an_item_are_answered(client: httpx.Client) -> None:
    assert ids(client.post("/v1/search", json={"text": "lamps", "mode": "lexical"})) == "ed"
    similar = client.post("/v1/similar", json={"item": "a", "mode": "semantic", "k": 2})
    assert ids(similar) == "dc"  # b, the nearest, is put last


@pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="the extra `models` is not installed")
def test_other_rankings_and_releases_take_texts_with_an_encoder_in_a_folder(embedded: Backend, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    folder = tmp_path / "shopenc"
    words = Tokenizer(WordLevel({"red": 0, "dress": 1, "[UNK]": 2}, "[UNK]"))
    SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=4)], device="cpu").save(str(folder))
    encoder = load_sentence_encoder(str(folder)).id
    old, live = (embedded.publish(given(documents().assign(encoder=encoder)), meta(encoder)) for _ in range(2))
    settings = settings_of(embedded, tmp_path).model_copy(update={"encoder": str(folder)})
    with Service(settings, 5.0, {"popular": load_ranking(RANKING)}) as service, serving(service) as client:
        for named in ({}, {"ranking": "popular"}, {"release": old}, {"release": old, "ranking": "popular"}):
            response = client.post("/v1/search", json={"text": "red dress", "mode": "semantic", **named})
            assert response.status_code == 200, response.text
            assert response.json()["release"] == named.get("release", live)


def test_scenarios_rankings_counts_and_exclusions(client: httpx.Client) -> None:
    cart = client.post("/v1/recommend", json={"user": "u1", "scenario": "cart"})
    assert (ids(cart), cart.json()["scenario"]) == ("ec", "cart")
    other = client.post("/v1/recommend", json={"user": "u1", "ranking": "popular"}).json()
    assert (other["tier"], other["ranking"]) == ("popularity", "popular")
    body = {"user": "u1", "mode": "semantic", "exclude": ["e"], "count": ["category"], "collapse": "category"}
    counted = client.post("/v1/recommend", json=body)
    assert ids(counted) == "cfb"
    assert counted.json()["counts"] == {"category": {"dresses": 1, "shoes": 1}}


def test_next_pages_repeat_nothing_and_a_page_stays_what_it_was(client: httpx.Client) -> None:
    first = client.post("/v1/recommend", json={"user": "u1", "mode": "semantic", "include_seen": True, "k": 2})
    assert ids(first) == "ad"
    second = client.get(first.json()["next"])
    assert (ids(second), [item["rank"] for item in second.json()["items"]]) == ("ec", [3, 4])
    third = client.get(second.json()["next"])
    assert (ids(third), third.json()["next"]) == ("fb", first.json()["next"].replace("page=2", "page=4"))
    last = client.get(third.json()["next"])
    assert (ids(last), last.json()["next"]) == ("", None)
    for page in (second, third, last):  # with the address of the page behind it
        again = client.get(str(page.url)).json()
        assert {**again, "took_ms": 0} == {**page.json(), "took_ms": 0}
    assert client.get(first.json()["next"].replace("page=2", "page=9")).status_code == 404
    assert client.get(f"/v1/recommendations/{'0' * 32}").status_code == 404


def test_a_page_with_fewer_items_than_asked_for_is_the_last_also_when_it_is_read_again(client: httpx.Client) -> None:
    body = {"user": "u1", "mode": "semantic", "include_seen": True}
    for options, has_next in ({}, False), ({"k": 6}, True), ({"scenario": "cart"}, True):
        first = client.post("/v1/recommend", json={**body, **options}).json()
        again = client.get(f"/v1/recommendations/{first['recommendation_id']}?page=1").json()
        assert again["next"] == first["next"]
        assert (first["next"] is not None) == has_next


def test_a_page_that_is_fetched_again_says_what_it_said(client: httpx.Client) -> None:
    body = {"user": "nobody", "items": ["a", "gone"], "count": ["category"], "k": 2}
    served = client.post("/v1/recommend", json=body).json()
    assert (served["missing"], served["note"] is None, served["counts"] == {}) == (["gone"], False, False)
    again = client.get(f"/v1/recommendations/{served['recommendation_id']}").json()
    assert {**again, "took_ms": 0} == {**served, "took_ms": 0}


def test_the_journal_has_the_shopper_as_events_have(embedded: Backend, tmp_path: Path) -> None:
    embedded.publish(given(documents()))
    with Service(settings_of(embedded, tmp_path), 60.0) as service, serving(service) as opened:
        answer = opened.post("/v1/recommend", json={"user": " u1\u00a0"}).json()
        served = service.journal.find(answer["recommendation_id"])
        assert served is not None
        assert served.query["user"] == "u1"


def test_a_page_that_another_request_served_meanwhile_is_repeated(
    embedded: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.publish(given(documents()))
    with Service(settings_of(embedded, tmp_path), 5.0) as service, serving(service) as client:
        first = client.post("/v1/recommend", json={"user": "u1", "include_seen": True, "k": 2}).json()
        name, find = first["recommendation_id"], service.journal.find
        found = [find(name)]  # what the slower request read
        other = ServedPage([("f", 0.25)], first["tier"], first["release"], first["ranking"])
        assert service.journal.record(name, 2, {"user": "u1", "k": 2}, other)
        monkeypatch.setattr(service.journal, "find", lambda name: found.pop() if found else find(name))
        slower, again = client.get(first["next"]), client.get(first["next"])
        assert (ids(slower), ids(again)) == ("f", "f")


def test_an_answer_is_given_where_the_journal_cannot_be_written(embedded: Backend, tmp_path: Path) -> None:
    embedded.publish(given(documents()))
    settings = settings_of(embedded, tmp_path)
    with Service(settings, 5.0) as service, serving(service) as client:
        assert "vlm4rec_journal_failures_total 0.0" in client.get("/metrics").text
        with closing(sqlite3.connect(settings.served_file)) as connection:
            connection.execute("DROP TABLE recommendations")
        answer = client.post("/v1/recommend", json={"user": "u1", "include_seen": True, "k": 2})
        assert (len(ids(answer)), answer.json()["next"]) == (2, None)
        assert "vlm4rec_journal_failures_total 1.0" in client.get("/metrics").text


def test_an_answer_is_given_where_events_cannot_be_read(embedded: Backend, tmp_path: Path) -> None:
    embedded.publish(given(documents()))
    settings = settings_of(embedded, tmp_path)
    with Service(settings, 5.0) as service, serving(service) as client:
        with closing(sqlite3.connect(settings.events_file)) as connection:
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                connection.execute(f"DROP TABLE IF EXISTS {table}" if "sqlite" not in table else "SELECT 1")
        answer = client.post("/v1/recommend", json={"user": "u1", "include_seen": True, "k": 2})
        assert len(ids(answer)) == 2
        assert answer.json()["degraded"] == "what the shopper did since the release was made is not known"
        assert client.post("/v1/recommend", json={"items": ["a"]}).json()["degraded"] is None


def test_a_server_that_refuses_access_is_away_for_shoppers(
    opensearch_url: str, own_prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Server(opensearch_url, own_prefix).publish(given(documents()))
    refused: list[int] = []
    with proxy(opensearch_url, guard=lambda _: refused[-1] if refused else 0) as url:
        settings = settings_of(Server(url, own_prefix), tmp_path)
        with Service(settings, 60.0) as service, serving(service, page_token=TOKEN) as client:
            assert client.get("/readyz").status_code == 200
            client.get("/unlock", params={"token": TOKEN})  # the page, in whose cookie the token then is
            for status in (401, 403):
                refused.append(status)
                answer = client.post("/v1/recommend", json={"user": "u1", "include_seen": True, "k": 2})
                assert len(ids(answer)) == 2
                assert answer.json()["degraded"].startswith("the server refuses access, so the answer")
                for address in ("/readyz", "/v1/users/u1"):
                    problem = client.get(address)
                    assert (problem.status_code, "VLM4REC" in problem.text) == (503, False)
                seen = client.get("/look", params={"user": "u1"})
                assert (seen.status_code, "VLM4REC" in seen.text) == (200, False)
                assert "the server refuses access, so the answer" in seen.text
                gone = client.get("/releases")
                assert (gone.status_code, "VLM4REC" in gone.text) == (503, False)
    assert "check VLM4REC_INDEX_USER" in caplog.text


def test_rules_are_read_while_the_release_cannot_be_followed(embedded: Backend, tmp_path: Path) -> None:
    embedded.publish(given(documents()))
    settings = settings_of(embedded, tmp_path)
    with Service(settings, 0.1) as service, serving(service) as client:
        (Path(settings.index_url) / POINTER).write_text("gone")
        assert settings.rules is not None
        settings.rules.write_text("rules:\n  - {action: drop, items: [b], reason: recalled}\n")
        body = {"user": "u1", "include_seen": True, "k": 10}
        wait_until(lambda: "b" not in ids(client.post("/v1/recommend", json=body)))
        wait_until(lambda: "names the release gone, which is gone" in str(client.get("/readyz").json()["problem"]))
        settings.rules.write_text("rules: 7")
        wait_until(lambda: len(str(client.get("/readyz").json()["problem"]).split("; ")) > 1)


def test_a_service_removes_old_answers(embedded: Backend, tmp_path: Path) -> None:
    embedded.publish(given(documents()))
    settings = settings_of(embedded, tmp_path)
    with Service(settings, 5.0) as service, serving(service) as client:
        answer = client.post("/v1/recommend", json={"user": "u1", "k": 1, "include_seen": True}).json()
        name = answer["recommendation_id"]
    with closing(sqlite3.connect(settings.served_file)) as connection, connection:
        connection.execute("UPDATE recommendations SET served_at = served_at - 91 * 86400")
    with Service(settings, 5.0) as service:
        wait_until(lambda: service.journal.find(name) is None)


def test_no_answer_waits_for_a_locked_journal(embedded: Backend, tmp_path: Path) -> None:
    embedded.publish(given(documents()))
    settings = settings_of(embedded, tmp_path)
    with Service(settings, 5.0) as service, serving(service) as client:
        first = client.post("/v1/recommend", json={"user": "u1", "include_seen": True, "k": 2}).json()
        with closing(sqlite3.connect(settings.served_file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            body = {"user": "u1", "include_seen": True, "k": 2}
            # At most 0.25 s each; after the 5 s that an opening waits, the client would have given up.
            answers = [client.post("/v1/recommend", json=body, timeout=4.0) for _ in range(5)]
            assert {(len(ids(answer)), answer.json()["next"]) for answer in answers} == {(2, None)}
            assert "vlm4rec_journal_failures_total 5.0" in client.get("/metrics").text
            page = client.get(first["next"])  # what was promised before is still read
            assert (len(ids(page)), page.json()["next"]) == (2, None)
            other.execute("ROLLBACK")
        assert client.post("/v1/recommend", json=body).json()["next"]


def test_a_release_that_was_deleted_is_unknown(opensearch_url: str, own_prefix: str, tmp_path: Path) -> None:
    server = Server(opensearch_url, own_prefix)
    old, *_ = (server.publish(labelled_tables(label), meta()) for label in ("old", "new", "new"))
    settings = settings_of(server, tmp_path)
    experiment = f"experiments:\n  new: {{b: {{release: {old}}}, share: 0.99}}\n"
    (tmp_path / "rules.yaml").write_text(experiment)
    with Service(settings, 5.0) as service, serving(service) as client:
        before = [client.post("/v1/recommend", json={"user": f"u{number}"}).json() for number in range(4)]
        assert old in {answer["release"] for answer in before}
        assert server.releases.prune(1) == [old]
        after = [client.post("/v1/recommend", json={"user": f"u{number}"}) for number in range(4)]
        assert {answer.status_code for answer in after} == {200}
        assert {answer.json()["release"] for answer in after} == {service.index.release.name}
        for _ in range(2):
            gone = client.post("/v1/recommend", json={"user": "u1", "release": old})
            assert (gone.status_code, "there is no release" in gone.json()["detail"]) == (400, True)


def test_shoppers_items_and_releases_are_shown(client: httpx.Client) -> None:
    user = client.get("/v1/users/u1").json()
    assert (user["has_profile"], user["words"], user["seen"]) == (True, ["red", "dress"], 3)
    assert [(each["item_id"], each["title"]) for each in user["history"]] == [("a", "red dress"), ("d", "red lamp")]
    item = client.get("/v1/items/a").json()
    assert (item["title"], item["caption"], item["attributes"]["brand"]) == ("red dress", "A red item", "Alder")
    (release,) = [each for each in client.get("/v1/releases").json() if each["live"]]
    assert (release["documents"], release["users"]) == (6, 4)
    assert client.get("/v1/users/nobody").status_code == 404
    assert client.get("/readyz").json() == {"status": "ready", "release": release["name"], "problem": None}


THREADS = 40  # of the framework, in which requests are answered
WRONG = {
    "no subject": ({}, 422, "give a user, items of a session, or both"),
    "unknown key": ({"user": "u1", "colour": "red"}, 422, "colour: there is no such field: GET /openapi.json"),
    "a blend": ({"user": "u1", "fusion": "blend"}, 422, "fusion: Input should be 'rrf', 'minmax' or 'zscore'"),
    "too many": ({"user": "u1", "k": 1000}, 422, "k: Input should be less than or equal to 100"),
    "a filter": ({"user": "u1", "filters": ["price>cheap"]}, 400, "is not a number"),
    "a field": ({"user": "u1", "filters": ["colour=red"]}, 400, "no item has the field 'colour': the fields are"),
    "a scenario": ({"user": "u1", "scenario": "mail"}, 400, "there is no scenario 'mail'; known are cart"),
    "a ranking": ({"user": "u1", "ranking": "best"}, 400, "the service knows no ranking 'best': known are popular"),
    "a release": ({"user": "u1", "release": "../../etc/passwd"}, 400, ""),
    "a surrogate": ({"user": "\ud800"}, 422, "user: Input should be a valid string"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_a_problem_that_says_what_to_do(client: httpx.Client, case: str) -> None:
    body, status, detail = WRONG[case]
    content = json.dumps(body).encode()  # a lone surrogate is escaped
    response = client.post("/v1/recommend", content=content, headers={"content-type": "application/json"})
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert response.json()["status"] == status
    assert detail in response.json()["detail"]


def test_bodies_that_are_no_request_are_refused(client: httpx.Client) -> None:
    as_json = "send a JSON object with the header `content-type: application/json`"
    bodies = {
        b"{": (422, "the body is not JSON: Expecting property name enclosed in double quotes at character 1"),
        b"[]": (422, as_json),
        b"": (422, as_json),
        b"\xff": (400, "the body is not JSON in UTF-8, or it is nested too deeply"),
        b"[" * 100_000: (400, "the body is not JSON in UTF-8, or it is nested too deeply"),
        b"x" * 1_100_000: (413, "send at most 1024 kB"),
    }
    for content, (status, detail) in bodies.items():
        response = client.post("/v1/recommend", content=content, headers={"content-type": "application/json"})
        assert (response.status_code, response.json()["detail"]) == (status, detail), content[:10]
    assert client.post("/v1/recommend", content=b'{"user": "u1"}').json()["detail"] == as_json
    wrong_method = client.get("/v1/recommend")
    assert (wrong_method.status_code, wrong_method.json()["detail"].split(":")[0]) == (405, "the address takes no GET")
    assert client.get("/v2").json()["detail"] == "there is no such address: GET /openapi.json describes the API"


def test_requests_are_measured_and_have_an_id(client: httpx.Client) -> None:
    response = client.post("/v1/recommend", json={"user": "u1"}, headers={"X-Request-ID": "mine"})
    assert response.headers["x-request-id"] == "mine"
    text = client.get("/metrics").text
    assert 'vlm4rec_answers_total{endpoint="recommend",tier="profile"}' in text
    assert 'vlm4rec_request_seconds_count{endpoint="/v1/recommend",status="200"}' in text
    assert "vlm4rec_release_age_seconds" in text
    counted = dict(re.findall(r'^vlm4rec_retriever_seconds_count\{retriever="([a-z-]+)"\} (\S+)', text, re.MULTILINE))
    assert {"profile", "words"} <= set(counted)


def test_a_page_that_is_fetched_again_is_no_search(client: httpx.Client) -> None:
    def searches() -> float:
        return sum(map(float, re.findall(r"vlm4rec_search_seconds_count\{.*\} (.*)", client.get("/metrics").text)))

    before = searches()
    served = client.post("/v1/recommend", json={"user": "u1"}).json()["recommendation_id"]
    assert client.get(f"/v1/recommendations/{served}").status_code == 200
    assert searches() == before + 1


def test_the_dashboard_and_the_alerts_name_metrics_that_exist(client: httpx.Client) -> None:
    client.post("/v1/recommend", json={"user": "u1"})
    seen = {"action_name": "impression", "timestamp": "2026-11-28T12:00:00Z", "user_id": "visitor"}
    client.post("/v1/events", json={"events": [seen]})
    measured = set(re.findall(r"^(\w+?)(?:\{|\s)", client.get("/metrics").text, re.MULTILINE))
    board = json.loads((ROOT / "examples" / "grafana" / "dashboard.json").read_text("utf-8"))
    alerts = yaml.safe_load((ROOT / "examples" / "grafana" / "alerts.yaml").read_text("utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    queries += [each["query"] for each in board["templating"]["list"]]
    named = {name for query in queries for name in re.findall(r"\b(?:vlm4rec|process)_\w+", query)}
    assert len(named) > 8
    assert named - measured == set()
    answers = [query for query in queries if '"/v1/.*"' in query]
    assert [query for query in answers if 'endpoint!="/v1/events"' not in query] == []  # they answer nothing, and fast


def test_a_request_is_one_line_of_the_log_without_texts_and_ids(
    client: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(0, "json")
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {
        "X-Request-ID": "mine",
        "traceparent": f"00-{trace}-b7ad6b7169203331-01",
        "Authorization": "Bearer secret",
    }
    try:
        client.post("/v1/search", json={"user": "u1", "text": "private words"}, headers=headers)
        client.get("/v1/users/u1", headers=headers)
    finally:
        written = capsys.readouterr().err
        configure_logging()
    lines = [json.loads(line) for line in written.splitlines() if '"request_id"' in line]
    assert [(line["endpoint"], line["status"], line["request_id"]) for line in lines] == [
        ("/v1/search", 200, "mine"),
        ("/v1/users/{user_id:path}", 200, "mine"),
    ]
    assert {line["trace_id"] for line in lines} == {trace}
    assert not re.search("private|u1|secret", written)


def test_keys_guard_all_but_the_health(backend: Backend, tmp_path: Path) -> None:
    backend.publish(labelled_tables("old"))
    key = "k" * 20
    with Service(settings_of(backend, tmp_path), 0.1) as service, serving(service, [key]) as client:
        assert client.get("/healthz").status_code == 200
        refused = client.post("/v1/recommend", json={"user": "u1"})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert key not in refused.text
        for header, status in ((f"Bearer {key}", 200), (f"bearer {key}", 200), ("Bearer wrong", 401), (key, 401)):
            got = client.post("/v1/recommend", json={"user": "u1"}, headers={"Authorization": header})
            assert got.status_code == status, header


def test_a_new_release_answers_within_seconds_and_an_old_one_on_demand(backend: Backend, tmp_path: Path) -> None:
    old = backend.publish(labelled_tables("old"))
    with Service(settings_of(backend, tmp_path), 0.1) as service, serving(service) as client:
        first = client.post("/v1/recommend", json={"user": "u1", "k": 2}).json()
        assert first["release"] == old
        new = backend.publish(labelled_tables("new"), meta())
        wait_until(lambda: client.get("/readyz").json()["release"] == new)
        page = client.get(first["next"]).json()
        assert page["release"] == new
        shown = [item["item_id"] for item in (*first["items"], *page["items"])]
        assert len(shown) == len(set(shown)) == 4
        again = client.post("/v1/recommend", json={"user": "u1", "k": 2, "release": old}).json()
        assert (again["release"], again["items"]) == (old, first["items"])


def test_the_process_says_that_it_runs_while_all_threads_wait(
    embedded: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.publish(given(documents()))
    begun, done = threading.Semaphore(0), threading.Event()
    with Service(settings_of(embedded, tmp_path), 5.0) as service, serving(service) as client:
        search = service.index.search

        def wait(query: Query) -> Answer:
            begun.release()
            done.wait(60)
            return search(query)

        def ask() -> int:
            return httpx.post(f"{client.base_url}/v1/recommend", json={"user": "u1"}, timeout=60).status_code

        monkeypatch.setattr(service.index, "search", wait)
        with ThreadPoolExecutor(THREADS + 5) as pool:
            asked = [pool.submit(ask) for _ in range(THREADS + 5)]
            try:
                for _ in range(THREADS):
                    assert begun.acquire(timeout=60)
                assert client.get("/healthz").json() == {"status": "ok"}
            finally:
                done.set()
        assert [each.result() for each in asked] == [200] * (THREADS + 5)


def test_the_description_of_the_api_is_committed(client: httpx.Client) -> None:
    committed = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
    assert client.get("/openapi.json").json() == committed, "vlm4rec serve --openapi > docs/openapi.json"


EXAMPLES = [pytest.param(10, id="some"), pytest.param(200, id="many", marks=pytest.mark.long)]


@pytest.mark.parametrize("examples", EXAMPLES)
def test_no_request_that_the_description_allows_or_forbids_breaks_the_service(
    embedded: Backend, tmp_path: Path, examples: int
) -> None:
    embedded.publish(given(documents()))
    with Service(settings_of(embedded, tmp_path), 0.5) as service, serving(service) as client:
        options = ("--max-examples", str(examples), "--seed", "1", "--phases", "coverage,fuzzing", "--no-color")
        # An id that no release has is a 404 or a 400, and the methods that a path lacks are the framework's business.
        left_out = ("--exclude-checks", "positive_data_acceptance,unsupported_method")
        command = (str(BIN / "schemathesis"), "run", f"{client.base_url}/openapi.json", *options, *left_out)
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=500)
    assert done.returncode == 0, done.stdout[-5_000:]
    assert "11 passed" in done.stdout
