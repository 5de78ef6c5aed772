"""Mistakes of a user end with one line of message and exit code 2 or 1, never with a traceback."""

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from helpers.backends import Embedded
from helpers.six_items import documents, given
from helpers.workspace import ROOT, Workspace
from PIL import Image

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import settings
from vlm4rec_search.pipeline.variables import project_variables

pytestmark = pytest.mark.usefixtures("in_process")

ITEMS = "item_id,title\na,Oak chair\n"
LOG = "user_id,item_id,timestamp\nu,a,2025-03-01\n"


def write_data(workspace: Workspace, items: str | bytes = ITEMS, log: str | bytes = LOG) -> None:
    workspace.data.mkdir(exist_ok=True)
    for name, content in (("items.csv", items), ("interactions.csv", log)):
        (workspace.data / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def write_corrupt_parquet(workspace: Workspace) -> None:
    write_data(workspace)
    (workspace.data / "items.csv").unlink()
    (workspace.data / "items.parquet").write_bytes(b"PAR1 this is no parquet PAR1")


def write_truncated_gz(workspace: Workspace) -> None:
    write_data(workspace)
    (workspace.data / "interactions.csv").unlink()
    log = LOG + "".join(f"u{n},a,2025-03-01\n" for n in range(10_000))
    (workspace.data / "interactions.csv.gz").write_bytes(gzip.compress(log.encode())[:-2000])


def write_two_formats(workspace: Workspace) -> None:
    write_data(workspace)
    (workspace.data / "items.jsonl").write_text('{"item_id": "a", "title": "Oak chair"}\n')


PLANS: dict[str, tuple[Callable[[Workspace], object], str]] = {
    "missing data folder": (lambda w: None, "data folder data does not exist"),
    "missing file": (lambda w: w.data.mkdir(), "holds none of items.csv"),
    "missing column": (
        lambda w: write_data(w, items="id,title\na,Oak chair\n"),
        "has no column item_id; it has id, title",
    ),
    "missing column of the log": (lambda w: write_data(w, log="user_id,item_id\nu,a\n"), "has no column timestamp"),
    "empty file": (lambda w: write_data(w, items=""), "items.csv is empty"),
    "header only": (lambda w: write_data(w, items="item_id,title\n"), "it has a header and no rows"),
    "nothing that can be read": (
        lambda w: write_data(w, items=ITEMS.replace("chair", "chair,of,wood")),
        "none of its 1 records can be read; the first: line 2: 4 values, the header has 2",
    ),
    "unknown declaration": (
        lambda w: (write_data(w), (w.data / "contract.yaml").write_text("items: {delimeter: x}")),
        "items: unknown key delimeter: did you mean delimiter?",
    ),
    "corrupt parquet": (write_corrupt_parquet, "items.parquet cannot be read"),
    "truncated gz": (write_truncated_gz, "interactions.csv.gz cannot be read to its end"),
    "two formats": (write_two_formats, "keep one"),
}


def refused(workspace: Workspace) -> str:
    """Return why a plan is refused, without a process."""
    with workspace.inside(), pytest.raises(UsageError) as refusal:
        project_variables(settings())
    return str(refusal.value)


@pytest.mark.parametrize("case", PLANS)
def test_a_plan_on_bad_input_names_the_mistake(case: str, workspace: Workspace) -> None:
    prepare, message = PLANS[case]
    prepare(workspace)
    answer = refused(workspace)
    assert answer.count("\n") == 0
    assert message in answer


SETTINGS = {
    "VLM4REC_CAPTIONER": ("oracle", "unknown captioner 'oracle'"),
    "VLM4REC_IMAGE_ENCODER": ("oracle", "unknown image encoder 'oracle'"),
    "VLM4REC_AS_OF": ("soon", "VLM4REC_AS_OF"),
    "VLM4REC_WAREHOUSE": ("my-shop.duckdb", "use only letters, digits and _"),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_bad_setting_is_refused_in_one_line(setting: str, workspace: Workspace) -> None:
    write_data(workspace)
    workspace.settings[setting], message = SETTINGS[setting]
    answer = refused(workspace)
    assert message in answer
    assert answer.count("\n") == 0


@pytest.mark.parametrize(("case", "setting"), [("missing column", None), (None, "VLM4REC_AS_OF")])
def test_sqlmesh_tells_a_mistake_in_one_line(case: str | None, setting: str | None, workspace: Workspace) -> None:
    write_data(workspace)
    message = ""
    if case:
        prepare, message = PLANS[case]
        prepare(workspace)
    if setting:
        workspace.settings[setting], message = SETTINGS[setting]
    answer = workspace.plan(code=1)
    assert message in answer
    assert len([line for line in answer.splitlines() if line.strip()]) == 1, answer


HOLD = "import duckdb, sys; c = duckdb.connect('warehouse.duckdb'); print('held', flush=True); sys.stdin.read()"


def test_a_warehouse_that_another_process_has_open_is_refused(workspace: Workspace) -> None:
    write_data(workspace)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=workspace.folder, stdin=pipe, stdout=pipe, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for answer in (workspace.plan(code=1), *(workspace.vlm4rec(c, code=1) for c in ("check", "index"))):
            assert f"PID {holder.pid}" in answer
            assert len([line for line in answer.splitlines() if line.strip()]) == 1
        holder.communicate("")


def test_mistakes_in_a_search_are_refused_in_one_line(workspace: Workspace) -> None:
    workspace.run("vlm4rec", "search", "--user", "u", code=2)
    write_data(workspace)
    for command in ("check", "index", "publish-tables"):
        assert "run `sqlmesh plan` first" in workspace.vlm4rec(command, code=2)
    Embedded(workspace.folder / "index").publish(given(documents()))
    workspace.settings["VLM4REC_ENCODER"] = "hashing-4"
    search = ("search", "--user", "u1")
    for options, message in (
        (("-k", "0"), "k is 0: use a whole number from 1 to 10,000"),
        (("-k", "10001"), "k is 10001: use a whole number from 1 to 10,000"),
        (("--filter", "colour=red"), "no item has the field 'colour': the fields are available, brand, category"),
        (("--filter", "price"), "cannot read the filter 'price'"),
    ):
        answer = workspace.vlm4rec(*search, *options, code=2)
        assert answer.startswith("Error: ")
        assert message in answer
        assert answer.count("\n") == 1
    away = workspace.vlm4rec(*search, "--index", "http://127.0.0.1:9", code=1)
    assert away == "Error: cannot reach http://127.0.0.1:9: Connection refused\n"
    for address in ("127.0.0.1:9", "me:secret@127.0.0.1:9"):
        answer = workspace.vlm4rec(*search, "--url", address, code=2)
        assert answer == "Error: 127.0.0.1:9 is neither a folder nor the URL of a server: write http://127.0.0.1:9\n"
    assert "psychic" in workspace.vlm4rec(*search, "--mode", "psychic", code=2)
    assert "a search needs a user, a text, items or a photo" in workspace.vlm4rec("search", code=2)
    workspace.settings["VLM4REC_ENCODER"] = "hashing-32"
    assert "built by the encoder hashing-4@1, not by hashing-32" in workspace.vlm4rec(*search, code=2)


def test_a_tiny_shop_with_purchases_sent_back_and_an_unreadable_photo_is_published(workspace: Workspace) -> None:
    items = "item_id,title,image\n" + "".join(f"{n},Chair {n},images/{n}.png\n" for n in "abc")
    (workspace.data / "images").mkdir(parents=True)
    for number, name in enumerate("ab"):
        Image.new("RGB", (64, 64), (200, 80 * number, 40)).save(workspace.data / "images" / f"{name}.png")
    (workspace.data / "images" / "c.png").write_bytes(b"no photo")
    kinds = ("view", "purchase", "return")
    sent_back = [f"r{user},a,2025-03-0{day},{kind}" for user in range(6) for day, kind in enumerate(kinds, start=1)]
    log = ["user_id,item_id,timestamp,event_type", *sent_back, *(f"u{user},b,2025-03-01,purchase" for user in range(9))]
    write_data(workspace, items=items, log="\n".join(log) + "\n")
    workspace.plan()
    output = workspace.vlm4rec("check")
    (warning,) = [line for line in output.splitlines() if line.startswith("warning item_captions")]
    assert "captioned: true" in warning
    assert "not so in 1 of 3 rows" in warning
    assert "user_profiles: has_vector" not in output
    assert workspace.json("index")["documents"] == 3


def test_index_refuses_to_publish_when_a_suite_fails_unless_forced(workspace: Workspace) -> None:
    with duckdb.connect(str(workspace.folder / "warehouse.duckdb")) as connection:
        connection.execute((ROOT / "tests/fixtures/good_tables.sql").read_text("utf-8"))
        connection.execute("UPDATE captions.item_captions SET status = 'missing', caption = NULL")
    output = workspace.vlm4rec("check", code=1)
    (failed,) = [line for line in output.splitlines() if line.startswith("FAILED item_captions: captioned")]
    for way_out in ("`vlm4rec captions retry`", '`items: {set: {image: ""}}`', "`mostly`", "`vlm4rec index --force`"):
        assert way_out in failed
    assert "    captioned False, item_id i1, status missing" in output.splitlines()
    assert "not published: the suites item_captions failed" in workspace.vlm4rec("index", code=1)
    assert not Path(workspace.folder, "index", "current").exists()
    release = workspace.json("index", "--force")["release"]
    file = workspace.folder / "index" / "releases" / f"{release}.duckdb"
    with duckdb.connect(str(file), read_only=True) as connection:
        assert connection.execute("SELECT checks FROM release").fetchall() == [("forced: item_captions",)]
