"""Captions of photos through the cache: one model call for each different photo and prompt."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from vlm4rec_search.captioning.base import Caption, Captioner, CaptionError, Context
from vlm4rec_search.captioning.validation import validate_caption
from vlm4rec_search.common.cache import Cache, Codec, CostMeter, Failure, FillPolicy, Results, result_key
from vlm4rec_search.common.errors import RunError, Vlm4recError, one_line
from vlm4rec_search.datasets.photos.decode import PREPROCESSING, Photo, PhotoFile, read_photos

MAX_FAILURES_IN_A_ROW = 40
NOT_CAPTIONED = Failure(
    "pending", "not captioned yet: run `vlm4rec captions run`, or plan with a larger VLM4REC_CAPTION_BUDGET"
)
IN_BATCH = "in_batch"
"""The status of a caption whose request is in a batch file (`batch.py`): neither a run nor a plan makes it."""
Entry = dict[str, Any]
"""A stored answer: caption, note, attributes, tokens_in, tokens_out, seconds. Old entries lack the last four."""
ENTRY: Codec[Entry] = Codec(lambda entry: json.dumps(entry).encode(), json.loads)


class SightCheck:
    """Checks once in a run, before its first call, whether a captioner sees photos; several threads may use it."""

    def __init__(self, captioner: Captioner, cost_meter: CostMeter) -> None:
        self._captioner, self._cost_meter = captioner, cost_meter
        self._done, self._lock = False, Lock()
        self._error: Vlm4recError | None = None

    def require(self) -> None:
        """Check, if no thread has checked yet; later calls have the same result.

        Raises:
            UsageError, RunError: as `Captioner.check_sight`.
        """
        with self._lock:
            if not self._done:
                self._done = True
                try:
                    self._captioner.check_sight(self._cost_meter.add_overhead)
                except Vlm4recError as error:
                    self._error = error
                    raise
            if self._error is not None:
                raise self._error


class CircuitBreaker:
    """Ends a run after many failed calls in a row: a server that answers every photo with an error will not recover.

    Refusals and empty answers are no failed calls, since they show that the captioner works. Several threads may record
    results.
    """

    def __init__(self, captioner: str) -> None:
        self._captioner, self._count, self._last = captioner, 0, ""
        self._lock = Lock()

    def record(self, results: Sequence[Entry | Failure]) -> None:
        """Count the failed calls among the results of the captioner, in their order."""
        with self._lock:
            for result in results:
                if isinstance(result, Failure) and result.status == "failed":
                    self._count, self._last = self._count + 1, result.message
                else:
                    self._count, self._last = 0, ""

    def check(self) -> None:
        """Check that another call may be made.

        Raises:
            RunError: the last `MAX_FAILURES_IN_A_ROW` calls failed.
        """
        if self._count >= MAX_FAILURES_IN_A_ROW:
            raise RunError(
                f"{self._captioner}: {self._count} calls in a row failed ({self._last}); the captions so far are kept."
                " Solve the problem, then repeat the failed calls with `vlm4rec captions retry`, and caption the rest"
                " with `vlm4rec captions run`"
            )


class RunChecks:
    """The checks that end a run early; the calls of `caption_photos` of one run share them.

    Args:
        captioner: whose calls are checked.
        cost_meter: counts the tokens of the checks.
    """

    def __init__(self, captioner: Captioner, cost_meter: CostMeter) -> None:
        self.breaker, self.sight = CircuitBreaker(captioner.id), SightCheck(captioner, cost_meter)


@dataclass(frozen=True)
class Outcome:
    """The caption of an item's photo, or the reason why there is none.

    Attributes:
        status: ok, pending, in_batch, failed, a status of `PhotoError` or `CaptionError`, or a fault of the answer
            (`validation.validate_caption`).
        answer: the captioner's words, whatever the status; None without an answer.
        error: the reason of a status other than ok. With ok, a note about the photo or the text, or None.
        attributes: fields of a structured answer.
        tokens_in, tokens_out, seconds: of the call behind the answer; None without an answer.
    """

    status: str
    answer: str | None = None
    error: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    tokens_in: int | None = None
    tokens_out: int | None = None
    seconds: float | None = None


def caption_photos(
    captioner: Captioner,
    files: Sequence[PhotoFile],
    contexts: Sequence[Context],
    cache: Cache,
    policy: FillPolicy,
    checks: RunChecks | None = None,
) -> tuple[list[Outcome], Results[Entry]]:
    """Caption photos as far as the policy allows, and validate every answer.

    Args:
        captioner: makes the captions.
        files: photo file of each item, or the failure to find it.
        contexts: title and category of each item.
        cache: holds earlier captions.
        policy: which captions may be computed; `recompute` holds keys of `caption_keys`.
        checks: of the run that this call is a part of.

    Returns:
        An outcome for each item, and the results of the cache.

    Raises:
        RunError: the cache cannot be used, the captioner breaks its contract, or every call fails.
        UsageError: the captioner cannot work at all.
    """
    checks = checks or RunChecks(captioner, policy.cost_meter)

    def caption_batch(batch: Sequence[tuple[PhotoFile, str]]) -> list[Entry | Failure]:
        checks.breaker.check()
        photos = read_photos([file for file, _ in batch])
        prompts = [prompt for _, prompt in batch]
        readable = [(photo, prompt) for photo, prompt in zip(photos, prompts, strict=True) if isinstance(photo, Photo)]
        if readable:
            checks.sight.require()
        answers = _call_captioner(captioner, readable, policy.cost_meter)
        checks.breaker.record(answers)
        remaining = iter(answers)
        return [photo if isinstance(photo, Failure) else next(remaining) for photo in photos]

    prompts = [captioner.render(context) for context in contexts]
    keys = caption_keys(captioner, files, prompts)
    results = cache.get_or_compute(
        "caption",
        captioner.id,
        {key: (file, prompt) for key, file, prompt in zip(keys, files, prompts, strict=True) if file.failure is None},
        caption_batch,
        ENTRY,
        policy,
        batch_size=captioner.batch_size,
        workers=captioner.workers,
        label=f"captions by {captioner.id}",
        exclusive=True,
    )
    outcomes = [
        validate_entry(results.values[key], context)
        if key in results.values
        else _describe_failure(file.failure or results.failures.get(key, NOT_CAPTIONED))
        for key, file, context in zip(keys, files, contexts, strict=True)
    ]
    return outcomes, results


def caption_keys(captioner: Captioner, files: Sequence[PhotoFile], prompts: Sequence[str]) -> list[str]:
    """Return the cache key of each photo with its rendered prompt."""
    shared = (captioner.id, captioner.prompt, captioner.decoding, PREPROCESSING)
    return [
        result_key("caption", *shared, file.digest or "", prompt) for file, prompt in zip(files, prompts, strict=True)
    ]


def validate_entry(entry: Entry, context: Context) -> Outcome:
    """Return a stored answer with its status."""
    attributes = entry.get("attributes", {})
    status, reason = validate_caption(entry["caption"], context, attributes)
    usage = (entry.get("tokens_in"), entry.get("tokens_out"), entry.get("seconds"))
    return Outcome(status, entry["caption"], reason or entry["note"] or None, attributes, *usage)


def _describe_failure(failure: Failure) -> Outcome:
    return Outcome(failure.status, failure.text or None, failure.message)


def _call_captioner(
    captioner: Captioner, photos: Sequence[tuple[Photo, str]], cost_meter: CostMeter
) -> list[Entry | Failure]:
    """Caption photos with their prompts; when a batch fails, caption each photo alone, to isolate the faulty one."""
    if not photos:
        return []
    try:
        captions = captioner.caption([photo.image for photo, _ in photos], [prompt for _, prompt in photos])
    except Vlm4recError:
        raise
    except Exception as error:
        if len(photos) == 1:
            return [Failure.from_error(error)]
        return [result for pair in photos for result in _call_captioner(captioner, [pair], cost_meter)]
    try:
        if len(captions) != len(photos):
            raise RunError(f"captioner {captioner.id} returned {len(captions)} captions for {len(photos)} photos")
        pairs = zip(captions, photos, strict=True)
        return [make_entry(caption, photo.note, cost_meter) for caption, (photo, _) in pairs]
    except (AttributeError, TypeError, ValueError) as error:  # of what a plug-in returned
        raise RunError(
            f"captioner {captioner.id} has to return a list with a `Caption` or an exception for each photo:"
            f" {one_line(error)}"
        ) from None


def make_entry(caption: Caption | Exception, photo_note: str, cost_meter: CostMeter) -> Entry | Failure:
    """Return what the cache stores of an answer, and count its cost."""
    if isinstance(caption, Caption | CaptionError):
        cost_meter.add(caption.tokens_in, caption.tokens_out)
    if isinstance(caption, Exception):
        return Failure.from_error(caption)
    text = " ".join(caption.text.split())
    if not text:
        return Failure("empty", "the caption is empty")
    return {
        "caption": text,
        "note": "; ".join(filter(None, (photo_note, caption.note))),
        "attributes": dict(caption.attributes),
        "tokens_in": caption.tokens_in,
        "tokens_out": caption.tokens_out,
        "seconds": round(caption.seconds, 4),
    }
