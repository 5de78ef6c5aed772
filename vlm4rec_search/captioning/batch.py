"""Captions by batch files in the OpenAI format: requests are written to files, run elsewhere, and their answers read.

A request has the cache key of its caption as `custom_id`. Its caption has the status `in_batch` until the answer is
read, so that no run or plan pays for it meanwhile.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import httpx
from pydantic import BaseModel, ValidationError, model_validator

from vlm4rec_search.captioning.answers import replace_half_characters
from vlm4rec_search.captioning.captioners.openai.captioner import OpenAICaptioner
from vlm4rec_search.captioning.captioners.openai.responses import is_error
from vlm4rec_search.captioning.estimate import earlier_runs, mean_tokens
from vlm4rec_search.captioning.generate import ENTRY, IN_BATCH, make_entry
from vlm4rec_search.captioning.prompts import Prompt
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.captioning.run import CatalogueCaptions, Share, fetch_selected, locate_items, look_up_captions
from vlm4rec_search.common.cache import Cache, CostMeter, Failure, FillPolicy, Prices, Record, result_key
from vlm4rec_search.common.concurrency import run_concurrently, usable_cores
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.paths import file_lock
from vlm4rec_search.common.progress import bar
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.photos.decode import Photo, PhotoFile, read_photos
from vlm4rec_search.datasets.photos.locate import is_url, with_scheme

ENDPOINT = "/v1/chat/completions"
MOST_REQUESTS, MOST_MEGABYTES = 50_000, 200
"""The largest batch file that OpenAI and Azure accept."""
_WRITING = "being written to {}: if that export does not run any more, export again"
_SENT = "in the batch file {} since {} UTC: read its answers with `vlm4rec captions import-batch`"
_SENT_FILE = re.compile(r"in the batch file (.+) since \d{4}-")
_READ_AT_ONCE = 500
_UNKNOWN, _READ = "unknown answer", "batch error"
_CALLS = ("failed", "refused", "empty")


@dataclass(frozen=True)
class BatchFile:
    """A file of requests and its size."""

    path: str
    requests: int
    bytes: int


@dataclass(frozen=True)
class ExportSummary:
    """The results of an export.

    Attributes:
        captioner, prompt: ids.
        files: what was written, highest priority first.
        requests: number of distinct requests in them.
        in_batch: items whose requests are in earlier files, and were left out.
        bad_photos: distinct photos that cannot be read.
        elsewhere: requests left out because another process captions them now.
        answered: items left out because a stored answer that cannot be used stays until a retry replaces it.
        tokens_in, tokens_out: estimated tokens of the requests.
        measured: number of earlier calls behind the token counts; 0 if the counts are assumed.
        cost: price of these tokens, at the prices of the settings.
    """

    captioner: str
    prompt: str
    files: list[BatchFile]
    requests: int
    in_batch: int
    bad_photos: int
    elsewhere: int
    answered: int
    tokens_in: int
    tokens_out: int
    measured: int
    cost: float


def export_batch(
    settings: Settings,
    path: Path,
    captioner: str | None = None,
    *,
    limit: int | None = None,
    part: Share | None = None,
    failed: bool = False,
    again: bool = False,
    urls: bool = False,
    most_requests: int = MOST_REQUESTS,
    most_megabytes: float = MOST_MEGABYTES,
    environment: str = "prod",
) -> ExportSummary:
    """Write the requests of the pending items to `path`, and those beyond its limits to `path`-2, -3 and so on.

    Photos behind URLs are fetched first, since the key of a caption contains the photo's hash. A file appears when it
    is complete; after a kill the next export writes its requests again.

    Args:
        settings: captioner, photos, cache and prices.
        path: the first file; none of the files may exist.
        captioner: name of another captioner than the active one, of the kind `openai`.
        limit: the largest number of items.
        part: share of the items; by default all.
        failed: also items whose last call failed, was refused or answered nothing, but for those with a stored answer.
        again: also items whose requests are in earlier files: their answers will not come.
        urls: name photos behind URLs by their URL, in place of their bytes.
        most_requests, most_megabytes: limits of a file; a megabyte has 10^6 bytes.
        environment: the SQLMesh environment of the items.

    Raises:
        UsageError: the captioner is of another kind, a file exists, or the tables do not exist yet.
        RunError: warehouse or cache cannot be used.
    """
    model = _load(settings, captioner)
    _refuse_existing(path)
    statuses = {"pending", *(_CALLS if failed else ()), *((IN_BATCH,) if again else ())}
    with Cache(settings.cache) as cache, file_lock(settings.cache / "export.lock"):
        catalogue = look_up_captions(settings, cache, captioner, environment)
        writer = _RequestWriter(cache, model, path, most_requests, most_megabytes * 1e6)
        # No other export runs now: what is left unwritten is of an export that was killed.
        left = _find_left(catalogue)
        writer.mark(catalogue.keys(left, [catalogue.photos[at] for at in left]))
        calls = catalogue.positions(_CALLS if failed else ())
        keys = catalogue.keys(calls, [catalogue.photos[at] for at in calls])
        stored = cache.read(keys)
        answered = {at for at, key in zip(calls, keys, strict=True) if key in stored}
        selected = sorted({*left, *catalogue.positions(statuses)} - answered)
        selected = catalogue.in_part(selected, part)[:limit]
        photos = fetch_selected(catalogue, selected, settings, cache, FillPolicy(retry_failed=False, show=bar))
        requests = _requests(catalogue, selected, photos, urls)
        taken = set(cache.set_aside("caption", model.id, dict.fromkeys(requests, writer.writing), "export-batch"))
        writer.write({key: request for key, request in requests.items() if key in taken})
        earlier = earlier_runs(cache, model.id)
    (mean_in, mean_out), measured = mean_tokens(catalogue, earlier)
    number = sum(file.requests for file in writer.files)
    tokens = round(number * mean_in), round(number * mean_out)
    statuses_before = Counter(outcome.status for outcome in catalogue.outcomes)
    again_selected = sum(catalogue.outcomes[at].status == IN_BATCH for at in selected)
    return ExportSummary(
        captioner=model.id,
        prompt=model.prompt,
        files=writer.files,
        requests=number,
        in_batch=statuses_before[IN_BATCH] - again_selected,
        bad_photos=writer.bad_photos,
        elsewhere=len(requests) - len(taken),
        answered=len(catalogue.in_part(sorted(answered), part)),
        tokens_in=tokens[0],
        tokens_out=tokens[1],
        measured=measured,
        cost=Prices.from_settings(settings).cost(*tokens),
    )


@dataclass(frozen=True)
class _Request:
    photo: PhotoFile
    prompt: str
    url: str | None


def _requests(
    catalogue: CatalogueCaptions, selected: Sequence[int], photos: Sequence[PhotoFile], urls: bool
) -> dict[str, _Request]:
    """Return the request of each key; items with the same photo and prompt share one."""
    items = [catalogue.items[at] for at in selected]
    return {
        key: _Request(
            photo,
            catalogue.captioner.render(item.context),
            with_scheme(item.image) if urls and is_url(item.image) else None,
        )
        for key, photo, item in zip(catalogue.keys(selected, photos), photos, items, strict=True)
        if photo.failure is None
    }


def _find_left(catalogue: CatalogueCaptions) -> list[int]:
    """Return the positions of the items whose export was killed before its file had its name."""
    waiting = catalogue.positions((IN_BATCH,))
    keys = catalogue.keys(waiting, [catalogue.photos[at] for at in waiting])
    # A complete file may have been moved since, and a later export of its name been killed.
    parts: dict[str, frozenset[str]] = {}
    left = []
    for at, key in zip(waiting, keys, strict=True):
        failure = Failure(IN_BATCH, catalogue.outcomes[at].error or "")
        if sent := _SENT_FILE.match(failure.message):
            if sent[1] not in parts:
                parts[sent[1]] = _unfinished_keys(Path(sent[1]))
            is_left = key in parts[sent[1]]
        else:
            is_left = is_being_written(failure)
        if is_left:
            left.append(at)
    return left


def _unfinished_keys(path: Path) -> frozenset[str]:
    """Return the keys of the requests in what a killed export left of a file; none if the file is there."""
    part = _part_of(path)
    if path.exists() or not part.exists():
        return frozenset()
    with part.open("rb") as lines:  # the last one may be cut off
        return frozenset(json.loads(line)["custom_id"] for line in lines if line.endswith(b"\n"))


def is_being_written(failure: Failure) -> bool:
    """Return whether an export has set a request aside, and its file is not complete yet."""
    return failure.status == IN_BATCH and failure.message.startswith(_WRITING.partition("{")[0])


def _part_of(path: Path) -> Path:
    """Return where a file is written until it is complete."""
    return path.with_name(f"{path.name}.part")


def _load(settings: Settings, captioner: str | None) -> OpenAICaptioner:
    name = captioner or settings.captioner
    loaded = load_captioner(name, settings)
    if not isinstance(loaded, OpenAICaptioner):
        raise UsageError(
            f"batch files are for captioners of the kind openai:<model>, not {name!r}: name one with --captioner"
        )
    return loaded


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise UsageError(f"{path} exists: choose another name")


class _RequestWriter:
    """Writes requests to files, and stores in which file a request is.

    Attributes:
        files: the complete files.
        bad_photos: number of requests whose photo cannot be read.
        writing: what is stored of a request until its file is complete.
    """

    def __init__(self, cache: Cache, captioner: OpenAICaptioner, path: Path, most: int, most_bytes: float) -> None:
        self._cache, self._captioner, self._path = cache, captioner, path
        self._most, self._most_bytes = most, most_bytes
        self.files: list[BatchFile] = []
        self.bad_photos = 0
        self.writing = Failure(IN_BATCH, _WRITING.format(path.name))

    def mark(self, keys: Sequence[str]) -> None:
        """Store that the requests with these keys are in no file yet."""
        marks = dict.fromkeys(keys, self.writing)
        self._cache.put_failures("caption", self._captioner.id, marks, "export-batch")

    def write(self, requests: Mapping[str, _Request]) -> None:
        """Write all requests; photos are read and encoded in threads.

        Raises:
            UsageError: the next file exists.
            RunError: a file cannot be written.
        """
        try:
            self._write(requests)
        except OSError as error:
            raise RunError(
                f"{self._path} cannot be written ({error.strerror or error}): the next export writes what is missing"
            ) from None

    def _write(self, requests: Mapping[str, _Request]) -> None:
        lines = self._lines(requests)
        line = next(lines, None)
        while line is not None:
            number = len(self.files) + 1
            path = self._path if number == 1 else self._path.with_stem(f"{self._path.stem}-{number}")
            _refuse_existing(path)
            part = _part_of(path)
            keys: list[str] = []
            notes: dict[str, bytes] = {}
            size = 0
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                while line is not None and (
                    not keys or (len(keys) < self._most and size + len(line.text) <= self._most_bytes)
                ):
                    file.write(line.text)
                    size += len(line.text)
                    keys.append(line.key)
                    notes[_note_key(line.key)] = line.note.model_dump_json().encode()
                    line = next(lines, None)
                file.flush()
                os.fsync(file.fileno())
            since = datetime.now(UTC).isoformat(" ", timespec="minutes")[:16]
            sent = Failure(IN_BATCH, _SENT.format(path.absolute(), since))
            self._cache.put("batch_request", self._captioner.id, notes)
            self._cache.put_failures("caption", self._captioner.id, dict.fromkeys(keys, sent), "export-batch")
            part.replace(path)
            self.files.append(BatchFile(str(path), len(keys), size))

    def _lines(self, requests: Mapping[str, _Request]) -> Iterator["_Line"]:
        with bar(f"requests for {self._captioner.id}", len(requests)) as advance:
            encoded = run_concurrently(self._encode, requests.items(), usable_cores())
            for (key, _), result in encoded:
                advance(1)
                if isinstance(result, _Line):
                    yield result
                else:
                    self.bad_photos += 1
                    self._cache.put_failures("caption", self._captioner.id, {key: result}, "export-batch")

    def _encode(self, pair: tuple[str, _Request]) -> "_Line | Failure":
        key, request = pair
        (photo,) = read_photos([request.photo])
        if not isinstance(photo, Photo):
            return photo
        body = self._captioner.request_body(photo.image, request.prompt, request.url)
        line = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}
        return _Line(
            key,
            json.dumps(line, ensure_ascii=False).encode() + b"\n",
            _RequestNote.of(self._captioner.instruction, photo),
        )


@dataclass(frozen=True)
class _Line:
    key: str
    text: bytes
    note: "_RequestNote"


class _RequestNote(BaseModel):
    """What reading an answer needs of its request: the note on the photo, and id, answer and tokens of the prompt."""

    photo: str = ""
    prompt: str
    answer: Literal["text", "json"]
    tokens: int

    @classmethod
    def of(cls, prompt: Prompt, photo: Photo | None = None) -> Self:
        """Return the note on a request."""
        return cls(photo=photo.note if photo else "", prompt=prompt.id, answer=prompt.answer, tokens=prompt.tokens)

    @property
    def asked(self) -> Prompt:
        """The prompt without its text."""
        return Prompt(self.prompt, "", self.answer, self.tokens)


def _note_key(key: str) -> str:
    """Return the key under which the note on a request is kept."""
    return result_key("batch request", key)


@dataclass(frozen=True)
class ImportSummary:
    """The results of an import, in distinct custom ids.

    Attributes:
        captioner: id.
        computed: new answers.
        failed: requests without a usable answer; `errors` counts their reasons, the most frequent first.
        known: answers and errors that were stored before.
        unknown: answers for no item of the catalogue and of no export. They are kept in the cache, and a later import
            reads them once their items are there.
        broken: places of lines that are no answers, such as a line that was cut off.
        tokens_in, tokens_out, cost: of the new answers and failures.
        in_batch: items that still wait for an answer.
        other_prompts: number of the answers read, failed ones included, to each other prompt than the active one.
    """

    captioner: str
    computed: int
    failed: int
    known: int
    unknown: int
    tokens_in: int
    tokens_out: int
    cost: float
    in_batch: int
    errors: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    other_prompts: dict[str, int] = field(default_factory=dict)


class _Response(BaseModel):
    status_code: int = 200
    body: Any = None


class _Answer(BaseModel):
    """A line of an output or error file, as hosted batches and `vllm run-batch` write it."""

    custom_id: str
    id: Any = None
    response: _Response | None = None
    error: Any = None

    @model_validator(mode="after")
    def _require_answer(self) -> Self:
        """Refuse a line of a file of requests."""
        if self.response is None and not self.error:
            raise ValueError("neither a response nor an error")
        return self

    @property
    def is_good(self) -> bool:
        """Whether there is a response without an error."""
        return not self.error and not is_error(self.to_http())

    def to_http(self) -> httpx.Response:
        """Return the response as a server would have sent it; an error without one has the status 400."""
        body = self.response.body if self.response else None
        if self.error:
            status = self.response.status_code if self.response and self.response.status_code != 200 else 400
            return _as_http(status, body if _has_error(body) else _error_body(self.error))
        return _as_http(self.response.status_code if self.response else 400, body)


def _as_http(status: int, body: object) -> httpx.Response:
    return httpx.Response(status, content=json.dumps(body))  # with NaN, which httpx refuses to write but reads


def _has_error(body: object) -> bool:
    return isinstance(body, dict) and bool(body.get("error"))


def _error_body(error: object) -> object:
    """Return an error as a server sends it: `error` is a text, its fields, or an object around these."""
    return error if _has_error(error) else {"error": error if isinstance(error, dict) else str(error)}


def import_batch(
    settings: Settings, paths: Sequence[Path], captioner: str | None = None, environment: str = "prod"
) -> ImportSummary:
    """Read the answers in output and error files into the cache. A second import of a file changes nothing.

    So an error that was read before does not end the wait for the answer to a later request. An answer is read as its
    request asked for it, whatever the active prompt is.

    Args:
        settings: captioner, cache and prices.
        paths: files of lines with `custom_id`, `response` and `error`.
        captioner: name of the captioner that exported the requests, if it is not the active one.
        environment: the SQLMesh environment of the items.

    Raises:
        UsageError: the captioner is of another kind, a file cannot be read, or the tables do not exist yet.
        RunError: warehouse or cache cannot be used.
    """
    model = _load(settings, captioner)
    for path in paths:
        if not path.is_file():
            raise UsageError(f"there is no file {path}")
    meter = CostMeter(Prices.from_settings(settings))
    with Cache(settings.cache) as cache:
        keys = _usable_keys(locate_items(settings, cache, captioner, environment))
        # Exports also asked for items that have changed or gone since, and under other prompts.
        asked = list(cache.failures_of("caption").get(model.id, {}))
        noted = cache.read([_note_key(key) for key in asked])
        expected = {*keys, *(key for key in asked if _note_key(key) in noted)}
        with cache.recording("caption", model.id, "import-batch", meter) as record:
            reader = _AnswerReader(cache, model, expected, meter, record)
            reader.read_kept()
            for path in paths:
                reader.read_file(path)
        failures = cache.failures(keys)
    return ImportSummary(
        captioner=model.id,
        computed=reader.computed,
        failed=reader.errors.total(),
        known=reader.known,
        unknown=reader.unknown,
        tokens_in=meter.tokens_in,
        tokens_out=meter.tokens_out,
        cost=meter.cost,
        in_batch=sum(key in failures and failures[key].status == IN_BATCH for key in keys),
        errors=dict(reader.errors.most_common()),
        broken=reader.broken,
        other_prompts=dict(reader.other_prompts.most_common()),
    )


def _usable_keys(catalogue: CatalogueCaptions) -> list[str]:
    """Return the keys of the items that have a photo."""
    usable = [at for at, photo in enumerate(catalogue.photos) if photo.failure is None]
    return catalogue.keys(usable, [catalogue.photos[at] for at in usable])


@dataclass(frozen=True)
class _AnswerLine:
    """A line of answers, and the key under which it is noted as read."""

    answer: _Answer
    text: bytes
    key: str

    @classmethod
    def parse(cls, text: bytes, file: str) -> Self:
        """Parse a line; lines without an id are told apart by the name of their file.

        Raises:
            ValidationError: it is no answer.
        """
        answer = _Answer.model_validate_json(replace_half_characters(text.decode("utf-8", "replace")))
        return cls(answer, text, result_key(_READ, str(answer.id or file), text.decode("utf-8", "replace").strip()))


def _kept_key(custom_id: str) -> str:
    return result_key(_UNKNOWN, custom_id)


class _AnswerReader:
    """Reads answers into the cache, some at a time; the attributes are those of `ImportSummary`."""

    def __init__(
        self, cache: Cache, captioner: OpenAICaptioner, expected: set[str], meter: CostMeter, record: Record
    ) -> None:
        self._cache, self._captioner, self._expected = cache, captioner, expected
        self._meter, self._record = meter, record
        self.computed = self.known = self.unknown = 0
        self.errors: Counter[str] = Counter()
        self.other_prompts: Counter[str] = Counter()
        self.broken: list[str] = []

    def read_kept(self) -> None:
        """Read the answers that no earlier import knew, as far as they are known now; they are kept no longer."""
        for texts in self._cache.results_of(_UNKNOWN, "batch", _READ_AT_ONCE):
            lines = [_AnswerLine.parse(text, "") for text in texts.values()]
            found = {line.answer.custom_id: line for line in lines if line.answer.custom_id in self._expected}
            stored = self._cache.read(list(found))
            self._note_read(self._store({key: line for key, line in found.items() if key not in stored}))
            self._cache.remove([_kept_key(key) for key in found])

    def read_file(self, path: Path) -> None:
        """Read a file of answers.

        Raises:
            UsageError: the file cannot be read.
        """
        try:
            with path.open("rb") as file:
                numbered = enumerate(file, 1)
                while lines := list(islice(numbered, _READ_AT_ONCE)):
                    self._read_lines(path, lines)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None

    def _read_lines(self, path: Path, lines: Sequence[tuple[int, bytes]]) -> None:
        parsed: list[_AnswerLine] = []
        for number, text in lines:
            try:
                parsed.append(_AnswerLine.parse(text, path.name))
            except ValidationError:
                if text.strip():
                    cut = "" if text.endswith(b"\n") else " (the last one, cut off)"
                    self.broken.append(f"{path.name}, line {number}{cut}")
        read = self._cache.read([line.key for line in parsed])
        expected = [line for line in parsed if line.answer.custom_id in self._expected]
        fresh = _best_lines(line for line in expected if line.key not in read)
        self.known += len({line.answer.custom_id for line in expected} - fresh.keys())
        errors = [line.key for line in expected if not line.answer.is_good and line.key not in read]
        self._note_read([*self._store(fresh), *errors])
        self._keep(_best_lines(line for line in parsed if line.answer.custom_id not in self._expected))

    def _keep(self, lines: Mapping[str, _AnswerLine]) -> None:
        """Keep lines that no item expects, until `read_kept`; a good one is not replaced."""
        stored = self._cache.read(list(lines))  # of an item that has gone since an earlier import
        self.known += len(stored)
        self.unknown += len(lines) - len(stored)
        earlier = self._cache.read([_kept_key(key) for key in lines])
        good = {key for key, text in earlier.items() if _AnswerLine.parse(text, "").answer.is_good}
        kept = {key: line for key, line in lines.items() if key not in stored and _kept_key(key) not in good}
        self._cache.put(_UNKNOWN, "batch", {_kept_key(key): line.text for key, line in kept.items()})
        self._note_read([line.key for line in kept.values()])

    def _note_read(self, keys: Sequence[str]) -> None:
        """Note lines whose error must not be read again: the request may be in a later batch."""
        if keys:
            self._cache.put(_READ, "batch", dict.fromkeys(keys, b""))

    def _store(self, lines: Mapping[str, _AnswerLine]) -> list[str]:
        """Store the answers by custom id; return the keys of the lines without a caption."""
        keys = list(lines)
        stored, failures = self._cache.read(keys), self._cache.failures(keys)
        notes = self._cache.read([_note_key(key) for key in keys])
        active = _RequestNote.of(self._captioner.instruction)
        fresh: dict[str, bytes] = {}
        failed: dict[str, Failure] = {}
        without: list[str] = []
        for key, line in lines.items():
            cost = CostMeter()
            text = notes.get(_note_key(key))
            note = _RequestNote.model_validate_json(text) if text else active
            result = None
            if key not in stored:
                caption = self._captioner.read_response(line.answer.to_http(), note.asked)
                result = make_entry(caption, note.photo, cost)
            if isinstance(result, Failure):
                without.append(line.key)
            if result is None or result == failures.get(key):
                self.known += 1
                continue
            self._meter.add(cost.tokens_in, cost.tokens_out)
            if note.prompt != active.prompt:
                self.other_prompts[note.prompt] += 1
            if isinstance(result, Failure):
                failed[key] = result
                self.errors[f"{result.status}: {result.message}"] += 1
            else:
                fresh[key] = ENTRY.encode(result)
        self.computed += len(fresh)
        self._record(fresh, failed)
        return without


def _best_lines(lines: Iterable[_AnswerLine]) -> dict[str, _AnswerLine]:
    """Return one line for each custom id: the last good one, or else the first."""
    best: dict[str, _AnswerLine] = {}
    for line in lines:
        if line.answer.custom_id not in best or line.answer.is_good:
            best[line.answer.custom_id] = line
    return best
