"""Publications that the server refuses, wholly or in part, while a service searches all the time."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.alias_reader import labelled_tables, publish_labelled, reading
from helpers.faulty_proxy import Fault, proxy
from helpers.server_releases import Window
from helpers.six_items import documents, meta

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.indexes.opensearch.loader import load
from vlm4rec_search.indexes.opensearch.publish import publish_release
from vlm4rec_search.search.searcher import Searcher

BAD = '{"a": 1, "a": 2}'  # attributes that the server refuses, since a field is repeated


def test_many_answers_of_429_only_delay_a_publication(window: Window) -> None:
    publish_labelled(window, "old")
    busy = Fault(429, (("retry-after", "0"),))
    with (
        proxy(window.url, lambda number, _: None if number % 3 == 2 else busy) as url,
        reading(window) as reader,
    ):
        loads = publish_labelled(Window(url, window.catalogue.prefix), "new").loads
    assert [load.indexed for load in loads] == [6, 4, 2]
    assert sum(load.repeated for load in loads) > 5
    reader.assert_saw("old", "new")


def test_one_bad_document_in_ten_thousand_keeps_no_other_from_answering(window: Window) -> None:
    publish_labelled(window, "old")
    more = fillers(9_994)
    bad = more.assign(attributes=[BAD if item == "z04444" else None for item in more["item_id"]])
    with reading(window, many_documents=True) as reader:
        publication = publish_release(window.catalogue, labelled_tables("new", bad), meta())
    assert (publication.summary.documents, publication.loads[0].rejected) == (9_999, 1)
    (refused,) = publication.refused.to_pylist()
    assert (refused["id"], "Duplicate field" in refused["reason"]) == ("z04444", True)
    reader.assert_saw("old", new=labelled_tables("new", more[more["item_id"] != "z04444"]))


def fillers(count: int) -> pd.DataFrame:
    """Return items that are among no shopper's best: without interactions, terms of u1, or a vector near to others.

    All are equally far from the taste "new", so that no score depends on which of them an approximate search returns.
    No two vectors are equal, because a graph of neighbours may fall apart over thousands of equal vectors.
    """
    frame = pd.concat([documents()[5:]] * count, ignore_index=True)
    names = [f"z{number:05d}" for number in range(count)]
    around = np.random.default_rng(4).normal(size=(count, 3))
    around *= np.sqrt(0.75) / np.linalg.norm(around, axis=1, keepdims=True)
    away = np.insert(around, 1, -0.5, axis=1).astype(np.float32)
    frame = frame.assign(item_id=names, title="new thing", description=None, caption=None, vector=list(away))
    return frame.assign(content_hash=names)


@pytest.mark.parametrize("freed", [True, False], ids=["freed", "full"])
def test_a_disk_watermark_ends_a_publication_unless_space_is_freed(
    window: Window, monkeypatch: pytest.MonkeyPatch, freed: bool
) -> None:
    live = publish_labelled(window, "old").meta.name
    before = window.indexes()
    monkeypatch.setitem(load.__kwdefaults__, "patience", 60.0 if freed else 2.0)

    def judge(number: int, _: bytes) -> None:
        blocked = (
            None if freed and number >= 2 else True
        )  # at each request, since the server lifts the block when it looks at the disk
        for name in window.indexes() - before:
            settings = {"index.blocks.read_only_allow_delete": blocked}
            window.client.indices.put_settings(index=window.catalogue.prefix + name, body=settings)

    with proxy(window.url, judge) as url, reading(window) as reader:
        if freed:
            publish_labelled(Window(url, window.catalogue.prefix), "new")
        else:
            with pytest.raises(RunError, match=r"takes no documents: 429, .*disk usage.* Free disk space"):
                publish_labelled(Window(url, window.catalogue.prefix), "new")
            assert (window.catalogue.live(), window.indexes()) == (live, before)
    reader.assert_saw("old", *(["new"] if freed else []))


def test_an_index_in_place_of_an_alias_stays_and_the_release_keeps_answering(window: Window) -> None:
    live = publish_labelled(window, "old").meta.name
    alias, source = f"{window.catalogue.prefix}items", window.catalogue.index("items", live)
    window.client.indices.put_settings(index=source, body={"index.blocks.write": True})
    window.client.indices.delete_alias(index=source, name=alias)
    window.client.indices.clone(index=source, target=alias)
    with reading(window, live) as reader:
        for incremental in (False, True):
            with pytest.raises(UsageError, match=f"{alias} is an index on the server, not an alias"):
                publish_labelled(window, "new", incremental=incremental)
    reader.assert_saw("old")
    assert len(window.indexes()) == 3


def test_a_release_of_another_encoder_is_refused_as_incremental_and_published_as_full(window: Window) -> None:
    publish_labelled(window, "old")
    tables = labelled_tables("new")
    assert isinstance(tables.documents, pd.DataFrame)
    other = replace(tables, documents=tables.documents.assign(encoder="other-4@1"))
    with reading(window) as reader:
        with pytest.raises(UsageError, match="has the encoder hashing-4@1, the tables have other-4@1"):
            publish_release(window.catalogue, other, meta("other-4@1"), incremental=True)
        assert Searcher(OpenSearchBackend(window.catalogue), "hashing-4@1").release.encoder == "hashing-4@1"
        publish_release(window.catalogue, other, meta("other-4@1"))
        with pytest.raises(UsageError, match="was built by the encoder other-4@1, not by hashing-4@1"):
            Searcher(OpenSearchBackend(window.catalogue), "hashing-4@1")
    reader.assert_saw("old", "new")
