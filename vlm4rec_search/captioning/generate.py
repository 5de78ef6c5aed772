"""One model call for each different photo and prompt, through the cache."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock

from vlm4rec_search.captioning.base import Caption, Captioner, CaptionError, Context
from vlm4rec_search.captioning.validation import validate_caption
from vlm4rec_search.common.cache.cache import Cache, Filled, Result, result_key
from vlm4rec_search.common.cache.policy import EarlierError, Effort, Meter, PendingError
from vlm4rec_search.common.errors import RunError, Vlm4recError
from vlm4rec_search.datasets.photos.decode import PREPROCESSING, Found, Photo, PhotoError, read

# Ends a run in which nothing comes back: a server that answers every photo with an error will not change.

IN_A_ROW = 40


class Breaker:
    """Counts calls that failed one after the other; several threads may report to it.

    What is wrong with single photos does not count: files that cannot be read say nothing of the captioner, and a
    refusal or an empty answer shows that it works.
    """

    def __init__(self, maker: str) -> None:
        self._maker, self._count, self._last = maker, 0, ""
        self._lock = Lock()

    def see(self, results: Sequence[Result]) -> None:
        """Look at the results of a batch, which are kept whatever they are."""
        with self._lock:
            for result in results:
                if isinstance(result, PhotoError):
                    continue
                failure = None if isinstance(result, bytes) else EarlierError.of(result)
                failed = failure is not None and failure.status == "failed"
                self._count, self._last = (self._count + 1, str(failure)) if failed else (0, "")

    def check(self) -> None:
        """Refuse to call once more.

        Raises:
            RunError: the last `IN_A_ROW` calls have failed.
        """
        if self._count >= IN_A_ROW:
            raise RunError(
                f"{self._maker}: {self._count} calls in a row failed ({self._last}): what was done is kept; when that"
                " is mended, `vlm4rec captions retry` asks for these again, and `run` for the rest"
            )


PENDING = "not captioned yet: `vlm4rec captions run` does it, or a plan with a larger VLM4REC_CAPTION_BUDGET"


@dataclass(frozen=True)
class Outcome:
    """What became of one item's photo.

    Attributes:
        status: ok, what is wrong with the answer (`judging`), failed, pending, or what is wrong with the photo.
        answer: the captioner's words, whatever the status; None where it gave none.
        error: why the status is not ok; with ok what had to be done to the photo or is to be known of the text.
        attributes: fields of a structured answer.
        tokens_in, tokens_out, seconds: of the call that gave the answer; None where there was none.
    """

    status: str
    answer: str | None = None
    error: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    tokens_in: int | None = None
    tokens_out: int | None = None
    seconds: float | None = None


def fill_captions(
    maker: Captioner, found: Sequence[Found], contexts: Sequence[Context], cache: Cache, effort: Effort
) -> tuple[list[Outcome], Filled]:
    """Caption photos as far as `effort` allows, and judge every answer; return an outcome for each, and the counts.

    A limit of 0 only looks up what is there, which is no run and leaves no row in the ledger.

    Args:
        maker: the captioner; `effort.workers` is overruled by its own.
        found: the photo of each item, or why there is none.
        contexts: what the captioner may know of each item.
        cache: holds what was captioned before.
        effort: limit, money, and what is tried again (`again` holds keys of `caption_keys`).

    Raises:
        RunError: the cache cannot be used, the captioner breaks its contract, or every call fails.
        UsageError: the captioner cannot work at all.
    """
    usable = [position for position, photo in enumerate(found) if photo.error is None]
    prompts = [maker.render(contexts[position]) for position in usable]
    calls = _Calls(maker, [found[position] for position in usable], prompts, effort.meter, Breaker(maker.id))
    filled = _fill(calls, cache, replace(effort, workers=maker.workers))
    results = dict(zip(usable, filled.values, strict=True))
    pairs = enumerate(zip(found, contexts, strict=True))
    outcomes = [outcome(results.get(at, photo.error or PendingError()), context) for at, (photo, context) in pairs]
    return outcomes, filled


def _fill(calls: "_Calls", cache: Cache, effort: Effort) -> Filled:
    maker, label = calls.maker, f"captions by {calls.maker.id}"
    keys = caption_keys(maker, calls.found, calls.prompts)
    return cache.fill(
        "caption",
        maker.id,
        keys,
        calls.compute,
        batch_size=maker.batch_size,
        label=label,
        recorded=effort.limit != 0,
        paid=True,
        effort=effort,
    )


def caption_keys(maker: Captioner, found: Sequence[Found], prompts: Sequence[str]) -> list[str]:
    """Return the cache key of each photo and its rendered prompt."""
    made_by = (maker.id, maker.prompt, maker.decoding, PREPROCESSING)
    return [
        result_key("caption", *made_by, photo.digest or "", prompt)
        for photo, prompt in zip(found, prompts, strict=True)
    ]


def outcome(result: Result, context: Context) -> Outcome:
    """Read a result of the cache and judge it."""
    if isinstance(result, bytes):
        entry = json.loads(result)
        status, reason = validate_caption(entry["caption"], context, entry.get("attributes", {}))
        usage = (entry.get("tokens_in"), entry.get("tokens_out"), entry.get("seconds"))
        return Outcome(status, entry["caption"], reason or entry["note"] or None, entry.get("attributes", {}), *usage)
    if isinstance(result, PendingError):
        return Outcome("pending", error=PENDING)
    failure = EarlierError.of(result)
    return Outcome(failure.status, failure.text or None, str(failure))


@dataclass(frozen=True)
class _Calls:
    """The photos that can be read, and how a batch of them is captioned."""

    maker: Captioner
    found: Sequence[Found]
    prompts: Sequence[str]
    meter: Meter
    breaker: Breaker

    def compute(self, positions: Sequence[int]) -> list[Result]:
        self.breaker.check()
        photos = {position: _read(self.found[position]) for position in positions}
        good = {position: photo for position, photo in photos.items() if isinstance(photo, Photo)}
        captions = self._captions(list(good.values()), [self.prompts[position] for position in good])
        results: dict[int, Result] = dict(zip(good, captions, strict=True))
        failed = {position: photo for position, photo in photos.items() if isinstance(photo, PhotoError)}
        ordered = [(results | failed)[position] for position in positions]
        self.breaker.see(ordered)
        return ordered

    def _captions(self, photos: Sequence[Photo], prompts: Sequence[str]) -> list[Result]:
        """Caption a batch; when it fails as a whole, each photo alone, so that one cannot take the others along."""
        if not photos:
            return []
        try:
            captions = self.maker.caption([photo.image for photo in photos], prompts)
        except Vlm4recError:
            raise
        except Exception as error:
            if len(photos) == 1:
                return [error]
            pairs = zip(photos, prompts, strict=True)
            return [result for photo, prompt in pairs for result in self._captions([photo], [prompt])]
        if len(captions) != len(photos):
            raise RunError(f"captioner {self.maker.id} returned {len(captions)} captions for {len(photos)} photos")
        return [self._entry(caption, photo) for caption, photo in zip(captions, photos, strict=True)]

    def _entry(self, caption: Caption | Exception, photo: Photo) -> Result:
        if isinstance(caption, Caption | CaptionError):
            self.meter.add(caption.tokens_in, caption.tokens_out)
        if isinstance(caption, Exception):
            return caption
        text = " ".join(caption.text.split())
        if not text:
            return CaptionError("empty", "the caption is empty")
        entry = {"caption": text, "note": "; ".join(filter(None, (photo.note, caption.note)))}
        usage = {"tokens_in": caption.tokens_in, "tokens_out": caption.tokens_out, "seconds": round(caption.seconds, 4)}
        return json.dumps(entry | {"attributes": dict(caption.attributes)} | usage).encode()


def _read(found: Found) -> Photo | PhotoError:
    try:
        return read(found)
    except PhotoError as error:
        return error
