"""The reader of the other tests notices answers that mix releases, lose items, or fail."""

from helpers.alias_reader import publish_labelled, reading, search_hits
from helpers.server_releases import Window

from vlm4rec_search.indexes.opensearch.backend import OpenSearchBackend
from vlm4rec_search.indexes.opensearch.mapping import INDEX_KINDS
from vlm4rec_search.search.searcher import Searcher


def test_a_reader_sees_whole_releases(window: Window) -> None:
    publish_labelled(window, "old")
    with reading(window) as reader:
        publish_labelled(window, "new")
    reader.assert_saw("old", "new")


def test_a_reader_notices_a_profile_of_one_release_with_items_of_another(window: Window) -> None:
    old, new = (publish_labelled(window, label).meta.name for label in ("old", "new"))
    with reading(window) as reader:
        index = Searcher(OpenSearchBackend(window.catalogue))
        indices = {kind: window.catalogue.index(kind, old if kind == "profiles" else new) for kind in INDEX_KINDS}
        object.__setattr__(index.backend._opened.release, "indices", indices)
        reader.answers.update([search_hits(index)])
    (wrong,) = reader.wrong("old", "new")
    assert isinstance(wrong, tuple)
    assert (wrong[0], {title.split()[0] for _, title, _ in wrong[1]}) == (new, {"new"})
    assert "a" not in {item for item, _, _ in wrong[1]}  # the old profile has seen it


def test_a_reader_notices_a_lost_item_and_an_error(window: Window) -> None:
    live = publish_labelled(window, "old").meta.name
    with reading(window) as reader:
        window.client.delete(index=window.catalogue.index("items", live), id="b", refresh=True)
    assert ("old", 5) in reader.wrong("old")
    with reading(window) as reader:
        window.catalogue.delete(live)
    assert reader.failures
