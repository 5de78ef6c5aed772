"""A catalogue of a thousand photos against a server that misbehaves, from the tables to the cache."""

from collections import Counter
from itertools import count
from pathlib import Path

from helpers.caption_server import HANG, Reply, answer, refusal, serving
from helpers.colour_catalogue import write_catalogue

from vlm4rec_search.captioning.run import look_up_captions, run_captions
from vlm4rec_search.common.cache import Cache

ITEMS, PER_MINUTE, WORKERS = 1000, 7200, 16
FAULTS = {
    3: refusal(429, "slow down", Retry_After="0"),
    9: Reply(500, "oops"),
    15: Reply(200, '{"choi'),
    21: Reply(200, {"choices": []}, cut=True),
    33: Reply(502, "<html>"),
}
FINAL = {39: answer(None, refusal="No."), 45: answer("")}
HANGING, PAUSING = (27, 77), (4, 504)


def behave(title: str, earlier: int) -> Reply:
    """Of every 50 items five fail at first, one is refused, one answer is empty; two items hang, two cause a pause."""
    item = int(title.removeprefix("Item i"))
    if item in HANGING and not earlier:
        return Reply(delay=HANG)
    if item in PAUSING and not earlier:
        return refusal(429, "come again", Retry_After="1")
    if item % 50 in FAULTS and not earlier:
        return FAULTS[item % 50]
    reply = FINAL.get(item % 50, answer(f"Item {item} of the catalogue."))
    return Reply(reply.status, reply.body, delay=0.06 if item % 50 == 48 else 0.02)  # three times slower


def count_most_calls_within(times: list[float], seconds: float) -> int:
    """Return the largest number of calls in any span of so many seconds."""
    return max(sum(start <= moment <= start + seconds for moment in times) for start in times)


def test_a_thousand_items_are_captioned_once_within_the_limits_and_a_second_run_sends_nothing(tmp_path: Path) -> None:
    colours = [(number % 256, number // 256, 90) for number in range(ITEMS)]
    items = [(f"i{number}", colour, 0) for number, colour in enumerate(colours)]
    with serving(behave) as server:
        options = {"openai_url": server.url, "openai_rpm": PER_MINUTE, "openai_timeout": 8.0}
        settings = write_catalogue(tmp_path, *items, captioner="openai:llava", **options)
        summary = run_captions(settings)
        calls = len(server.calls)
        again = run_captions(settings)
    assert summary.statuses == {"ok": 960, "refused": 20, "empty": 20}
    assert (summary.computed, summary.failed) == (960, 40)
    with Cache(settings.cache) as cache:
        captions = look_up_captions(settings, cache)
    pairs = zip(captions.items, captions.outcomes, strict=True)
    answers = {item.item_id: outcome.answer for item, outcome in pairs if outcome.status == "ok"}
    assert answers == {f"i{item}": f"Item {item} of the catalogue." for item in range(ITEMS) if item % 50 not in FINAL}
    assert server.answers == {f"Item i{item}": 1 for item in range(ITEMS)}, "no item is captioned twice or lost"
    assert calls == ITEMS + 5 * 20 + len(HANGING) + len(PAUSING)
    assert (len(server.calls), again.computed, again.statuses) == (calls, 0, summary.statuses)
    # a bucket of one second's worth that gains (7200 - 120) / 60 a second; requests in flight may arrive late
    times = [moment for moment, _ in server.calls]
    for seconds in (1.0, 5.0, 60.0):
        assert count_most_calls_within(times, seconds) <= 120 + 118 * seconds + WORKERS, seconds
    assert 4 < server.most_in_flight <= WORKERS


def test_a_retry_repeats_failed_items_only(tmp_path: Path) -> None:
    requests = count()
    replies = (answer(None, refusal="No."), answer("A red mug."))
    with serving(lambda title, earlier: replies[next(requests) % 2]) as server:
        options = {"openai_url": server.url, "openai_workers": 1}
        settings = write_catalogue(
            tmp_path, ("a", (1, 2, 3), 1), ("b", (3, 2, 1), 0), captioner="openai:llava", **options
        )
        assert run_captions(settings).statuses == {"refused": 1, "ok": 1}
        next(requests)
        assert run_captions(settings, retry=("refused",)).statuses == {"ok": 2}
    assert server.requests == Counter({"Item a": 2, "Item b": 1})
