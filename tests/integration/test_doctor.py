"""The doctor finds every seeded difference between tables and index, in a folder and on a server."""

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from helpers.derived_tables import scored
from helpers.six_items import ENCODER, documents, given, meta, neighbours, popularity, segments, users

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.embedded.pointer import release_path
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.indexes.search_layer import SearchLayer
from vlm4rec_search.pipeline.doctor import Finding, examine


def search_layer(frame: pd.DataFrame, encoder: str = ENCODER, people: pd.DataFrame | None = None) -> SearchLayer:
    tables = given(frame, people, popularity())
    return SearchLayer(tables, encoder, len(frame["vector"][0]), "attributes@1", "none@1", None)


def publish(releases: Releases, frame: pd.DataFrame, people: pd.DataFrame | None = None) -> None:
    releases.publish(given(frame, people), meta(), False, False)


def findings_of(findings: list[Finding], severity: str) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {finding.kind: (finding.count, finding.examples) for finding in findings if finding.severity == severity}


def test_an_index_of_these_tables_has_no_errors(releases: Releases) -> None:
    publish(releases, documents())
    findings = examine(releases, search_layer(documents()), 10)
    assert findings_of(findings, "error") == {}


def test_changed_tables_are_reported(releases: Releases) -> None:
    publish(releases, documents())
    frame = documents()
    frame.at[0, "title"] = "crimson dress"
    frame.loc[1, "item_id"] = "new"
    frame.at[2, "vector"] = np.float32([0, 0, 0, 1])
    errors = findings_of(examine(releases, search_layer(frame), 10), "error")
    assert errors == {
        "missing": (1, ("new",)),
        "extra": (1, ("b",)),
        "stale": (1, ("a",)),
        "vector_mismatch": (1, ("c",)),
    }


def test_drift_in_the_index_itself_is_found(releases: Releases) -> None:
    publish(releases, documents())
    damage(releases)
    errors = findings_of(examine(releases, search_layer(documents()), 10), "error")
    assert errors == {
        "missing": (1, ("f",)),
        "extra": (1, ("z",)),
        "stale": (1, ("b",)),
        "vector_mismatch": (1, ("c",)),
    }


def test_changed_behaviour_is_reported(releases: Releases) -> None:
    publish(releases, documents())
    tables = search_layer(documents()).tables
    more = popularity()
    more.at[3, "recent"] = 9  # of e
    near = neighbours()
    near.at[0, "similarity"] = 0.75  # of a
    liked = segments()
    liked.loc[[0, 2], "segment"] = ["t", "category:lamps"]  # only c remains in s
    changed = replace(tables, popularity=scored(more), neighbours=near, segments=liked)
    assert findings_of(examine(releases, replace(search_layer(documents()), tables=changed), 10), "error") == {
        "stale_behaviour": (2, ("a", "e")),
        "missing_segments": (1, ("t",)),
        "stale_segments": (1, ("s",)),
    }


def test_drift_of_profiles_is_found(opensearch_url: str, own_prefix: str) -> None:
    releases = OpenSearchReleases(connect(opensearch_url, Settings()), own_prefix, opensearch_url)
    publish(releases, documents())
    index, client = releases.catalogue.index("profiles", releases.live() or ""), releases.catalogue.client
    client.delete(index=index, id="u4")
    client.index(index=index, id="u9", body={"user_id": "u9"})
    client.index(index=index, id="u3", body={"user_id": "u3"}, refresh=True)  # edited by hand, without a hash
    people = users()
    people.at[0, "seen"] = ["a", "d"]  # without "gone"
    findings = examine(releases, search_layer(documents(), people=people), 10)
    assert findings_of(findings, "error") == {
        "missing_profiles": (1, ("u4",)),
        "extra_profiles": (1, ("u9",)),
        "stale_profiles": (2, ("u1", "u3")),
    }


def test_changed_profiles_are_reported(releases: Releases) -> None:
    publish(releases, documents())
    people = users()
    people.at[0, "seen"] = ["a", "d"]
    people.loc[1, "user_id"] = "u8"
    assert findings_of(examine(releases, search_layer(documents(), people=people), 10), "error") == {
        "missing_profiles": (1, ("u8",)),
        "extra_profiles": (1, ("u2",)),
        "stale_profiles": (1, ("u1",)),
    }


def damage(releases: Releases) -> None:
    """Delete f, add z, and change the title of b and the vector of c."""
    name = releases.live() or ""
    if isinstance(releases, OpenSearchReleases):
        index, client = releases.catalogue.index("items", name), releases.catalogue.client
        client.delete(index=index, id="f")
        by_hand = {"popularity": "7", "neighbours": {"item_id": "a", "similarity": 1}}
        client.index(index=index, id="z", body={"item_id": "z", "vector": [1, 0, 0, 0], **by_hand})
        client.update(index=index, id="b", body={"doc": {"title": "other"}})
        client.update(index=index, id="c", body={"doc": {"vector": [0, 0, 0, 1]}})
        client.indices.refresh(index=index)
        return
    with duckdb.connect(str(release_path(Path(releases.url), name))) as connection:
        connection.execute("UPDATE documents SET item_id = 'z', document = 5 WHERE item_id = 'f'")
        connection.execute("UPDATE documents SET title = 'other' WHERE item_id = 'b'")
        connection.execute("UPDATE vectors SET vector = [0, 0, 0, 1] WHERE document = 2")


def test_another_model_is_reported_once(releases: Releases) -> None:
    publish(releases, documents())
    frame = documents().assign(encoder="other-4@1")
    errors = findings_of(examine(releases, search_layer(frame, "other-4@1"), 10), "error")
    assert errors == {"wrong_model": (1, ("encoder hashing-4@1 in the index, other-4@1 in the tables",))}


def test_captions_that_items_share_are_a_warning(releases: Releases) -> None:
    frame = documents()
    frame.loc[[0, 3], "caption"] = "the same"
    publish(releases, frame)
    findings = examine(releases, search_layer(frame), 10)
    assert findings_of(findings, "error") == {}
    assert findings_of(findings, "warning")["duplicate_captions"] == (2, ("a", "d"))


def test_an_item_among_the_hits_of_all_shoppers_is_a_hub(releases: Releases) -> None:
    assert crowded(releases, last=(0.0, 0.0, 1.0, 0.0)) == {"hubs": (1, ("i119",))}


def test_an_item_among_the_hits_of_no_shopper_is_never_shown(releases: Releases) -> None:
    assert crowded(releases, last=(0.0, 0.0, -1.0, 0.0)) == {"never_shown": (1, ("i119",))}


def crowded(releases: Releases, last: tuple[float, ...]) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Publish 119 items on a circle and one more, for 60 shoppers above the circle, and return the warnings.

    A shopper's cosine with the circle is 0.6 at most, with its axis 0.8; the nearest ten of 119 cover the circle.
    """
    items = [*circle(119, 1.0, 0.0), np.float32(last)]
    frame = pd.concat([documents()[:1]] * 120, ignore_index=True)
    names = [f"i{number:03d}" for number in range(120)]
    frame = frame.assign(item_id=names, caption=names, vector=items)
    people = pd.concat([users()[3:]] * 60, ignore_index=True)
    people = people.assign(user_id=[f"u{number}" for number in range(60)], vector=circle(60, 0.6, 0.8))
    publish(releases, frame, people)
    return findings_of(examine(releases, search_layer(frame, people=people), 60), "warning")


def circle(count: int, radius: float, height: float) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    angles = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return [np.float32([radius * np.cos(angle), radius * np.sin(angle), height, 0.0]) for angle in angles]


def test_an_index_without_a_release_is_reported(releases: Releases) -> None:
    with pytest.raises(UsageError, match="nothing is published in"):
        examine(releases, search_layer(documents()), 10)
