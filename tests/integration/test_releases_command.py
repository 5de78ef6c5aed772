"""`vlm4rec releases` lists, compares, rolls back and prunes in a folder and on a server; and the file of records."""

from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from helpers.faulty_proxy import Fault, proxy
from helpers.server_releases import relabelled
from helpers.six_items import documents, given, meta
from helpers.workspace import Workspace

from vlm4rec_search import Query
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import ExplicitSettings, Settings
from vlm4rec_search.embeddings.minilm import MiniLMEncoder
from vlm4rec_search.indexes import open_releases
from vlm4rec_search.indexes.embedded.pointer import publishing
from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.pipeline.diff import compare_releases
from vlm4rec_search.pipeline.publish import publish_index
from vlm4rec_search.pipeline.record import record_failure, record_publication
from vlm4rec_search.search.rules import Rule

pytestmark = pytest.mark.usefixtures("in_process")


def publish(releases: Releases, label: str) -> str:
    return releases.publish(given(relabelled(label)), meta(), False, False).meta.name


def test_rollback_activates_the_previous_or_a_named_release(releases: Releases) -> None:
    first, second, third = (publish(releases, label) for label in ("one", "two", "three"))
    assert list(releases.list()) == [first, second, third]
    assert (releases.rollback(None), releases.live()) == (second, second)
    assert releases.rollback(None) == first
    with pytest.raises(UsageError, match=f"there is no release before {first}"):
        releases.rollback(None)
    assert releases.rollback(third) == releases.live() == third
    with pytest.raises(UsageError, match=r"there is no release items__v4__none in .*`vlm4rec releases list`"):
        releases.rollback("items__v4__none")
    assert releases.prune(1) == [first]  # the one before the live release is kept
    assert list(releases.list()) == [second, third]


def test_diff_counts_documents_and_the_overlap_of_hits(releases: Releases) -> None:
    first = publish(releases, "one")
    frame = relabelled("one")
    frame.at[1, "vector"] = frame.at[5, "vector"]  # b moves to f
    frame.loc[1, "content_hash"] = "b2"
    frame.loc[2, "item_id"] = "new"
    releases.publish(given(frame[:5]), meta(), incremental=False, force=True)
    differences = compare_releases(releases, first, None, 10)
    assert (differences.added, differences.changed, differences.deleted) == (1, 1, 2)
    assert differences.examples == {"added": ["new"], "changed": ["b"], "deleted": ["c", "f"]}
    assert differences.second == releases.live()
    # all unseen items are hits: u1 has b, c, e, f, then b, e, new; u2 a, b, d, e, f, then a, b, d, e, new
    assert differences.overlap["semantic"] == pytest.approx((2 / 4 + 4 / 5) / 2, abs=1e-4)
    compared = differences.compared
    assert (differences.users, compared["semantic"], compared["fitted"]) == (4, 2, 1), "u1 alone has a learned vector"
    dropped = ("dresses", "lamps")  # c and f remain, then new
    rules = [Rule(action="drop", filter=f"category={category}") for category in dropped]
    assert compare_releases(releases, first, None, 10, rules=rules).overlap["semantic"] == 0.0


def test_a_comparison_asks_again_where_a_server_is_too_slow(opensearch_url: str, own_prefix: str) -> None:
    settings = Settings(index_prefix=own_prefix, search_deadline=3.0)
    with open_releases(opensearch_url, settings) as releases:
        first = publish(releases, "one")
    slow: list[bytes] = []

    def judge(_: int, body: bytes) -> Fault | None:
        if slow or b"knn" not in body:
            return None
        slow.append(body)
        return Fault(delay=6.0)

    with proxy(opensearch_url, judge, judged="/_msearch") as url, open_releases(url, settings) as releases:
        differences = compare_releases(releases, first, first, 10)
    assert slow
    assert set(differences.overlap.values()) == {1.0}


def test_an_opened_release_takes_weights_from_the_source_of_the_settings(
    place: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # without the weights that this user has already
    folder, made = tmp_path / "mirror", meta(MiniLMEncoder().id)
    releases = open_releases(place.index_url, place.model_copy(update={"weights": str(folder)}))
    releases.publish(given(documents().assign(encoder=made.encoder)), made, False, False)
    with releases.open(made.name) as index, pytest.raises(RunError, match=f"{folder} does not have "):
        index.search(Query(text="red dress"))


def test_an_empty_index_has_no_releases(releases: Releases) -> None:
    assert (releases.live(), list(releases.list())) == (None, [])
    with pytest.raises(UsageError, match=r"nothing is published in .*: run `vlm4rec index` first"):
        releases.rollback(None)


def test_an_embedded_release_is_built_whole_and_alone(tmp_path: Path) -> None:
    releases = open_releases(str(tmp_path), Settings())
    with pytest.raises(UsageError, match="always built whole: leave out --incremental"):
        releases.publish(given(documents()), meta(), True, False)
    publish(releases, "one")
    name = publish(releases, "two")
    with publishing(tmp_path, "items__three") as path:
        path.touch()
        with pytest.raises(RunError, match="another build is running"):
            releases.prune(1)
    assert name in releases.list()


def test_a_rollback_in_a_folder_waits_for_no_build_and_the_build_does_not_go_live_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = open_releases(str(tmp_path), Settings())
    first, second = (publish(releases, label) for label in ("one", "two"))
    live_names: list[str | None] = []

    def roll_back(*_: object) -> None:
        live_names.extend([releases.rollback(None), releases.live()])

    with monkeypatch.context() as during, pytest.raises(RunError, match=f"not published: {first} was activated while"):
        during.setattr("vlm4rec_search.indexes.embedded.publish.verify_file", roll_back)
        publish(releases, "three")
    assert live_names == [first, first]
    *_, built = releases.list()
    assert built not in (first, second)
    assert releases.rollback(built) == built == releases.live()
    with monkeypatch.context() as during:
        during.setattr("vlm4rec_search.indexes.embedded.publish.verify_file", roll_back)
        forced = releases.publish(given(relabelled("four")), meta(), False, True).meta.name
    assert releases.live() == forced


def test_publications_are_recorded_with_refused_documents(releases: Releases, tmp_path: Path) -> None:
    file = tmp_path / "records" / "releases.duckdb"
    frame = documents()
    frame.loc[5, "encoder"] = "other@1"
    publication = releases.publish(given(frame), meta(), False, False)
    record_publication(file, releases.url, publication)
    record_failure(file, releases.url, "incremental", meta(), "it was not to be")
    with duckdb.connect(str(file)) as connection:
        rows = connection.execute("SELECT release, mode, outcome, documents, rejected FROM releases").fetchall()
        dead_letters = connection.execute("SELECT * FROM dead_letters").fetchall()
        loads = connection.execute("SELECT release, indexed FROM loads ORDER BY indexed").fetchall()
    name = publication.meta.name
    assert rows[0] == (name, "full", "published", 5, 1)
    assert rows[1][1:] == ("incremental", "it was not to be", 0, None)
    assert dead_letters == [(name, "document", "f", "grey chair", "vector of the encoder other@1")]
    assert loads == ([] if "://" not in releases.url else [(name, 2), (name, 4), (name, 5)])


def test_a_file_of_records_that_cannot_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm4rec_search.common.records.PATIENCE", 0.5)
    (tmp_path / "releases.duckdb").write_text("no database")
    with pytest.raises(RunError, match=r"cannot write .*releases\.duckdb .*: it is damaged: move it away, and take it"):
        record_failure(tmp_path / "releases.duckdb", "index", "full", meta(), "")
    inside = tmp_path / "releases.duckdb" / "releases.duckdb"  # whose folder is a file
    with pytest.raises(RunError, match=r"cannot write .* \((Not a directory|File exists)\): .* set VLM4REC_RELEASES"):
        record_failure(inside, "index", "full", meta(), "")


@pytest.mark.parametrize("kept", [0, 5_000, 100_000], ids=["empty", "without its headers", "cut"])
def test_a_damaged_file_of_records_stops_a_publication_before_it_begins(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "releases.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE TABLE rows AS SELECT hash(range) AS number FROM range(100_000)")
    file.write_bytes(file.read_bytes()[:kept])
    settings = ExplicitSettings(project=None, index_url=str(tmp_path / "index"), releases=file)
    with pytest.raises(RunError, match=r"cannot write .*releases\.duckdb .*: it is damaged: move it away, and take it"):
        publish_index(settings)
    assert [*tmp_path.iterdir()] == [file]


def test_the_commands_list_roll_back_and_prune(workspace: Workspace) -> None:
    releases = open_releases(str(workspace.folder / "index"), Settings())
    first, second = (publish(releases, label) for label in ("one", "two"))
    listed = workspace.json("releases", "list")
    assert (listed["live"], [row["name"] for row in listed["releases"]]) == (second, [first, second])
    assert [row["live"] for row in listed["releases"]] == [False, True]
    assert f"* {second}\n    6 documents, 4 profiles" in workspace.run("vlm4rec", "releases", "list")
    diff = workspace.json("releases", "diff", first)
    assert (diff["added"], diff["changed"], diff["deleted"]) == (0, 6, 0)
    assert diff["examples"] == {"added": [], "changed": ["a", "b", "c", "d", "e", "f"], "deleted": []}
    assert diff["kept"]["semantic"] == 1.0
    exposures = [diff[f"{place}_exposure"] for place in ("first", "second")]
    assert exposures[0] == exposures[1]
    assert (exposures[0]["shoppers"], exposures[0]["documents"]) == (2, 6)
    share = f"{exposures[0]['first_share']:.0%}"
    shown = workspace.vlm4rec("releases", "diff", first)
    assert f"shoppers with the same first hit: {share} -> {share}" in shown
    assert "0 added, 6 changed, 0 deleted\n  changed, such as a, b, c, d, e, f\n" in shown
    assert "items in more than 100% of top tens: 0 -> 0" in shown  # three times ten of six items, but no more than all
    assert workspace.json("releases", "rollback") == {"live": first}
    assert workspace.vlm4rec("releases", "prune", "--keep", "1") == "Removed: no release\n"
    assert "there is no release nothing" in workspace.vlm4rec("releases", "diff", "nothing", code=2)


def test_a_long_description_of_a_ranking_is_listed_in_lines(workspace: Workspace) -> None:
    chosen = replace(meta(), chosen="chosen from the tables, " * 5 + "the\nend")
    open_releases(str(workspace.folder / "index"), Settings()).publish(given(documents()), chosen, False, False)
    lines = workspace.vlm4rec("releases", "list").splitlines()
    assert lines[2:4] == [
        "    ranking chosen from the tables, chosen from the tables, chosen from the",
        "        tables, chosen from the tables, chosen from the tables, the end",
    ]


def test_the_commands_go_back_from_a_live_release_that_cannot_be_read(workspace: Workspace) -> None:
    releases = open_releases(str(workspace.folder / "index"), Settings())
    first, second, third = (publish(releases, label) for label in ("one", "two", "three"))
    file = workspace.folder / "index" / "releases" / f"{third}.duckdb"
    whole = file.read_bytes()
    file.write_bytes(b"\xff" * 8192 + whole[8192:])
    listing = workspace.vlm4rec("releases", "list", code=1)
    assert f"* {third}\n    cannot be opened: cannot read the release" in listing
    cure = "go back with `vlm4rec releases rollback`, or publish again with `vlm4rec index`"
    assert f"{file.relative_to(workspace.folder)} (" in listing and cure in listing
    assert [f"  {name}\n    6 documents" in listing for name in (first, second)] == [True, True]
    assert cure in workspace.vlm4rec("search", "--user", "u1", code=1)
    assert workspace.json("releases", "rollback") == {"live": second}
    assert "cannot read the release" in workspace.vlm4rec("releases", "rollback", third, code=1)
    listed = workspace.json("releases", "list")
    assert (listed["live"], listed["problem"]) == (second, None)
    assert [bool(row["problem"]) for row in listed["releases"]] == [False, False, True]
    with duckdb.connect(str(file.with_name(f"{first}.duckdb"))) as connection:
        connection.execute("ALTER TABLE release DROP COLUMN encoder")
    assert "cannot be opened: cannot read the release" in workspace.vlm4rec("releases", "list").split(second)[0]


def test_the_commands_go_back_from_a_live_release_that_is_gone(workspace: Workspace) -> None:
    releases = open_releases(str(workspace.folder / "index"), Settings())
    first, second = (publish(releases, label) for label in ("one", "two"))
    (workspace.folder / "index" / "releases" / f"{second}.duckdb").unlink()
    listing = workspace.vlm4rec("releases", "list", code=1)
    assert f"  {first}\n" in listing
    assert "* is live" not in listing
    assert f"the live release {second} is gone from index: go back with `vlm4rec releases rollback`" in listing
    assert "which is gone: go back with `vlm4rec releases rollback`" in workspace.vlm4rec(
        "search", "--user", "u1", code=1
    )
    assert workspace.json("releases", "rollback") == {"live": first}
    (workspace.folder / "index" / "current").write_text("../nothing")
    assert "name a release of `vlm4rec releases list`" in workspace.vlm4rec("releases", "rollback", code=1)
    assert "name a release of `vlm4rec releases list`" in workspace.vlm4rec("releases", "list", code=1)
    assert workspace.json("releases", "rollback", first) == {"live": first}
    (workspace.folder / "index" / "current").write_text("../nothing")
    assert releases.live_release() is None  # so that a publication goes on
    assert publish(releases, "three") == releases.live()
