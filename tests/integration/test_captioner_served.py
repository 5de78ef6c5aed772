"""A model behind a real `transformers serve` process gives the same answers over HTTP as in this process."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import pytest
from helpers.random_models import make_llava_next
from PIL import Image

from vlm4rec_search.captioning.base import Caption, CaptionError, Context
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.common.concurrency import run_concurrently
from vlm4rec_search.common.settings import Settings

pytestmark = pytest.mark.skipif(find_spec("uvicorn") is None, reason="the extra `transformers[serving]` is missing")

PROMPT = """
version: 1
tokens: 6
text: describe this {{ title }} photo
"""


@contextmanager
def serve_model(folder: Path, log: Path) -> Iterator[str]:
    """Run the server of transformers for the model in a folder, and yield its address once it responds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", folder, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(address).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(log.read_text())


def test_a_served_model_gives_the_same_captions_as_in_this_process(tmp_path: Path) -> None:
    folder = make_llava_next(tmp_path / "llava")
    (tmp_path / "short.yaml").write_text(PROMPT)
    draw = np.random.default_rng(5)
    # smooth photos, which JPEG hardly changes
    photos = [Image.fromarray(draw.integers(0, 256, (2, 2, 3), dtype=np.uint8)).resize((96, 80)) for _ in range(4)]
    with serve_model(folder, tmp_path / "log") as url:
        options = {"prompt": str(tmp_path / "short.yaml"), "openai_url": url, "openai_workers": 2}
        settings = Settings.model_validate(options)
        here = load_captioner(f"transformers:{folder}", settings)
        there = load_captioner(f"openai:{folder}", settings)
        prompts = [there.render(Context(f"bag {number}")) for number in range(4)]

        def ask(position: int) -> Caption | Exception:
            (outcome,) = there.caption([photos[position]], [prompts[position]])
            return outcome

        answers = dict(run_concurrently(ask, range(4), there.workers))
    expected = here.caption(photos, prompts)
    assert len({caption.text for caption in expected if isinstance(caption, Caption | CaptionError)}) > 1
    for position, own in enumerate(expected):
        answer = answers[position]
        assert isinstance(own, Caption | CaptionError)  # random weights end no sentence
        assert isinstance(answer, Caption | CaptionError), answer
        assert (answer.text, answer.tokens_in, answer.tokens_out) == (own.text, own.tokens_in, own.tokens_out)
