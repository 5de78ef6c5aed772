"""The captioner for models of transformers, with tiny random weights: folder, chat template, batches, generation."""

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.colour_catalogue import write_catalogue
from helpers.random_models import make_blip, make_llava_next
from PIL import Image

from vlm4rec_search.captioning.base import Caption, Captioner, CaptionError, Context
from vlm4rec_search.captioning.captioners.transformers.captioner import TransformersCaptioner
from vlm4rec_search.captioning.prompts import Prompt
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.captioning.run import look_up_captions, run_captions
from vlm4rec_search.common.cache import Cache
from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings

pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="the extra `models` is not installed")

SHORT = Prompt("short@1", "describe this {{ title }} photo", tokens=6)
TITLES = ["", '"red bag"', '"a plain blue shirt <image> of the category bag"', '"shirt"', '"bag"']


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llava_next(tmp_path_factory.mktemp("models") / "llava")


def photos() -> list[Image.Image]:
    """Draw upright, wide and square photos, which LLaVA-NeXT cuts into different numbers of tiles."""
    draw = np.random.default_rng(5)
    sizes = [(40, 20), (20, 40), (30, 30), (64, 64), (100, 30)]
    return [Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def texts(captioner: Captioner, shown: Sequence[Image.Image], titles: Sequence[str] = TITLES) -> list[str]:
    captions = captioner.caption(shown, [captioner.render(Context(title)) for title in titles])
    # Random weights end no sentence, so that the answer is kept beside its status.
    assert all(isinstance(caption, Caption | CaptionError) for caption in captions), captions
    return [caption.text for caption in captions if isinstance(caption, Caption | CaptionError)]


def test_a_batch_gives_the_same_captions_as_single_photos_in_the_same_order(llava: Path) -> None:
    captioner = TransformersCaptioner(str(llava), SHORT, batch_size=3)
    together = texts(captioner, photos())
    alone = [texts(captioner, [photo], [title])[0] for photo, title in zip(photos(), TITLES, strict=True)]
    assert together == alone
    assert len(set(together)) > 1


def test_a_caption_is_the_text_that_the_library_generates_after_the_prompt(llava: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(llava, backend="pil")
    model: Any = AutoModelForImageTextToText.from_pretrained(llava)
    inputs = processor(text="user <image> describe this photo assistant ", images=photos()[0], return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    captioner = TransformersCaptioner(str(llava), Prompt("p@1", "describe this photo", tokens=6))
    (caption,) = captioner.caption(photos()[:1], [captioner.render(Context())])
    assert isinstance(caption, CaptionError)
    assert caption.text == processor.decode(ids, skip_special_tokens=True)
    assert (caption.tokens_in, caption.tokens_out) == (inputs["input_ids"].shape[1], len(ids))
    assert str(caption).startswith("cut off at 6 tokens, within the first sentence")
    assert captioner.decoding == "greedy 6"


def test_a_batch_that_exceeds_the_memory_is_halved(llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    captioner = TransformersCaptioner(str(llava), SHORT, batch_size=5)
    expected = texts(captioner, photos())
    answer, tried = captioner._model.answer, []

    def small(shown: Sequence[Image.Image], *rest: Any) -> Any:
        tried.append(len(shown))
        if len(shown) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return answer(shown, *rest)

    monkeypatch.setattr(captioner._model, "answer", small)
    assert texts(captioner, photos()) == expected
    assert tried == [5, 2, 1, 1, 3, 1, 2, 1, 1]
    tried.clear()
    assert texts(captioner, photos()) == expected
    assert tried == [1] * 5


def test_a_failing_photo_does_not_affect_others(llava: Path, tmp_path: Path) -> None:
    photos()[3].save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    captioner = TransformersCaptioner(str(llava), SHORT)
    good = texts(captioner, photos())
    shown = [*photos()[:2], Image.open(tmp_path / "cut.png"), *photos()[2:]]
    titles = [*TITLES[:2], "", *TITLES[2:]]
    captions = captioner.caption(shown, [captioner.render(Context(title)) for title in titles])
    failed = captions.pop(2)
    assert isinstance(failed, CaptionError)
    assert failed.status == "failed"
    assert "truncated" in str(failed)
    assert [caption.text for caption in captions if isinstance(caption, Caption | CaptionError)] == good


def test_a_model_without_chat_template_gets_photos_without_prompts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    captioner = TransformersCaptioner(str(make_blip(tmp_path / "blip")), SHORT)
    assert texts(captioner, photos()) == texts(captioner, photos(), TITLES[::-1])
    assert "it gets the photos without prompt and titles" in caplog.text


def test_the_id_depends_on_the_weights_and_needs_no_torch(llava: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from vlm4rec_search.captioning.registry import load_captioner;"
        "from vlm4rec_search.common.settings import Settings;"
        f"print(load_captioner('transformers:{llava}', Settings()).id); sys.exit('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == load_captioner(f"transformers:{llava}", Settings()).id
    other = TransformersCaptioner(str(make_llava_next(tmp_path / "llava", seed=1)), SHORT)
    assert run.stdout.startswith("llava@")
    assert other.id != run.stdout.strip()


def test_a_model_that_was_cut_off_ends_the_run_and_no_photo_has_failed(tmp_path: Path) -> None:
    folder = make_llava_next(tmp_path / "llava")
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.truncate(10_000)
    items = [(f"i{number}", (number, 0, 0), 0) for number in range(3)]
    settings = write_catalogue(tmp_path / "shop", *items, captioner=f"transformers:{folder}")
    with pytest.raises(RunError, match=r"llava@.* cannot be loaded: Error while deserializing header"):
        run_captions(settings)
    with Cache(settings.cache) as cache:
        assert look_up_captions(settings, cache).count_statuses() == {"pending": 3}


def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = make_llava_next(tmp_path / "llava")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    captioner = TransformersCaptioner(str(folder), SHORT)
    with pytest.raises(RunError, match=r"cannot be loaded: .*safetensors"):
        captioner.caption(photos()[:1], [""])


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    folder = make_llava_next(tmp_path / "llava")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(RunError, match="cannot be loaded"):
        TransformersCaptioner(str(folder), SHORT).caption(photos()[:1], [""])
    assert not (tmp_path / "ran").exists()


def test_missing_models_and_precisions_are_errors(llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants
    import torch

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"captioner 'no/such-model' is no folder.*VLM4REC_CAPTIONER=transformers:"):
        load_captioner("transformers:no/such-model", Settings())
    if not torch.cuda.is_available():
        four = TransformersCaptioner(str(llava), SHORT, quantization="4bit")
        assert four.decoding == "greedy 6 4bit"
        with pytest.raises(UsageError, match="need a CUDA device: unset VLM4REC_CAPTIONER_QUANTIZE"):
            four.caption(photos()[:1], [""])
