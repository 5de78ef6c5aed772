"""Answers of a server whose details are malformed, late or lost."""

import json
import time
from typing import Any

import pytest
from helpers.caption_server import CaptionServer, Reply, answer, serving
from test_captioner_openai import caption_one, make_captioner

from vlm4rec_search.captioning.base import Caption, CaptionError, Context
from vlm4rec_search.captioning.captioners.openai.responses import Completion
from vlm4rec_search.common.concurrency import run_concurrently

MESSAGE = {"role": "assistant", "content": "A red bag."}


def completion(usage: Any = None, **choice: Any) -> Reply:
    body: dict[str, Any] = {"choices": [{"message": MESSAGE, "finish_reason": "stop", **choice}]}
    return Reply(body=body | ({} if usage is None else {"usage": usage}))


ODD = {
    "no usage": completion(),
    "null counts": completion({"prompt_tokens": None, "completion_tokens": None}),
    "counts that are no numbers": completion({"prompt_tokens": "many", "completion_tokens": {}}),
    "negative counts": completion({"prompt_tokens": -1, "completion_tokens": -1}),
    "counts beyond reason": completion({"prompt_tokens": 2**64 - 1, "completion_tokens": 2**33}),
    "usage that is a list": completion([1, 2]),
    "a part without text": completion(message={"content": [{"type": "text", "text": None}, {"text": "A red bag."}]}),
    "a part of another kind": completion(
        message={"content": [{"type": "thinking", "thinking": 3}, {"text": "A red bag."}]}
    ),
    "parts that are texts or nothing": completion(message={"content": ["A red ", None, 7, "bag."]}),
    "one part": completion(message={"content": {"type": "text", "text": "A red bag."}}),
    "a reason that is an object": completion(finish_reason={"type": "stop"}, refusal=3),
    "a refusal that is no text": completion(message=MESSAGE | {"refusal": {}, "tool_calls": [None]}),
    "fields of other names": Reply(body={"choices": [{"message": MESSAGE}], "seconds": None, "broken": "x"}),
    "a broken second choice": Reply(body={"choices": [{"message": MESSAGE}, {"message": 5}]}),
}


@pytest.mark.parametrize("case", ODD)
def test_a_usable_text_is_never_lost_and_missing_token_counts_are_estimated(case: str) -> None:
    with serving(lambda title, earlier: ODD[case]) as server:
        client, _ = make_captioner(server)
        caption = caption_one(client)
    assert isinstance(caption, Caption), caption
    assert caption.text == "A red bag."
    assert len(server.calls) == 1
    prompt = len(client.render(Context("red bag", "Bags")))
    assert caption.tokens_in == prompt // 4 + 96 * 64 // 750
    assert caption.tokens_out == len("A red bag.") // 4
    assert caption.note == "tokens are estimated: the server reports none"


HALVES = {
    r"A red bag \ud83d.": "A red bag \ufffd.",
    r"A red bag \uDE00\ud83d\ude00.": "A red bag \ufffd\U0001f600.",
    r"A red bag \\ud83d.": r"A red bag \ud83d.",
    r"{\"description\": \"A red bag \\ud83d.\"}": "A red bag \ufffd.",
}


@pytest.mark.parametrize("content", HALVES)
def test_half_a_character_loses_no_text(content: str) -> None:
    body = json.dumps(completion().body).replace("A red bag.", content)
    with serving(lambda title, earlier: Reply(body=body)) as server:
        caption = caption_one(make_captioner(server)[0])
    assert isinstance(caption, Caption), caption
    assert caption.text == HALVES[content]
    assert len(server.calls) == 1


def test_token_counts_of_the_server_are_used_unchanged() -> None:
    parsed = Completion.model_validate(completion({"prompt_tokens": 30.0, "completion_tokens": "7"}).body)
    assert parsed.usage is not None
    assert (parsed.usage.prompt_tokens, parsed.usage.completion_tokens) == (30, 7)
    with serving(lambda title, earlier: completion({"prompt_tokens": 30})) as server:
        caption = caption_one(make_captioner(server)[0])
    assert isinstance(caption, Caption)
    assert (caption.tokens_in, caption.tokens_out) == (30, 2)


def caption_and_estimates(server: CaptionServer, **options: object) -> tuple[Caption | Exception, int, int]:
    client, _ = make_captioner(server, **options)
    prompt = len(client.render(Context("red bag", "Bags")))
    return caption_one(client), prompt // 4 + 96 * 64 // 750, 150


LOST = {
    "cut off on its way": Reply(200, {"choices": []}, cut=True),
    "half an object": Reply(200, '{"choices": [{"mess'),
}


@pytest.mark.parametrize("case", LOST)
def test_the_tokens_of_lost_answers_are_counted(case: str) -> None:
    with serving(lambda title, earlier: LOST[case] if earlier < 2 else answer("A red bag.")) as server:
        caption, sent, answered = caption_and_estimates(server)
    assert isinstance(caption, Caption)
    assert (caption.tokens_in, caption.tokens_out) == (30 + 2 * sent, 7 + 2 * answered)
    with serving(lambda title, earlier: LOST[case]) as server:
        error, sent, answered = caption_and_estimates(server)
    assert isinstance(error, CaptionError)
    assert (error.tokens_in, error.tokens_out) == (6 * sent, 6 * answered)


def test_server_errors_cost_no_tokens() -> None:
    with serving(lambda title, earlier: Reply(500, "oops")) as server:
        error, *_ = caption_and_estimates(server)
    assert isinstance(error, CaptionError)
    assert (error.tokens_in, error.tokens_out) == (0, 0)


def test_a_header_that_arrives_too_slowly_ends_with_the_timeout() -> None:
    """500 bytes of head, 0.1 s apart: no read waits long, the answer would take a minute."""
    with serving(lambda title, earlier: answer("ok") if earlier else Reply(drip=0.1)) as server:
        start = time.monotonic()
        assert isinstance(caption_one(make_captioner(server, openai_timeout=0.8)[0]), Caption)
    assert time.monotonic() - start < 30
    assert server.requests == {"red bag": 2}


def test_a_body_that_arrives_too_slowly_ends_with_the_timeout() -> None:
    slow = Reply(drip=0.002, body="x" * 5000)  # the head comes within 1.5 s, the body in another 10 s
    with serving(lambda title, earlier: answer("ok") if earlier else slow) as server:
        caption, sent, _ = caption_and_estimates(server, openai_timeout=4.0)
    assert isinstance(caption, Caption)
    assert caption.tokens_in == 30 + sent, "the unfinished answer is counted"


def test_the_limit_of_tokens_per_minute_holds() -> None:
    """60,000 a minute: 1,000 at once, then 983 a second; a server that counts none takes what was reserved."""
    with serving(lambda title, earlier: Reply(body={"choices": [{"message": {"content": "A mug."}}]})) as server:
        client, _ = make_captioner(server, openai_tpm=60_000)
        reserved = 12 * (len(client.render(Context("0", "Bags"))) // 4 + 150)
        start = time.monotonic()
        assert len(list(run_concurrently(lambda item: caption_one(client, str(item)), range(12), 12))) == 12
    assert time.monotonic() - start > (reserved - 1_000) / 983.4 - 0.1 > 1.0
