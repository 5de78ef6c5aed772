"""What only a server does: requests as they are sent, look-ups, limits, templates, releases that go away."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from helpers.backends import Server
from helpers.faulty_proxy import Fault, proxy
from helpers.opensearch_server import forget
from helpers.six_items import RANKING, documents, given, publish, users

from vlm4rec_search import Query
from vlm4rec_search.cli import main
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings, settings
from vlm4rec_search.indexes import Searcher, open_index
from vlm4rec_search.indexes.opensearch import native
from vlm4rec_search.indexes.opensearch.aliases import ReleaseCatalogue
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.sender import Sender
from vlm4rec_search.search.backend import SentRequest
from vlm4rec_search.search.rules import Rule


@pytest.fixture(scope="module")
def index(server: Server) -> Iterator[Searcher]:
    server.publish(given(documents()))
    with server.open(ranking=RANKING) as opened:
        yield opened


@pytest.fixture
def here(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of a user of the server."""
    monkeypatch.setenv("VLM4REC_INDEX_PREFIX", server.prefix)
    monkeypatch.setenv("VLM4REC_INDEX_URL", server.url)
    monkeypatch.setenv("VLM4REC_ENCODER", "hashing-4")
    settings.cache_clear()
    yield
    settings.cache_clear()


def post(server: Server, sent: SentRequest) -> Any:
    kind = "application/x-ndjson" if "_msearch" in sent.path else "application/json"
    answer = httpx.request(sent.method, server.url + sent.path, content=sent.body, headers={"content-type": kind})
    return answer.raise_for_status().json()


def test_the_values_of_candidates_are_read_only_where_a_rule_has_a_filter(index: Searcher) -> None:
    pin, bury = Rule(action="pin", items=("f",)), Rule(action="bury", filter="available=false")
    try:
        for rules, reads in (([pin], 0), ([pin, bury], 1)):
            index.rules = rules
            assert len([sent for sent in index.requests(Query(user="u1")) if "facets" in sent.path]) == reads
    finally:
        index.rules = ()


@pytest.mark.parametrize("mode", ["semantic", "lexical", "behaviour"])
def test_what_is_printed_gives_the_same_hits_when_it_is_sent(server: Server, index: Searcher, mode: str) -> None:
    query = Query(user="u1", mode=mode, filters=["price<99"])  # type: ignore[arg-type]
    sent = index.requests(query)
    (searched,) = (one for one in sent if "_msearch" in one.path)
    ((found,),) = [post(server, searched)["responses"]]
    scores = {item: 2 * score - 1 if mode == "semantic" else score for score, item in
              (hit["sort"] for hit in found["hits"]["hits"])}  # fmt: skip
    hits = index.search(query).hits
    if mode == "behaviour":  # the scores come from the neighbours that were asked for before
        assert (set(scores), set(scores.values())) == ({hit.item_id for hit in hits}, {0.0})
    else:
        assert scores == pytest.approx({hit.item_id: hit.score for hit in hits}, abs=1e-6)
    shown = post(server, sent[-1])["docs"]
    assert {document["fields"]["title"][0] for document in shown} == {hit.title for hit in hits}


@pytest.mark.usefixtures("here", "index")
def test_the_command_prints_requests(server: Server) -> None:
    arguments = ["search", "--user", "u1", "--print-request"]
    (first, *_, last) = CliRunner().invoke(main, arguments, catch_exceptions=False).output.strip().split("\n\n")
    assert first.startswith(f"POST /{server.prefix}profiles__v8__hashing-4__")
    assert first.splitlines()[1] == '{"ids":["u1"]}'
    assert "stored_fields=title" in last
    printed = json.loads(CliRunner().invoke(main, [*arguments, "--json"], catch_exceptions=False).output)
    # the user; legs, together with where co-purchases come from; the co-purchases; what is shown
    together = (
        [False] * 4 if native.is_installed(Sender(connect(server.url, Settings()))) else [False, True, *[False] * 3]
    )
    assert [one["together"] for one in printed["requests"]] == together


def test_a_folder_has_no_requests(tmp_path: Path) -> None:
    publish(tmp_path)
    with open_index(str(tmp_path)) as opened, pytest.raises(UsageError, match="sends no requests"):
        opened.requests(Query(user="u1"))


@pytest.mark.usefixtures("here", "index")
def test_templates_search_as_the_package_does(server: Server, index: Searcher) -> None:
    output = CliRunner().invoke(main, ["templates", "install", "--json"], catch_exceptions=False).output
    names = json.loads(output)["installed"]
    assert names[:2] == [f"{server.prefix}vlm4rec-semantic-v1", f"{server.prefix}vlm4rec-lexical-v1"]
    client = connect(server.url, Settings())
    try:
        profile = index.backend.reader().user("u1")
        assert profile is not None
        assert profile.vector is not None
        shared = {"user": "u1", "filters": [{"terms": {"facets.available": ["true"]}}]}
        asked = {names[0]: {"vector": profile.vector.tolist()}, names[1]: {"text": 'blue "dress" {{k}} \\ AND -wood'}}
        if names[2:]:  # where the server can fuse
            asked[names[2]] = asked[names[0]] | asked[names[1]]
        found = {
            name: client.search_template(index=f"{server.prefix}items", body={"id": name, "params": shared | own})
            for name, own in asked.items()
        }
        ids = {name: [hit["_id"] for hit in answer["hits"]["hits"]] for name, answer in found.items()}
        text = asked[names[1]]["text"]
        for name, query in zip(
            names[:2], (Query(user="u1", mode="semantic"), Query(text=text, mode="lexical")), strict=True
        ):
            wanted = index.search(replace(query, filters=["available=true"])).hits
            assert ids[name] == [hit.item_id for hit in wanted if hit.item_id not in profile.seen]
        plain = {"vector": profile.vector.tolist()}
        for filters in ([], None, {"term": {"facets.available": "true"}}, [{"term": {"facets.available": "true"}}]):
            params = plain if filters is None else plain | {"filters": filters}
            answer = client.search_template(index=f"{server.prefix}items", body={"id": names[0], "params": params})
            wanted = index.search(Query(user="u1", mode="semantic", include_seen=True,
                                        filters=["available=true"] if filters else [])).hits  # fmt: skip
            assert [hit["_id"] for hit in answer["hits"]["hits"]] == [hit.item_id for hit in wanted], filters
        scores = [hit["_score"] for answer in found.values() for hit in answer["hits"]["hits"]]
        assert min(scores) > 0.0  # below it are those of a hybrid query without its pipeline
    finally:
        forget(client, names)


def test_more_than_1000_seen_items_are_looked_up_and_more_than_65536_spelled_out(server: Server) -> None:
    many = [f"x{number:05d}" for number in range(66_000)]
    people = users()[:2].assign(seen=[["a", *many[:1500]], [*many, "c"]], history=[[], []])
    server.publish(given(documents(), people))
    with server.open(ranking=RANKING) as opened:
        legs = {name: opened.requests(Query(user=name, mode="semantic"))[1].body for name in ("u1", "u2")}
        assert '"path":"seen"' in legs["u1"]
        assert "x00001" not in legs["u1"]
        assert "x65999" in legs["u2"]
        left = {name: {hit.item_id for hit in opened.search(Query(user=name, mode="semantic")).hits} for name in legs}
    assert left == {"u1": set("bcdef"), "u2": set("abdef")}


def test_a_text_of_too_many_words_is_told(index: Searcher) -> None:
    text = " ".join(f"word{number}" for number in range(400))
    with pytest.raises(UsageError, match=r"has 1,600 words and items, but a server takes 1000: use a shorter"):
        index.search(Query(text=text, mode="lexical"))
    few = " ".join(f"word{number}" for number in range(248))
    assert [hit.item_id for hit in index.search(Query(text=f"{few} shoes", mode="lexical")).hits] == ["c"]


def test_user_text_is_never_query_syntax(index: Searcher) -> None:
    for text in ("red OR lamp*", '"red" +lamp', "title: red lamp", "red\n{}\nlamp", "red) AND (lamp"):
        hits = index.search(Query(text=text, mode="lexical", explain=True)).hits
        assert {hit.item_id for hit in hits} >= set("ade"), text  # with red or lamp


def test_a_search_goes_on_when_its_release_is_deleted(server: Server) -> None:
    first = server.publish(given(documents()))
    with server.open(ranking=RANKING) as opened, server.releases.open(first) as named:
        assert opened.search(Query(user="u1")).release == first
        second = server.publish(given(documents()[1:]))
        assert opened.search(Query(user="u1")).release == first  # unchanged while it is there
        connect(server.url, Settings()).indices.delete(
            index=",".join(f"{server.prefix}{kind}{first.removeprefix('items')}" for kind in ("items", "profiles"))
        )
        answer = opened.search(Query(user="u2", items=["b"]))
        assert (answer.release, opened.release.name) == (second, second)
        assert {hit.item_id for hit in answer.hits} == set("def")
        with pytest.raises(RunError, match="the release is no longer there"):
            named.search(Query(user="u1"))


def test_requests_are_those_of_the_release_that_answers_after_a_deletion(server: Server) -> None:
    first = server.publish(given(documents()))
    with server.open(ranking=RANKING) as opened:
        server.publish(given(documents()))
        indices = (f"{server.prefix}{kind}{first.removeprefix('items')}" for kind in ("items", "profiles", "segments"))
        connect(server.url, Settings()).indices.delete(index=",".join(indices))
        sent = opened.requests(Query(user="u1"))
        assert sent
        assert not [request.path for request in sent if first.removeprefix("items") in request.path]


def test_an_empty_answer_survives_when_its_reason_cannot_be_found(server: Server) -> None:
    server.publish(given(documents().iloc[[0, 3]]))  # u1 has seen both
    seen = Query(user="u1", mode="semantic")
    notes = {
        "whether user u1 has seen what fits could not be checked: the server": seen,
        "nothing reaches the minimum score 9, and whether anything has a lower one could not be checked: the": replace(
            seen, include_seen=True, min_score=9.0
        ),
    }
    for status, (note, query) in product((503, 400), notes.items()):  # away, and refused

        def judge(number: int, _: bytes, status: int = status) -> Fault | None:
            return Fault(status=status) if number else None  # the search for the reason

        with proxy(server.url, judge, judged="/_msearch") as url, Server(url, server.prefix).open() as opened:
            answer = opened.search(query)
        assert answer.hits == ()
        assert note in (answer.note or "")
        assert f"the server refuses: status {status}" in (answer.note or "")


def test_an_index_that_cannot_be_opened_leaves_no_connection(server: Server, own_prefix: str) -> None:
    catalogue = ReleaseCatalogue(connect(server.url, Settings()), own_prefix)
    with pytest.raises(UsageError, match="nothing is published"):
        OpenSearchBackend(catalogue)
    assert catalogue.client.transport.get_connection().pool is None


def test_a_release_that_is_not_there(server: Server) -> None:
    with pytest.raises(UsageError, match="there is no release items__v4__none__1"):
        server.releases.open("items__v4__none__1")


@pytest.mark.usefixtures("here")
def test_errors_are_those_of_a_folder(server: Server, index: Searcher, own_prefix: str) -> None:
    with pytest.raises(UsageError, match="built by the encoder hashing-4@1, not by all-MiniLM-L6-v2"):
        server.open("all-MiniLM-L6-v2")
    with pytest.raises(UsageError, match=f"nothing is published in .* as {own_prefix}items: run `vlm4rec index` first"):
        Server(server.url, own_prefix).open()
    named = index.release.name
    client = connect(server.url, Settings())
    place = f"{server.prefix}{named}"
    told = client.indices.get_mapping(index=place)[place]["mappings"]["_meta"]
    client.indices.put_mapping(index=place, body={"_meta": {**told, "schema_version": 99}})
    with pytest.raises(
        UsageError, match=r"has schema version and analyzer \(99, 'vlm4rec_english@3'\), this package reads"
    ):
        server.releases.open(named)
    client.indices.put_mapping(index=place, body={"_meta": {}})
    with pytest.raises(RunError, match="has no readable metadata: go back with `vlm4rec releases rollback`"):
        server.releases.open(named)
    client.indices.put_mapping(index=place, body={"_meta": told})
