"""The doctor finds every seeded difference between tables and index, in a folder and on a server."""

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.derived_tables import scored
from helpers.six_items import ENCODER, documents, given, meta, neighbours, popularity, segments, users

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.indexes.embedded.pointer import release_path
from vlm4rec_search.indexes.embedded.releases import EmbeddedReleases
from vlm4rec_search.indexes.opensearch.connection import connect
from vlm4rec_search.indexes.opensearch.releases import OpenSearchReleases
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.indexes.search_layer import Frame, SearchLayer, SearchTables
from vlm4rec_search.pipeline.doctor import Diagnosis, examine
from vlm4rec_search.pipeline.idle_rules import describe_idleness, find_idle_rules
from vlm4rec_search.pipeline.lost_experiments import find_lost_experiments
from vlm4rec_search.pipeline.record import record_publication
from vlm4rec_search.search.experiments import Experiment, Variant
from vlm4rec_search.search.ranking import Weights, load_ranking
from vlm4rec_search.search.rules import Condition, Rule


def search_layer(frame: pd.DataFrame, encoder: str = ENCODER, people: pd.DataFrame | None = None) -> SearchLayer:
    frames = given(frame, people, popularity())
    given_tables = {each.name: getattr(frames, each.name) for each in fields(frames)}
    arrow = {name: as_arrow(table) for name, table in given_tables.items() if table is not None}
    return SearchLayer(SearchTables(**arrow), encoder, len(frame["vector"][0]), "attributes@1", "none@1", None)


def as_arrow(frame: Frame) -> pa.Table:
    if isinstance(frame, pd.DataFrame):
        return pa.Table.from_pandas(frame, preserve_index=False)
    return frame if isinstance(frame, pa.Table) else frame.to_arrow_table()


def publish(releases: Releases, frame: pd.DataFrame, people: pd.DataFrame | None = None) -> None:
    releases.publish(given(frame, people), meta(), False, False)


def findings_of(diagnosis: Diagnosis, severity: str) -> dict[str, tuple[int, tuple[str, ...]]]:
    found = [finding for finding in diagnosis.findings if finding.severity == severity]
    return {finding.kind: (finding.count, finding.examples) for finding in found}


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


def test_after_a_rollback_differences_are_expected(releases: Releases) -> None:
    publish(releases, documents())
    changed = documents().loc[:4].assign(title="one of five")
    releases.publish(given(changed), meta(), False, True)
    bad = search_layer(changed)
    assert "older_release" not in findings_of(examine(releases, bad, 10), "warning")
    newest = releases.live()
    releases.rollback(None)
    told = [f"{each.severity}: {each.text}" for each in examine(releases, bad, 10).findings]
    assert told[:2] == [
        "error: 1 document only in the index, such as f",
        "error: 5 documents with other content than in the tables, such as a, b, c, d, e",
    ]
    assert told[-1] == (
        f"warning: the live release is older than {newest} (rolled back?): that it differs from the tables is expected"
    )


def test_a_release_without_the_photos_of_the_tables_is_a_warning(releases: Releases) -> None:
    publish(releases, documents())
    layer = search_layer(documents())
    photos = pa.table({"item_id": ["a"], "encoder": ["thumbnail-2@1"], "vector": [[1.0, 0.0]]})
    with_photos = replace(layer, tables=replace(layer.tables, photos=photos))
    diagnosis = examine(releases, with_photos, 1)
    told = "image encoder None in the index, thumbnail-2@1 in the tables"
    assert findings_of(diagnosis, "warning")["other_photos"] == (1, (told,))
    assert findings_of(diagnosis, "error") == {}


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


def test_rows_that_publication_refused_are_a_warning(opensearch_url: str, own_prefix: str, tmp_path: Path) -> None:
    frame, liked = documents(), segments()
    frame.loc[5, "item_id"] = "f" * 600
    frame.loc[4, "attributes"] = '{"a": 1, "a": 2}'  # the server takes no field twice
    liked.loc[len(liked)] = liked.loc[0]
    liked.loc[len(liked) - 1, "segment"] = "z" * 600
    layer = search_layer(frame)
    layer = replace(layer, tables=replace(layer.tables, segments=as_arrow(liked)), table_version="1")
    made = replace(meta(), table_version="1")
    releases = OpenSearchReleases(connect(opensearch_url, Settings()), own_prefix, opensearch_url)
    records = tmp_path / "releases.duckdb"
    record_publication(records, opensearch_url, releases.publish(layer.tables, made, False, True))
    diagnosis = examine(releases, layer, 10, records=records)
    assert findings_of(diagnosis, "error") == {}
    warnings = findings_of(diagnosis, "warning")
    assert warnings["refused"] == (2, ("e", "f" * 600))
    assert warnings["refused_segments"] == (1, ("z" * 600,))
    without = findings_of(examine(releases, layer, 10, records=tmp_path / "none.duckdb"), "error")
    assert set(without) == {"missing", "missing_segments"}
    changed = examine(releases, replace(layer, table_version="2"), 10, records=records)
    assert findings_of(changed, "error") == {"missing": (1, ("e",))}
    assert findings_of(changed, "warning")["refused"] == (1, ("f" * 600,))


def test_an_item_that_was_mended_after_its_refusal_is_missing(releases: Releases, tmp_path: Path) -> None:
    frame, records = documents(), tmp_path / "releases.duckdb"
    frame.at[5, "vector"] = frame["vector"][5] * 2
    publication = releases.publish(search_layer(frame).tables, meta(), False, True)
    assert publication.refused["id"].to_pylist() == ["f"]
    record_publication(records, releases.url, publication)
    assert findings_of(examine(releases, search_layer(frame), 10, records=records), "error") == {}
    mended = examine(releases, search_layer(documents()), 10, records=records)
    assert findings_of(mended, "error")["missing"] == (1, ("f",))


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


AXIS = (0.0, 0.0, 1.0, 0.0)  # nearer to every shopper of `crowded` than any other item
FAR = (0.0, 0.0, -1.0, 0.0)


def test_shoppers_who_are_told_apart_give_no_warning(releases: Releases) -> None:
    diagnosis = crowded(releases, FAR)
    assert findings_of(diagnosis, "warning") == {}
    assert diagnosis.exposure.verdict.startswith("the ranking tells shoppers apart: 2% of 60 shoppers get the same")
    assert (diagnosis.exposure.shown, diagnosis.exposure.hidden) == (119, ("i119",))


def test_an_item_first_for_all_shoppers_is_reported(releases: Releases) -> None:
    diagnosis = crowded(releases, AXIS)
    assert findings_of(diagnosis, "warning") == {"same_first_hits": (60, ("i119",)), "hubs": (1, ("i119",))}
    verdict = diagnosis.exposure.verdict
    assert verdict.startswith("100% of 60 shoppers get the same first hit (i119), 1 item is in more than 30% of")
    assert verdict.endswith("of hits are long tail")  # no advice: popularity only breaks ties, and nothing is pinned


def test_items_that_are_never_shown_are_reported_where_there_are_too_many(releases: Releases) -> None:
    assert findings_of(crowded(releases, FAR, tastes=12), "warning") == {}  # each taste shows ten items of its own
    warnings = findings_of(crowded(releases, FAR, tastes=4), "warning")
    assert {kind: count for kind, (count, _) in warnings.items()} == {"same_first_hits": 15, "never_shown": 80}


def test_rules_that_touch_nothing_are_reported(releases: Releases) -> None:
    publish(releases, documents())
    rules = [
        Rule(action="drop", filter="brnad=Alder"),
        Rule(action="bury", filter="brand=alder"),
        Rule(action="boost", filter="price>1000", factor=2.0),
        Rule(action="pin", items=("a", "gone")),
        Rule(action="pin", items=("A",)),
        Rule(action="drop", filter="colour=red"),
        Rule(action="bury", filter="brand=Alder"),
        Rule(action="bury", filter="brand=Alder", when=Condition(until=datetime(2024, 1, 1, tzinfo=UTC))),
        Rule(action="bury", filter="brand=Alder", when=Condition(segment=("S",))),
        Rule(action="bury", filter="brand=Alder", when=Condition(segment=("s", "club"))),
        Rule(action="bury", filter="brand=Alder", when=Condition(segment=("s",), scenario=("mail",))),
        Rule(action="pin", items=("a",), when=Condition(category=("dresses", "shoos"))),
    ]
    found = find_idle_rules(rules, given(documents()))
    assert found == [
        "rule 1 (drop brnad=Alder): touches nothing: no item has the field 'brnad'; did you mean 'brand'?",
        "rule 2 (bury brand=alder): touches nothing: no item fulfils it; did you mean 'Alder'?",
        "rule 3 (boost price>1000): touches nothing: no item fulfils it; values are 10, 20, 30, 50, 99.5",
        "rule 4 (pin a, gone): not in the catalogue: gone",
        "rule 5 (pin A): touches nothing: not in the catalogue: A; did you mean 'a'?",
        "rule 6 (drop colour=red): touches nothing: no item has the field 'colour'; the fields are available, brand,"
        ' category, price, size, tags, we"ird.$/~field',
        "rule 8 (bury brand=Alder): it ended on 2024-01-01",
        "rule 9 (bury brand=Alder): touches nothing: no shopper is in the segment 'S'; did you mean 's'?",
        "rule 10 (bury brand=Alder): no shopper is in the segment 'club'",
        "rule 12 (pin a): no item has the category 'shoos'; did you mean 'shoes'?",
    ]
    diagnosis = examine(releases, search_layer(documents()), 10, rules=rules)
    assert findings_of(diagnosis, "warning")["idle_rules"] == (10, tuple(found[:5]))
    with releases.open(releases.find(None)) as index:
        reader = index.backend.reader()
        in_release = [describe_idleness(rule, reader) for rule in rules]
    assert [bool(each) for each in in_release] == [True] * 6 + [False, True] + [False] * 3 + [True]
    assert in_release[:2] == [
        "touches nothing: no item has the field 'brnad'; did you mean 'brand'?",
        "touches nothing: no item fulfils it; did you mean 'Alder'?",
    ]
    assert in_release[3:5] == ["not in the release: gone", "touches nothing: not in the release: A"]


def test_pins_are_left_out(releases: Releases) -> None:
    assert findings_of(crowded(releases, FAR, rules=[Rule(action="pin", items=("i119",))]), "warning") == {}


def test_shoppers_without_a_profile_are_left_out(releases: Releases) -> None:
    publish(releases, documents())
    exposure = examine(releases, search_layer(documents()), 10).exposure
    assert exposure.shoppers == 2  # u3 and u4 get what is popular
    assert exposure.verdict == "too little to judge: 2 shoppers with a profile, 6 documents"


def crowded(releases: Releases, last: tuple[float, ...], tastes: int = 60, rules: Sequence[Rule] = ()) -> Diagnosis:
    """Publish 119 items on a circle and one more, and examine 60 shoppers of so many tastes above the circle.

    A shopper's cosine with the circle is 0.6 at most, with its axis 0.8; the nearest ten of 119 cover the circle.
    """
    items = [*circle(119, 1.0, 0.0), np.float32(last)]
    frame = pd.concat([documents()[:1]] * 120, ignore_index=True)
    names = [f"i{number:03d}" for number in range(120)]
    frame = frame.assign(item_id=names, caption=names, vector=items)
    people = pd.concat([users()[3:]] * 60, ignore_index=True)
    vectors = circle(tastes, 0.6, 0.8) * (60 // tastes)
    people = people.assign(user_id=[f"u{number}" for number in range(60)], vector=vectors)
    publish(releases, frame, people)
    return examine(releases, search_layer(frame, people=people), 60, rules=rules)


def circle(count: int, radius: float, height: float) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    angles = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return [np.float32([radius * np.cos(angle), radius * np.sin(angle), height, 0.0]) for angle in angles]


def test_an_index_without_a_release_is_reported(releases: Releases) -> None:
    with pytest.raises(UsageError, match="nothing is published in"):
        examine(releases, search_layer(documents()), 10)


def test_a_ranking_without_its_vectors_and_a_lost_experiment_are_warnings(tmp_path: Path) -> None:
    releases, people = EmbeddedReleases(tmp_path), users().assign(fitted=None)
    tables = given(documents(), people)
    bare = replace(meta(), fitted=None, fitted_dimension=None)
    releases.publish(replace(tables, fitted=tables.fitted[:0]), bare, False, False)
    alone = Weights(**{**dict.fromkeys(Weights.model_fields, 0.0), "fitted": 1.0})
    ranking = load_ranking().model_copy(update={"weights": alone})
    lost = find_lost_experiments({"new": Experiment(b=Variant(release="gone"))}, releases)
    diagnosis = examine(
        releases, search_layer(documents()), 10, ranking, also={"lost_experiments": lost, "stale_fit": [None]}
    )
    warnings = findings_of(diagnosis, "warning")
    assert warnings["lost_experiments"] == (1, ("new (the release gone is gone or cannot be opened)",))
    assert warnings["idle_ranking"] == (1, (str(ranking.describe_missing(bare)),))
    assert "idle_ranking" not in findings_of(examine(releases, search_layer(documents()), 10), "warning")
