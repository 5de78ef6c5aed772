"""The client of OpenAI-compatible servers against a real server that misbehaves."""

import base64
import time
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from helpers.caption_server import HANG, CaptionServer, Reply, answer, refusal, serving
from PIL import Image

from vlm4rec_search.captioning.base import Caption, CaptionError, Context
from vlm4rec_search.captioning.captioners.openai.captioner import OpenAICaptioner
from vlm4rec_search.common.concurrency import run_concurrently
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings

PHOTO = Image.new("RGB", (96, 64), (200, 30, 40))
SECRET = "sk-test-4711"  # noqa: S105


def make_captioner(server: CaptionServer | str, **options: object) -> tuple[OpenAICaptioner, list[float]]:
    """Return a captioner that does not sleep between attempts, and the list of its would-be waits in seconds."""
    url = server if isinstance(server, str) else server.url
    waits: list[float] = []
    settings = Settings.model_validate({"openai_url": url, "openai_key": SECRET, "openai_timeout": 5.0, **options})
    return OpenAICaptioner("llava", settings, sleep=waits.append), waits


def caption_one(client: OpenAICaptioner, title: str = "red bag") -> Caption | Exception:
    (outcome,) = client.caption([PHOTO], [client.render(Context(title, "Bags"))])
    return outcome


def test_a_request_contains_photo_prompt_and_key_and_the_answer_its_tokens() -> None:
    with serving(lambda title, earlier: answer(" A red\nbag. ")) as server:
        client, _ = make_captioner(server)
        caption = caption_one(client)
    assert isinstance(caption, Caption)
    assert (caption.text, caption.tokens_in, caption.tokens_out, caption.note) == ("A red bag.", 30, 7, "")
    assert 0 < caption.seconds < 5
    (body,), (headers,) = server.bodies, server.headers
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert {name: body[name] for name in ("model", "max_tokens", "temperature")} == {
        "model": "llava",
        "max_tokens": 150,
        "temperature": 0,
    }
    image, text = body["messages"][0]["content"]
    assert 'title: "red bag"' in text["text"]
    scheme, data = image["image_url"]["url"].split(",")
    sent = Image.open(BytesIO(base64.b64decode(data)))
    assert (scheme, sent.format, sent.size) == ("data:image/jpeg;base64", "JPEG", (96, 64))


def test_content_in_parts_is_joined_and_an_unfinished_sentence_is_left_out() -> None:
    parts = [{"type": "text", "text": "A red "}, {"type": "text", "text": "bag. It comes with"}]
    with serving(lambda title, earlier: answer(None, "length", **{"content": parts})) as server:
        caption = caption_one(make_captioner(server)[0])
    assert isinstance(caption, Caption)
    assert (caption.text, caption.note) == (
        "A red bag.",
        "cut off at 7 tokens: the unfinished sentence is left out",
    )


def in_body(message: str, code: object) -> Reply:
    """Return an error as some gateways send it: with the status 200."""
    return Reply(200, {"error": {"message": message, "code": code}})


NO_CAPTION = {
    "refusal": (answer(None, refusal="I cannot help with that."), "refused", "I cannot help with that."),
    "content filter": (answer("A", "content_filter"), "refused", "stopped by the content filter"),
    "policy": (refusal(400, "photo was flagged", "content_policy_violation"), "refused", "400: photo was flagged"),
    "moderation": (refusal(403, "input flagged by moderation"), "refused", "403: input flagged"),
    "empty": (answer(" \n"), "empty", "the answer is empty"),
    "no content": (answer(None), "empty", "the answer is empty"),
    "bad photo": (refusal(400, f"bad image\nfor {SECRET}"), "failed", r"400: bad image for \*\*\*"),
    "bad photo, with the status 200": (in_body("bad image", 400), "failed", "^200: bad image 400$"),
    "too long, with the status 200": (in_body("too long", "context_length_exceeded"), "failed", "^200: too long"),
    "bad photo by its type, with the status 200": (
        Reply(200, {"error": {"message": "bad image", "type": "invalid_request_error"}}),
        "failed",
        "^200: bad image$",
    ),
    "policy, with the status 200": (in_body("no", "content_policy_violation"), "refused", "^200: no content_policy"),
    "too large": (Reply(413, "<html>too large</html>"), "failed", "413: <html>too large</html>"),
}


@pytest.mark.parametrize("case", NO_CAPTION)
def test_a_rejected_photo_has_a_reason_and_is_not_retried(case: str) -> None:
    reply, status, reason = NO_CAPTION[case]
    with serving(lambda title, earlier: reply) as server:
        error = caption_one(make_captioner(server)[0])
    assert isinstance(error, CaptionError)
    assert error.status == status
    with pytest.raises(CaptionError, match=reason):
        raise error
    assert SECRET not in str(error)
    assert len(server.calls) == 1


END_OF_RUN = {
    "wrong key": (refusal(401, f"Incorrect API key provided: {SECRET}"), UsageError, r"key \(401.*: \*\*\*\).*_KEY"),
    "wrong key, status 200": (
        in_body(f"No key {SECRET}", "401"),
        UsageError,
        r"refuses the key \(200: No key",
    ),
    "wrong key by its name, status 200": (in_body("No", "invalid_api_key"), UsageError, r"refuses the key \(200: No"),
    "revoked key": (refusal(403, "This API key is revoked"), UsageError, "refuses the key"),
    "no permission": (refusal(403, "no access"), UsageError, "refuses the request .* right for this model, or a proxy"),
    "no model": (refusal(404, "The model llava does not exist"), UsageError, "has no such address or model"),
    "moved": (Reply(307, "", {"location": "/other"}), UsageError, "has no such address or model"),
    "no quota": (refusal(429, "You exceeded your quota", "insufficient_quota"), RunError, "has no quota left"),
    "come tomorrow": (refusal(429, "daily limit", Retry_After="86400"), RunError, "a pause of 86400 s"),
}


@pytest.mark.parametrize("case", END_OF_RUN)
def test_an_error_that_affects_every_photo_ends_the_run(case: str) -> None:
    reply, kind, reason = END_OF_RUN[case]
    with serving(lambda title, earlier: reply) as server, pytest.raises(kind, match=reason) as raised:
        caption_one(make_captioner(server)[0])
    assert SECRET not in str(raised.value)
    assert len(server.calls) == 1


def test_a_server_that_cannot_be_reached_ends_the_run_after_six_attempts() -> None:
    with serving(lambda title, earlier: answer("")) as server:
        pass
    client, waits = make_captioner(server)
    with pytest.raises(RunError, match=r"http://127\.0\.0\.1:\d+ cannot be reached"):
        caption_one(client)
    assert len(waits) == 5
    limits = [0.5, 1, 2, 4, 8]  # doubled each time, drawn between 0 and that
    assert all(0 <= wait <= limit for wait, limit in zip(waits, limits, strict=True))


PASSING = {
    "500": Reply(500, "oops"),
    "cut off on its way": Reply(200, {"choices": []}, cut=True),
    "half an object": Reply(200, '{"choices": [{"mess'),
    "another object": Reply(200, {"error": {"message": "overloaded"}}),
}


@pytest.mark.parametrize("case", PASSING)
def test_a_transient_failure_is_retried_at_most_five_times(case: str) -> None:
    with serving(lambda title, earlier: PASSING[case] if title == "bad" or not earlier else answer("ok")) as server:
        client, _ = make_captioner(server)
        caption, error = caption_one(client, "good"), caption_one(client, "bad")
    assert isinstance(caption, Caption)
    assert server.requests == {"good": 2, "bad": 6}
    assert isinstance(error, CaptionError)
    assert str(error).startswith("tried 6 times: ")


@pytest.mark.parametrize("space", ["", " "])
def test_a_key_is_in_no_error_and_the_space_around_it_is_not_sent(space: str) -> None:
    broken = Reply(headers={f"not a header {SECRET}": ""})
    with serving(lambda title, earlier: broken if title == "bad" else answer("ok")) as server:
        client, _ = make_captioner(server, openai_key=f"{space}{SECRET}{space}")
        caption, error = caption_one(client, "good"), caption_one(client, "bad")
    assert isinstance(caption, Caption)
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"
    assert isinstance(error, CaptionError)
    assert "the connection broke (illegal header line" in str(error)
    assert "***" in str(error)
    assert SECRET not in str(error)


def test_a_hanging_request_ends_with_the_timeout() -> None:
    with serving(lambda title, earlier: answer("ok") if earlier else Reply(delay=HANG)) as server:
        assert isinstance(caption_one(make_captioner(server, openai_timeout=1.0)[0]), Caption)
    first, second = server.times("red bag")
    assert second - first >= 0.9


def test_a_busy_server_is_not_a_failure_and_gets_the_pause_that_it_asks_for() -> None:
    busy = refusal(429, "slow down", Retry_After="0.2")
    with serving(lambda title, earlier: busy if earlier < 9 else answer("ok")) as server:
        client, waits = make_captioner(server)
        assert isinstance(caption_one(client), Caption)
    assert all(wait >= 0.2 for wait in waits)
    times = server.times("red bag")
    assert len(times) == 10
    assert all(later - sooner >= 0.2 for sooner, later in pairwise(times))


EMPTY: dict[str, Any] = {"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}
BEGUN: dict[str, Any] = {"choices": [{"message": {"content": "A red"}, "finish_reason": "error"}]}


@pytest.mark.parametrize(
    "body",
    [
        *({"error": {"message": "busy", "code": code}} for code in (429, "429", "rate_limit_exceeded")),
        {"error": {"message": None, "type": "rate_limit_error"}},
        {"object": "error", "message": "busy", "code": 429},
        EMPTY | {"error": {"code": 429}},
        BEGUN | {"error": {"code": 429}},
    ],
)
def test_a_gateway_that_says_with_the_status_200_that_it_is_busy_is_not_paid(body: dict[str, Any]) -> None:
    busy = Reply(200, body)
    with serving(lambda title, earlier: busy if earlier < 9 else answer("A red bag.")) as server:
        caption = caption_one(make_captioner(server)[0])
    assert isinstance(caption, Caption)
    assert (len(server.calls), caption.tokens_in, caption.tokens_out) == (10, 30, 7)


def test_another_error_with_the_status_200_keeps_its_message_and_is_not_paid() -> None:
    with serving(lambda title, earlier: in_body("overloaded", None)) as server:
        error = caption_one(make_captioner(server)[0])
    assert isinstance(error, CaptionError)
    assert (str(error), error.tokens_in, error.tokens_out) == ("tried 6 times: 200: overloaded", 0, 0)


@pytest.mark.parametrize("pause", ["0", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_busy_servers_that_name_no_pause_rest_as_usual(pause: str) -> None:
    start = time.monotonic()

    def behave(title: str, earlier: int) -> Reply:
        is_busy = time.monotonic() - start < 3.0
        return refusal(429, "slow down", Retry_After=pause) if is_busy else answer("A red bag.")

    with serving(behave) as first, serving(behave) as second:
        assert isinstance(caption_one(make_captioner(f"{first.url},{second.url}")[0]), Caption)
    assert len(first.calls) + len(second.calls) < 16


def test_the_limit_of_requests_per_minute_holds_over_all_threads() -> None:
    """1,200 a minute: 20 at once, then 19.67 a second; the last of 40 comes 20 / 19.67 = 1.02 s after the first."""
    with serving(lambda title, earlier: answer("ok")) as server:
        client, _ = make_captioner(server, openai_rpm=1200)
        assert len(list(run_concurrently(lambda item: caption_one(client, str(item)), range(40), client.workers))) == 40
    times = sorted(moment for moment, _ in server.calls)
    assert times[-1] - times[0] > 0.8
