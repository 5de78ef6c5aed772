"""Batch files: requests written, answered elsewhere, and read into the cache; and caches of several machines."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import duckdb
import httpx
import pytest
from helpers.batch_runner import hosted_line, run_batch, vllm_line
from helpers.caption_server import CaptionServer, Reply, answer, refusal, serving
from helpers.colour_catalogue import write_catalogue
from helpers.image_server import ImageServer, serve_images
from helpers.workspace import Workspace
from PIL import Image

from vlm4rec_search.captioning.batch import export_batch, import_batch
from vlm4rec_search.captioning.estimate import estimate_captions
from vlm4rec_search.captioning.merge import merge_captions
from vlm4rec_search.captioning.run import Share, look_up_captions, run_captions
from vlm4rec_search.common.cache import ASSUMED_IN, Cache
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings

KILLED = """
import os, signal, sys
from pathlib import Path
from vlm4rec_search.captioning.batch import export_batch
from vlm4rec_search.common.settings import Settings

Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
export_batch(Settings.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
"""
KILLED_EARLY = KILLED.replace("Path.replace = lambda self, target:", "os.fsync = lambda file:")
ITEMS = [(f"i{n:02}", (10 + n, 0, 0), 20 - n) for n in range(20)]


def describe(title: str, earlier: int) -> Reply:
    return answer(f"A red mug, {title}.")


def write_settings(folder: Path, server: CaptionServer | None = None, **options: object) -> Settings:
    url = server.url if server else "http://127.0.0.1:9/v1"
    given = {"captioner": "openai:llava", "openai_url": url, "caption_canary": "off", "price_in": 10, "price_out": 100}
    return write_catalogue(folder, *ITEMS, **{**given, **options})


def read_requests(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def statuses(settings: Settings) -> dict[str, int]:
    with Cache(settings.cache) as cache:
        return look_up_captions(settings, cache).count_statuses()


@pytest.mark.parametrize("shape", [vllm_line, hosted_line])
def test_a_batch_gives_the_captions_of_a_run_and_nothing_is_paid_twice(tmp_path: Path, shape: object) -> None:
    file, output = tmp_path / "captions.jsonl", tmp_path / "answers.jsonl"
    with serving(describe) as server:
        live = write_settings(tmp_path / "live", server)
        run_captions(live)
        sent = {body["messages"][0]["content"][1]["text"]: body for body in server.bodies}
        server.bodies.clear()
        settings = write_settings(tmp_path / "batch", server)
        summary = export_batch(settings, file)
        assert (summary.requests, [entry.requests for entry in summary.files]) == (20, [20])
        assert summary.files[0].bytes == file.stat().st_size
        assert (summary.tokens_in, summary.measured, summary.cost) == (20 * 1500, 0, pytest.approx(20 * 0.027))
        assert statuses(settings) == {"in_batch": 20}
        assert estimate_captions(settings).todo == 0
        assert run_captions(settings).computed == 0, "a run does not pay for what is in a batch"
        assert export_batch(settings, tmp_path / "more.jsonl").in_batch == 20
        assert not (tmp_path / "more.jsonl").exists()
        assert server.bodies == []
        run_batch(file, server.url, output, shape)
        assert {body["messages"][0]["content"][1]["text"]: body for body in server.bodies} == sent, "the same requests"
    imported = import_batch(settings, [output])
    assert (imported.computed, imported.failed, imported.known, imported.in_batch) == (20, 0, 0, 0)
    assert (imported.tokens_in, imported.tokens_out) == (20 * 30, 20 * 7)
    assert imported.cost == pytest.approx(20 * (30 * 10 + 7 * 100) / 1e6)
    with Cache(live.cache) as by_run, Cache(settings.cache) as by_batch:
        expected, found = look_up_captions(live, by_run), look_up_captions(settings, by_batch)
        assert [outcome.answer for outcome in found.outcomes] == [outcome.answer for outcome in expected.outcomes]
        assert {outcome.status for outcome in found.outcomes} == {"ok"}
        rows = [(row.origin, row.computed, row.tokens_in, row.finished) for row in by_batch.ledger()]
        assert [row for row in rows if row[1]] == [("import-batch", 20, 600, True)]
        revision = by_batch.revision("caption", "llava@1")
    again = import_batch(settings, [output])
    assert (again.computed, again.failed, again.known, again.cost) == (0, 0, 20, 0.0)
    with Cache(settings.cache) as cache:
        assert (len(cache.ledger()), cache.revision("caption", "llava@1")) == (len(rows), revision)
    assert [request["custom_id"] for request in read_requests(file)] == [
        line["custom_id"] for line in read_requests(output)
    ]


def test_errors_keep_their_reason_and_can_be_exported_again(tmp_path: Path) -> None:
    def behave(title: str, earlier: int) -> Reply:
        faults = {
            "Item i00": refusal(400, "the image is broken"),
            "Item i01": answer(None, refusal="I will not."),
            "Item i02": answer("<think>Well"),
        }
        return faults.get(title, describe(title, earlier))

    file, output, errors = (tmp_path / name for name in ("a.jsonl", "out.jsonl", "err.jsonl"))
    with serving(behave) as server:
        settings = write_settings(tmp_path / "shop", server)
        export_batch(settings, file)
        lines = run_batch(file, server.url, output)
    answered = [line["custom_id"] for line in lines if "A red mug" in json.dumps(line)]
    expired = {"id": "x", "custom_id": answered[0], "response": None}
    expired["error"] = {"code": "batch_expired", "message": "This request could not be executed in time."}
    errors.write_text(json.dumps(expired) + "\n" + json.dumps({**expired, "custom_id": answered[1]}) + "\n")
    good = [line for line in lines if line["custom_id"] != expired["custom_id"]]
    output.write_text("".join(json.dumps(line) + "\n" for line in good))
    imported = import_batch(settings, [output, errors])
    assert (imported.computed, imported.failed, imported.known, imported.in_batch) == (16, 4, 1, 0)
    assert imported.errors == {
        "failed: 400: the image is broken": 1,
        "refused: I will not.": 1,
        "failed: the answer ends inside the model's thoughts: switch them off": 1,
        "failed: 400: This request could not be executed in time. batch_expired": 1,
    }
    assert imported.tokens_in == 18 * 30, "an answer that is no caption is paid, an error is not"
    assert statuses(settings) == {"ok": 16, "failed": 3, "refused": 1}
    assert import_batch(settings, [output, errors]).known == 21
    assert export_batch(settings, tmp_path / "b.jsonl").requests == 0
    assert export_batch(settings, tmp_path / "b.jsonl", failed=True).requests == 4
    with serving(describe) as server:
        run_batch(tmp_path / "b.jsonl", server.url, output)
    assert import_batch(settings, [output]).computed == 4
    assert statuses(settings) == {"ok": 20}
    assert import_batch(settings, [errors]).failed == 0, "an old error does not replace an answer"


def test_stored_answers_that_cannot_be_used_are_left_to_a_retry(tmp_path: Path) -> None:
    def behave(title: str, earlier: int) -> Reply:
        return answer("I'm sorry, I cannot help with that.") if title < "Item i03" else refusal(400, "broken")

    with serving(behave) as server:
        settings = write_settings(tmp_path, server)
        run_captions(settings, limit=5)
    assert statuses(settings) == {"refused": 3, "failed": 2, "pending": 15}
    summary = export_batch(settings, tmp_path / "a.jsonl", failed=True, limit=4)
    assert (summary.requests, summary.answered, summary.elsewhere) == (4, 3, 0)
    assert statuses(settings) == {"refused": 3, "in_batch": 4, "pending": 13}


def test_an_error_with_the_status_200_is_not_paid_and_gives_way_to_an_answer(tmp_path: Path) -> None:
    settings, output = write_settings(tmp_path / "shop"), tmp_path / "out.jsonl"
    export_batch(settings, tmp_path / "a.jsonl", limit=2)
    first, second = (request["custom_id"] for request in read_requests(tmp_path / "a.jsonl"))
    busy = httpx.Response(200, json=refusal(200, "Rate limit exceeded", "429").body)
    good = httpx.Response(200, json=answer("A red mug.").body)
    lines = [hosted_line(first, good), hosted_line(first, busy), hosted_line(second, busy)]
    output.write_text("".join(json.dumps(line) + "\n" for line in lines))
    imported = import_batch(settings, [output])
    assert (imported.computed, imported.tokens_in) == (1, 30)
    assert imported.errors == {"failed: 200: Rate limit exceeded 429": 1}


def test_a_caption_with_an_error_beside_it_is_a_good_answer(tmp_path: Path) -> None:
    settings, output = write_settings(tmp_path / "shop"), tmp_path / "out.jsonl"
    export_batch(settings, tmp_path / "a.jsonl", limit=1)
    (request,) = read_requests(tmp_path / "a.jsonl")
    body = answer("A red mug.").body
    assert isinstance(body, dict)
    both = httpx.Response(200, json=body | {"error": {"message": "late"}})
    failed = httpx.Response(200, json={"object": "error", "message": "busy", "code": 429})
    lines = [hosted_line(request["custom_id"], response) for response in (failed, both, failed)]
    output.write_text("".join(json.dumps(line) + "\n" for line in lines))
    imported = import_batch(settings, [output])
    assert (imported.computed, imported.failed, imported.tokens_in) == (1, 0, 30)


@pytest.mark.parametrize("has_id", [True, False], ids=["id", "no id"])
def test_an_error_that_was_read_before_does_not_end_a_later_batch(tmp_path: Path, has_id: bool) -> None:
    def behave(title: str, earlier: int) -> Reply:
        faults = {"Item i00": refusal(400, "the image is broken"), "Item i01": answer(None, refusal="I will not.")}
        return faults.get(title, describe(title, earlier))

    def shape(custom_id: str, response: httpx.Response) -> dict:
        line = vllm_line(custom_id, response)
        return line if has_id else {name: value for name, value in line.items() if name != "id"}

    a, b = tmp_path / "a-out.jsonl", tmp_path / "b-out.jsonl"
    with serving(behave) as server:
        settings = write_settings(tmp_path / "shop", server)
        export_batch(settings, tmp_path / "a.jsonl", limit=4)
        run_batch(tmp_path / "a.jsonl", server.url, a, shape)
        assert import_batch(settings, [a]).failed == 2
        assert export_batch(settings, tmp_path / "b.jsonl", failed=True, limit=2).requests == 2
        again = import_batch(settings, [a])
        assert (again.failed, again.known, again.in_batch, again.tokens_in) == (0, 4, 2, 0)
        assert export_batch(settings, tmp_path / "c.jsonl", failed=True, limit=2).in_batch == 2
        run_batch(tmp_path / "b.jsonl", server.url, b, shape)
    both = import_batch(settings, [a, b])
    assert (both.failed, both.known, both.in_batch) == (2, 4, 2), "c.jsonl has two others"
    assert export_batch(settings, tmp_path / "d.jsonl", failed=True, limit=2).requests == 2
    whole = tmp_path / "whole.jsonl"
    whole.write_text(a.read_text() + b.read_text())
    assert import_batch(settings, [a, b, *([whole] if has_id else [])]).in_batch == 4


def test_a_good_answer_of_an_unknown_item_is_kept_beside_a_later_error_and_an_error_is_read_once(
    tmp_path: Path,
) -> None:
    good, errors, empty = (tmp_path / name for name in ("good.jsonl", "errors.jsonl", "empty.jsonl"))
    with serving(describe) as server:
        shop = write_settings(tmp_path / "shop", server)
        export_batch(shop, tmp_path / "a.jsonl", limit=2)
        lines = run_batch(tmp_path / "a.jsonl", server.url, good)
    first, second = (line["custom_id"] for line in lines)
    good.write_text(json.dumps(lines[0]) + "\n")
    expired = httpx.Response(400, json=refusal(400, "expired").body)
    errors.write_text("".join(json.dumps(vllm_line(key, expired)) + "\n" for key in (first, second)))
    empty.write_text("")
    settings = write_settings(tmp_path / "other")
    with duckdb.connect(str(settings.warehouse)) as connection:
        rows = connection.execute("SELECT * FROM staging.items WHERE item_id IN ('i00', 'i01')").fetchall()
        connection.execute("DELETE FROM staging.items WHERE item_id IN ('i00', 'i01')")
    assert import_batch(settings, [good]).unknown == 1
    assert import_batch(settings, [errors]).unknown == 2
    with duckdb.connect(str(settings.warehouse)) as connection:
        connection.executemany("INSERT INTO staging.items VALUES (?, ?, ?, ?)", rows)
    later = import_batch(settings, [empty])
    assert (later.computed, later.errors) == (1, {"failed: 400: expired": 1})
    assert export_batch(settings, tmp_path / "b.jsonl", failed=True, limit=1).requests == 1
    assert read_requests(tmp_path / "b.jsonl")[0]["custom_id"] == second
    again = import_batch(settings, [empty, errors])
    assert (again.failed, again.known, again.in_batch) == (0, 2, 1)


def test_an_export_killed_before_its_file_has_its_name_is_done_again(tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "shop")
    given = settings.model_dump_json(exclude_unset=True)
    killed = subprocess.run([sys.executable, "-c", KILLED, given, str(tmp_path / "a.jsonl")], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in tmp_path.glob("*.jsonl*")] == ["a.jsonl.part"]
    assert statuses(settings) == {"in_batch": 20}
    assert export_batch(settings, tmp_path / "a.jsonl", limit=5).requests == 5
    rest = export_batch(settings, tmp_path / "b.jsonl")
    assert (rest.requests, rest.in_batch) == (15, 5), "a later file of the same name has only its own requests"
    assert export_batch(settings, tmp_path / "c.jsonl").requests == 0


def test_requests_of_a_file_that_was_moved_are_not_written_again_after_a_kill(tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "shop")
    file = tmp_path / "a.jsonl"
    export_batch(settings, file, limit=10)
    file.rename(tmp_path / "submitted.jsonl")
    given = settings.model_dump_json(exclude_unset=True)
    killed = subprocess.run([sys.executable, "-c", KILLED_EARLY, given, str(file)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    summary = export_batch(settings, file)
    assert (summary.requests, summary.in_batch) == (10, 10)
    requests = [*read_requests(tmp_path / "submitted.jsonl"), *read_requests(file)]
    assert len({request["custom_id"] for request in requests}) == 20


def test_answers_beyond_reason_are_failures_of_their_own(tmp_path: Path) -> None:
    huge = answer("A red mug.")
    huge.body = {**huge.body, "usage": {"prompt_tokens": 10**30, "completion_tokens": 2**33}}
    deep = answer('{"description": ' + "[" * 3000 + "}")
    half = answer("A red \ud83d mug.")
    faults = {"Item i00": huge, "Item i01": deep, "Item i02": half}

    def behave(title: str, earlier: int) -> Reply:
        return faults.get(title, describe(title, earlier))

    with serving(behave) as server:
        live = write_settings(tmp_path / "live", server)
        ran = run_captions(live)
        settings = write_settings(tmp_path / "batch", server)
        export_batch(settings, tmp_path / "a.jsonl")
        run_batch(tmp_path / "a.jsonl", server.url, tmp_path / "out.jsonl")
    imported = import_batch(settings, [tmp_path / "out.jsonl"])
    assert (imported.computed, imported.failed) == (ran.computed, ran.failed) == (19, 1)
    assert imported.errors == {"failed: the answer is broken JSON: it is nested too deeply": 1}
    assert imported.tokens_out == 19 * 7 + len("A red mug.") // 4
    assert imported.tokens_in == 19 * 30 + ASSUMED_IN
    assert statuses(live) == statuses(settings) == {"ok": 19, "failed": 1}


def test_unknown_and_broken_lines_are_counted_kept_and_read_later(tmp_path: Path) -> None:
    file, output = tmp_path / "a.jsonl", tmp_path / "out.jsonl"
    with serving(describe) as server:  # to the end: the server of another test could get its port
        settings = write_settings(tmp_path / "shop", server)
        export_batch(settings, file, limit=3)
        answers = {line["custom_id"]: line for line in run_batch(file, server.url, output)}
        with Cache(settings.cache) as cache:
            catalogue = look_up_captions(settings, cache)
        asked = catalogue.keys([0, 1, 2], catalogue.photos[:3])  # i00 first: requests are written in any order
        assert set(asked) == answers.keys()
        output.write_text("".join(json.dumps(answers[each]) + "\n" for each in asked))
        other = write_catalogue(
            tmp_path / "other", *ITEMS[3:], **settings.model_dump(include={"captioner", "openai_url", "caption_canary"})
        )
        whole = output.read_bytes()
        output.write_bytes(whole[: whole.rindex(b'"usage"')])
        imported = import_batch(other, [output])
        assert (imported.computed, imported.unknown, imported.broken) == (
            0,
            2,
            ["out.jsonl, line 3 (the last one, cut off)"],
        )
        rows = [("i00", "images/i00.png", "Item i00", "things")]
        Image.new("RGB", (8, 8), ITEMS[0][1]).save(other.data_dir / "images" / "i00.png")
        with duckdb.connect(str(other.warehouse)) as connection:
            connection.executemany("INSERT INTO staging.items VALUES (?, ?, ?, ?)", rows)
        later = import_batch(other, [output])
        assert (later.computed, later.known, later.unknown) == (1, 1, 1), (
            "the kept answer is read when its item is there"
        )
        assert import_batch(settings, [output]).in_batch == 1, "the item of the broken line still waits"
        requests = import_batch(settings, [file])
        assert (requests.failed, len(requests.broken), requests.in_batch) == (0, 3, 1), (
            "a file of requests has no answers"
        )
        assert export_batch(settings, tmp_path / "b.jsonl", again=True, limit=1).requests == 1
        assert read_requests(tmp_path / "b.jsonl")[0]["custom_id"] == asked[2]


def test_an_answer_for_an_item_that_has_changed_is_kept(tmp_path: Path) -> None:
    file, output = tmp_path / "a.jsonl", tmp_path / "out.jsonl"
    with serving(describe) as server:
        settings = write_settings(tmp_path / "shop", server)
        export_batch(settings, file)
        run_batch(file, server.url, output)

    def rename(title: str) -> None:
        with duckdb.connect(str(settings.warehouse)) as connection:
            connection.execute("UPDATE staging.items SET title = ? WHERE item_id = 'i00'", [title])

    rename("Another")
    assert import_batch(settings, [output]).computed == 20
    assert statuses(settings) == {"ok": 19, "pending": 1}
    assert import_batch(settings, [output]).known == 20
    rename("Item i00")
    assert statuses(settings) == {"ok": 20}


@pytest.mark.parametrize(("asked", "now"), [("product", "structured"), ("structured", "product")])
def test_an_answer_is_read_under_the_prompt_of_its_request(tmp_path: Path, asked: str, now: str) -> None:
    def describe_in_form(title: str, earlier: int) -> Reply:
        text = f"A red mug, {title}."
        return answer(json.dumps({"description": text, "colour": "red"}) if asked == "structured" else text)

    output = tmp_path / "out.jsonl"
    with serving(describe_in_form) as server:
        settings = write_settings(tmp_path / "shop", server, prompt=asked)
        export_batch(settings, tmp_path / "a.jsonl", limit=4)
        run_batch(tmp_path / "a.jsonl", server.url, output)
    other = settings.model_copy(update={"prompt": now})
    imported = import_batch(other, [output])
    assert (imported.computed, imported.failed, imported.other_prompts) == (4, 0, {f"{asked}@1": 4})
    assert statuses(other) == {"pending": 20}
    assert import_batch(other, [output]).known == 4
    with Cache(settings.cache) as cache:
        outcomes = look_up_captions(settings, cache).outcomes[:4]
    assert [(outcome.status, outcome.answer) for outcome in outcomes] == [
        ("ok", f"A red mug, Item i{at:02}.") for at in range(4)
    ]
    assert outcomes[0].attributes == ({"colour": "red"} if asked == "structured" else {})


def test_an_answer_whose_prompt_is_not_known_waits_for_an_import_under_it(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with serving(describe) as server:
        elsewhere = write_settings(tmp_path / "elsewhere", server)
        export_batch(elsewhere, tmp_path / "a.jsonl")
        run_batch(tmp_path / "a.jsonl", server.url, output)
    here = write_settings(tmp_path / "here")
    merge_captions(here, [elsewhere.cache])
    imported = import_batch(here.model_copy(update={"prompt": "structured"}), [output])
    assert (imported.computed, imported.failed, imported.unknown) == (0, 0, 20)
    output.write_text("")
    assert import_batch(here, [output]).computed == 20


def test_files_are_split_by_number_and_size_and_never_overwritten(tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "shop")
    first = export_batch(settings, tmp_path / "n.jsonl", most_requests=8)
    assert [file.requests for file in first.files] == [8, 8, 4]
    names = ["n.jsonl", "n-2.jsonl", "n-3.jsonl"]
    assert [Path(file.path).name for file in first.files] == names
    keys = [request["custom_id"] for name in names for request in read_requests(tmp_path / name)]
    assert len(set(keys)) == 20
    with pytest.raises(UsageError, match=r"n.jsonl exists: choose another name"):
        export_batch(settings, tmp_path / "n.jsonl", again=True)
    size = len((tmp_path / "n.jsonl").read_bytes()) // 8
    second = export_batch(settings, tmp_path / "s.jsonl", again=True, most_megabytes=3.5 * size / 1e6)
    assert [file.requests for file in second.files] == [3, 3, 3, 3, 3, 3, 2]
    assert all(file.bytes <= 3.5 * size for file in second.files)
    with pytest.raises(UsageError, match="batch files are for captioners of the kind openai"):
        export_batch(settings, tmp_path / "x.jsonl", "attributes")


def test_a_photo_behind_a_url_is_fetched_for_its_key_and_may_be_named_by_its_url(tmp_path: Path) -> None:
    with serve_images() as shop:
        settings = write_settings(tmp_path / "shop", allow_private_addresses=True)
        with duckdb.connect(str(settings.warehouse)) as connection:
            connection.execute("UPDATE staging.items SET image = ? || '/good.png' WHERE item_id = 'i00'", [shop])
            connection.execute("UPDATE staging.items SET image = ? || '/absent.png' WHERE item_id = 'i01'", [shop])
        assert export_batch(settings, tmp_path / "a.jsonl", urls=True, limit=3).requests == 2
        assert ImageServer.requests.count(("localhost", "/good.png")) == 1
    urls = {
        request["body"]["messages"][0]["content"][0]["image_url"]["url"]
        for request in read_requests(tmp_path / "a.jsonl")
    }
    assert f"{shop}/good.png" in urls
    assert {url[:23] for url in urls} == {f"{shop}/good.png"[:23], "data:image/jpeg;base64,"}
    assert statuses(settings) == {"pending": 17, "in_batch": 2, "unreachable": 1}


def test_a_killed_export_is_done_again_and_bad_photos_have_a_reason(workspace: Workspace) -> None:
    folder = workspace.folder
    own = {"CAPTIONER": "openai:llava", "OPENAI_URL": "http://127.0.0.1:9/v1", "CAPTION_CANARY": "off"}
    workspace.settings |= {f"VLM4REC_{name}": value for name, value in own.items()}
    settings = write_settings(folder)
    (folder / "data" / "images" / "i00.png").write_bytes(b"no photo")
    Image.effect_noise((1600, 1600), 90).save(folder / "big.png")  # slow enough for the kill to come in between
    for name, *_ in ITEMS[1:]:
        shutil.copy(folder / "big.png", folder / "data" / "images" / f"{name}.png")
    running = workspace.start("vlm4rec", "captions", "export-batch", "a.jsonl")
    part = folder / "a.jsonl.part"
    while not (part.exists() and part.stat().st_size) and running.poll() is None:
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert not (folder / "a.jsonl").exists()
    cached = settings.model_copy(update={"cache": folder / ".cache" / "vlm4rec"})
    assert statuses(cached)["in_batch"] >= 19
    shown = workspace.vlm4rec("captions", "export-batch", "a.jsonl")
    assert "a.jsonl: 19 requests" in shown
    assert "Next: run the batch, then vlm4rec captions import-batch ANSWERS.jsonl" in shown
    assert statuses(cached) == {"in_batch": 19, "wrong_type": 1}
    lines = [
        vllm_line(read_requests(folder / "a.jsonl")[0]["custom_id"], httpx.Response(200, json=answer("A mug.").body)),
        vllm_line("unknown", httpx.Response(400, json=refusal(400, "bad image").body)),
    ]
    (folder / "out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"custom_id": "cut')
    told = workspace.vlm4rec("captions", "import-batch", "out.jsonl")
    assert "llava@1: 1 answers read, 0 failed\n30 tokens in, 7 out" in told
    assert "1 answers are for no item of this catalogue, captioner and prompt" in told
    assert "1 lines are no answers: out.jsonl, line 3 (the last one, cut off)" in told
    assert "18 items still wait for an answer" in told


def test_machines_caption_a_part_each_and_one_takes_over_the_others(tmp_path: Path) -> None:
    with serving(describe) as server:
        machines = [write_settings(tmp_path / name, server) for name in ("one", "two", "three")]
        counts = [run_captions(machine, part=Share(at, 3)).computed for at, machine in enumerate(machines, 1)]
        assert sum(counts) == 20
        assert min(counts) > 0
        assert set(Counter(title for _, title in server.calls).values()) == {1}
        first = machines[0]
        with Cache(first.cache) as cache:
            revision = cache.revision("caption", "llava@1")
        (row,) = merge_captions(first, [machine.cache for machine in machines[1:]])
        assert (row.captioner, row.computed, row.known) == ("llava@1", counts[1] + counts[2], 0)
        assert row.tokens_in == 30 * row.computed
        assert run_captions(first).computed == 0
    assert statuses(first) == {"ok": 20}
    with Cache(first.cache) as cache:
        assert cache.revision("caption", "llava@1") != revision, "a plan notices the captions"
        length = len(cache.ledger())
    (again,) = merge_captions(first, [machine.cache for machine in machines[1:]])
    assert (again.computed, again.known) == (0, row.computed)
    with Cache(first.cache) as cache:
        assert len(cache.ledger()) == length
    with pytest.raises(UsageError, match="is no cache"):
        merge_captions(first, [tmp_path])
    with pytest.raises(UsageError, match="is the cache of this project"):
        merge_captions(first, [first.cache])


def test_a_better_answer_of_another_machine_is_taken_over_once(tmp_path: Path) -> None:
    refuse = True

    def behave(title: str, earlier: int) -> Reply:
        return answer("I'm sorry, I cannot help with that.") if refuse else describe(title, earlier)

    with serving(behave) as server:
        here, there, third = (write_settings(tmp_path / name, server) for name in ("here", "there", "third"))
        run_captions(there, limit=3)
        run_captions(third, limit=3)
        assert merge_captions(here, [there.cache])[0].computed == 3
        refuse = False
        assert run_captions(there, retry=["refused"], limit=2).computed == 2
        (row,) = merge_captions(here, [there.cache])
        assert (row.computed, row.replaced, row.known, row.tokens_in) == (0, 2, 1, 60)
        assert statuses(here) == {"ok": 2, "pending": 17, "refused": 1}
        assert run_captions(here, retry=["refused"]).computed == 1
    (again,) = merge_captions(here, [there.cache, third.cache])
    assert (again.replaced, again.known, again.tokens_in) == (0, 6, 0), "no refusal takes the place of a caption"
    (row,) = merge_captions(third, [here.cache])
    assert (row.replaced, statuses(third)) == (3, {"ok": 3, "pending": 17}), "what was taken over goes on"


def test_a_request_that_was_taken_over_ends_with_its_failure_on_the_other_machine(tmp_path: Path) -> None:
    here, there = write_settings(tmp_path / "here"), write_settings(tmp_path / "there")
    errors = tmp_path / "errors.jsonl"
    export_batch(there, tmp_path / "a.jsonl", limit=6)
    assert merge_captions(here, [there.cache])[0].failed == 6
    assert statuses(here) == {"in_batch": 6, "pending": 14}
    expired = httpx.Response(400, json=refusal(400, "expired").body)
    keys = [request["custom_id"] for request in read_requests(tmp_path / "a.jsonl")]
    errors.write_text("".join(json.dumps(vllm_line(key, expired)) + "\n" for key in keys))
    assert import_batch(there, [errors]).failed == 6
    (row,) = merge_captions(here, [there.cache])
    assert (row.failed, row.known) == (6, 0)
    assert statuses(here) == {"pending": 14, "failed": 6}
    assert export_batch(here, tmp_path / "b.jsonl", failed=True, limit=20).requests == 20
    (again,) = merge_captions(here, [there.cache])
    assert (again.failed, again.known) == (0, 6), "an old failure there does not end the wait for an export from here"
    assert statuses(here) == {"in_batch": 20}


def test_a_merge_during_an_export_leaves_out_what_is_not_in_a_complete_file(tmp_path: Path) -> None:
    here, there = write_settings(tmp_path / "here"), write_settings(tmp_path / "there")
    given = there.model_dump_json(exclude_unset=True)
    subprocess.run([sys.executable, "-c", KILLED_EARLY, given, str(tmp_path / "a.jsonl")], capture_output=True)
    assert statuses(there) == {"in_batch": 20}
    assert merge_captions(here, [there.cache])[0].failed == 0
    assert statuses(here) == {"pending": 20}
    assert export_batch(here, tmp_path / "b.jsonl", limit=1).requests == 1, "the requests there are not written here"
