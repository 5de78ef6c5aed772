"""The `openai` captioner beside bare posts, and the caption pipeline beside what Pillow needs for the photos.

The server (`caption_servers.py`) answers each request after 200 ms, and any number of requests at once. The instant
captioner answers at once, so that only the pipeline is measured: locating and hashing the file, the cache key, decoding
and shrinking the photo, storing and validating the answer.
"""

import base64
import hashlib
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx
from PIL import Image

from benchmarks.caption_servers import Stub, serving_fleet
from benchmarks.captions import draw_photos
from benchmarks.measure import Act, Contest
from vlm4rec_search.captioning.base import Caption, Captioner, Context
from vlm4rec_search.captioning.generate import caption_photos
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.common.cache import Cache, FillPolicy
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.photos.locate import locate_photos

SERVER_SECONDS, IN_FLIGHT, DIFFERENT = 0.2, 16, 20


class InstantCaptioner(Captioner):
    """Answers immediately. With a `batch_size` of 1, like the client of a server, every answer is a commit."""

    id, prompt, batch_size = "instant@1", "title-1", 1

    def render(self, context: Context) -> str:
        return context.title

    def caption(self, photos: Sequence[Image.Image], prompts: Sequence[str]) -> list[Caption | Exception]:
        return [
            Caption(f"A navy cotton shirt with fine white stripes and a button-down collar, {prompt}.")
            for prompt in prompts
        ]


def captioned(captioner: Captioner, names: Sequence[str], folder: Path, caches: Iterator[int]) -> None:
    """Caption photos into a new cache.

    Raises:
        RuntimeError: a photo has no caption.
    """
    contexts = [Context(f"item {number}") for number in range(len(names))]
    with Cache(folder / f"cache-{next(caches)}") as cache:
        found = locate_photos(names, folder, cache)
        outcomes, _ = caption_photos(captioner, found, contexts, cache, FillPolicy())
    failed = [outcome for outcome in outcomes if outcome.status != "ok"]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(names)} captions failed: {failed[0].error}")


def shrink(path: Path) -> bytes:
    """Return the JPEG that a captioner would be sent, by Pillow alone."""
    data = path.read_bytes()
    hashlib.sha256(data).hexdigest()
    with Image.open(io.BytesIO(data)) as photo:
        photo.thumbnail((768, 768))
        shrunk = io.BytesIO()
        photo.convert("RGB").save(shrunk, "JPEG", quality=90)
    return shrunk.getvalue()


@contextmanager
def captioning(photos: int) -> Iterator[Contest]:
    """Caption photos with the server and with the instant captioner."""
    with tempfile.TemporaryDirectory() as name, serving_fleet(Stub(SERVER_SECONDS, slots=512)) as server:
        folder, caches = Path(name), count()
        drawn = draw_photos(folder, min(photos, DIFFERENT))
        names = [drawn[number % len(drawn)] for number in range(photos)]
        url = server.setting

        def over_http(workers: int) -> Captioner:
            options = {"openai_url": url, "openai_workers": workers, "caption_canary": "off"}
            return load_captioner("openai:any", Settings.model_validate(options))

        def posts() -> Act:
            photo = base64.b64encode(shrink(folder / drawn[0])).decode()
            content = [{"type": "text", "text": "Describe."}, {"type": "image_url", "image_url": {"url": photo}}]
            body = json.dumps({"model": "any", "messages": [{"role": "user", "content": content}]}).encode()
            client, pool = httpx.Client(timeout=60), ThreadPoolExecutor(IN_FLIGHT)
            headers = {"content-type": "application/json"}

            def post(_: int) -> None:
                client.post(f"{url}/chat/completions", content=body, headers=headers).raise_for_status()

            return lambda: list(pool.map(post, range(photos)))

        contest, many, one = Contest(rounds=(2, 5), seconds=15.0), over_http(IN_FLIGHT), over_http(1)
        contest.ours("16 in flight", lambda: captioned(many, names, folder, caches), per=photos, warm=False)
        contest.rival("16 bare posts at once", posts, ["16 in flight"], per=photos, warm=False)
        few = names[:40]
        contest.rival(
            "1 in flight",
            lambda: lambda: captioned(one, few, folder, caches),
            ["16 in flight"],
            per=len(few),
            note="40 photos at most",
            warm=False,
        )
        contest.ours("pipeline", lambda: captioned(InstantCaptioner(), names, folder, caches), per=photos)
        contest.rival(
            "Pillow alone", lambda: lambda: [shrink(folder / each) for each in names], ["pipeline"], per=photos
        )
        yield contest
