"""What a server's answer is worth when something beside the text is odd, late or lost."""

import time
from typing import Any

import pytest
from helpers.caption_server import CaptionServer, Reply, answer, serving
from test_captioner_openai import captioner, one

from vlm4rec_search.captioning.base import Caption, CaptionError, Context
from vlm4rec_search.captioning.captioners.openai.responses import Completion
from vlm4rec_search.common.concurrency import run_concurrently

MESSAGE = {"role": "assistant", "content": "A red bag."}


def said(usage: Any = None, **choice: Any) -> Reply:
    body: dict[str, Any] = {"choices": [{"message": MESSAGE, "finish_reason": "stop", **choice}]}
    return Reply(body=body | ({} if usage is None else {"usage": usage}))


ODD = {
    "no usage": said(),
    "null counts": said({"prompt_tokens": None, "completion_tokens": None}),
    "counts that are no numbers": said({"prompt_tokens": "many", "completion_tokens": {}}),
    "negative counts": said({"prompt_tokens": -1, "completion_tokens": -1}),
    "usage that is a list": said([1, 2]),
    "a part without text": said(message={"content": [{"type": "text", "text": None}, {"text": "A red bag."}]}),
    "a part of another kind": said(message={"content": [{"type": "thinking", "thinking": 3}, {"text": "A red bag."}]}),
    "parts that are texts or nothing": said(message={"content": ["A red ", None, 7, "bag."]}),
    "one part": said(message={"content": {"type": "text", "text": "A red bag."}}),
    "a reason that is an object": said(finish_reason={"type": "stop"}, refusal=3),
    "a refusal that is no text": said(message=MESSAGE | {"refusal": {}, "tool_calls": [None]}),
    "fields of other names": Reply(body={"choices": [{"message": MESSAGE}], "seconds": None, "broken": "x"}),
    "a broken second choice": Reply(body={"choices": [{"message": MESSAGE}, {"message": 5}]}),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_a_usable_text_is_never_lost_and_its_tokens_are_estimated(case: str) -> None:
    with serving(lambda title, earlier: ODD[case]) as server:
        client, _ = captioner(server)
        caption = one(client)
    assert isinstance(caption, Caption), caption
    assert caption.text == "A red bag."
    assert len(server.calls) == 1
    prompt = len(client.render(Context("red bag", "Bags")))
    assert caption.tokens_in == prompt // 4 + 24 * 16 // 750
    assert caption.tokens_out == len("A red bag.") // 4
    assert caption.note == "tokens are estimated: the server reports none"


def test_counts_that_the_server_tells_are_taken_as_they_are() -> None:
    told = Completion.model_validate(said({"prompt_tokens": 30.0, "completion_tokens": "7"}).body)
    assert told.usage is not None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (30, 7)
    with serving(lambda title, earlier: said({"prompt_tokens": 30})) as server:
        caption = one(captioner(server)[0])
    assert isinstance(caption, Caption)
    assert (caption.tokens_in, caption.tokens_out) == (30, 2)


def counted(server: CaptionServer, **options: object) -> tuple[Caption | Exception, int, int]:
    client, _ = captioner(server, **options)
    prompt = len(client.render(Context("red bag", "Bags")))
    return one(client), prompt // 4, 150


LOST = {
    "cut off on its way": Reply(200, {"choices": []}, cut=True),
    "half an object": Reply(200, '{"choices": [{"mess'),
}


@pytest.mark.parametrize("case", LOST)
def test_answers_that_are_lost_on_their_way_are_counted(case: str) -> None:
    with serving(lambda title, earlier: LOST[case] if earlier < 2 else answer("A red bag.")) as server:
        caption, sent, answered = counted(server)
    assert isinstance(caption, Caption)
    assert (caption.tokens_in, caption.tokens_out) == (30 + 2 * sent, 7 + 2 * answered)
    with serving(lambda title, earlier: LOST[case]) as server:
        error, sent, answered = counted(server)
    assert isinstance(error, CaptionError)
    assert (error.tokens_in, error.tokens_out) == (6 * sent, 6 * answered)


def test_errors_of_the_server_cost_nothing() -> None:
    with serving(lambda title, earlier: Reply(500, "oops")) as server:
        error, *_ = counted(server)
    assert isinstance(error, CaptionError)
    assert (error.tokens_in, error.tokens_out) == (0, 0)


def test_a_server_that_drips_is_left_after_the_timeout() -> None:
    """500 bytes of head, 0.1 s apart: no read waits long, the answer would take a minute."""
    with serving(lambda title, earlier: answer("ok") if earlier else Reply(drip=0.1)) as server:
        start = time.monotonic()
        assert isinstance(one(captioner(server, openai_timeout=0.8)[0]), Caption)
    assert time.monotonic() - start < 30
    assert server.requests == {"red bag": 2}


def test_a_body_that_drips_is_left_after_the_timeout() -> None:
    slow = Reply(drip=0.002, body="x" * 5000)  # the head comes within 1.5 s, the body in another 10 s
    with serving(lambda title, earlier: answer("ok") if earlier else slow) as server:
        caption, sent, _ = counted(server, openai_timeout=4.0)
    assert isinstance(caption, Caption)
    assert caption.tokens_in == 30 + sent, "what was being answered is counted"


def test_the_limit_of_tokens_is_kept() -> None:
    """60,000 a minute: 1,000 at once, then 983 a second; a server that counts none takes what was reserved."""
    with serving(lambda title, earlier: Reply(body={"choices": [{"message": {"content": "A mug."}}]})) as server:
        client, _ = captioner(server, openai_tpm=60_000)
        reserved = 12 * (len(client.render(Context("0", "Bags"))) // 4 + 150)
        start = time.monotonic()
        assert len(list(run_concurrently(lambda item: one(client, str(item)), range(12), 12))) == 12
    assert time.monotonic() - start > (reserved - 1_000) / 983.4 - 0.1 > 1.0
