"""Throughput of the `openai` captioner: `python -m benchmarks.captions` (a minute).

A server in its own process answers each request after 200 ms, and any number of requests at once. Photos of one
megapixel are read, encoded and sent, and their captions are stored in a cache, with 1 and with 16 requests in flight.
The exit code is 1 if 16 requests in flight give less than 12 times the throughput of 1.
"""

import asyncio
import multiprocessing
import socket
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from vlm4rec_search.captioning.base import Context
from vlm4rec_search.captioning.generate import caption_photos
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.common.cache import Cache, FillPolicy
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.photos.locate import locate_photos

SERVER_SECONDS, SMALLEST_SPEEDUP = 0.2, 12.0
BODY = (
    b'{"choices": [{"message": {"content": "A red bag."}, "finish_reason": "stop"}],'
    b' "usage": {"prompt_tokens": 900, "completion_tokens": 4}}'
)


def serve(listener: socket.socket) -> None:
    """Answer every request after `SERVER_SECONDS`, until the process is killed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                await asyncio.sleep(SERVER_SECONDS)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        async with await asyncio.start_server(answer, sock=listener, limit=1 << 20) as server:
            await server.serve_forever()

    asyncio.run(run())


def draw_photos(folder: Path, count: int) -> list[str]:
    """Write JPEG photos of 1,024 x 1,024 pixels and return their names."""
    draw = np.random.default_rng(0)
    names = [f"{number}.jpg" for number in range(count)]
    for name in names:
        small = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(small).resize((1024, 1024), Image.Resampling.BICUBIC).save(folder / name, quality=90)
    return names


def measure_throughput(url: str, folder: Path, workers: int, items: int) -> float:
    """Print and return the captions per second, from the photo files to the cache."""
    captioner = load_captioner("openai:any", Settings.model_validate({"openai_url": url, "openai_workers": workers}))
    photos = sorted(path.name for path in folder.glob("*.jpg"))
    contexts = [Context(f"item {number}") for number in range(items)]
    with Cache(folder / f"cache-{workers}") as cache:
        found = locate_photos([photos[number % len(photos)] for number in range(items)], folder, cache)
        start, cpu = time.monotonic(), time.process_time()
        outcomes, _ = caption_photos(captioner, found, contexts, cache, FillPolicy())
        seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    print(
        f"{workers:2} in flight: {items / seconds:6.2f} captions/s, {1000 * cpu / items:.1f} ms of CPU for each caption"
    )
    failed = [outcome for outcome in outcomes if outcome.status != "ok"]
    if failed:
        raise SystemExit(f"{len(failed)} of {items} captions failed: {failed[0].error}")
    return items / seconds


def main() -> None:
    """Measure with 1 and 16 requests in flight, and fail below `SMALLEST_SPEEDUP`."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        draw_photos(Path(name), 20)
        server = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        one = measure_throughput(url, Path(name), 1, 30)
        sixteen = measure_throughput(url, Path(name), 16, 480)
        server.kill()
    print(f"speed-up: {sixteen / one:.1f}")
    if sixteen / one < SMALLEST_SPEEDUP:
        raise SystemExit(f"the speed-up is less than {SMALLEST_SPEEDUP:g}")


if __name__ == "__main__":
    main()
