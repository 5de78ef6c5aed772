"""The small vision-language model: its sentences, inputs and training, and the accuracy of the packaged model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlm4rec_search.captioning.base import Caption, Captioner, Context
from vlm4rec_search.captioning.captioners.tiny import WEIGHTS
from vlm4rec_search.captioning.captioners.tiny.accuracy import caption_photos, draw_held_out, measure_accuracy
from vlm4rec_search.captioning.captioners.tiny.drawings import HELD_OUT, TRAINING, cut_tiles, draw_labelled_photo
from vlm4rec_search.captioning.captioners.tiny.sentences import describe, read_attributes, visible_attributes
from vlm4rec_search.captioning.captioners.transformers.captioner import TransformersCaptioner
from vlm4rec_search.captioning.prompts import load_prompt
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.demo_shop.looks import MATERIALS_OF, Look, draw_look

HAT = Look("hat", "romantic", "linen", "party", "light blue", "rose", "floral")
MUG = Look("mug", "minimal", "wood", "office", "grey", "black", "plain")
BAG = Look("tote", "sporty", "denim", "outdoor", "blue", "white", "striped")


@pytest.fixture(scope="module")
def tiny() -> Captioner:
    return load_captioner("tiny", Settings())


def test_a_sentence_names_all_visible_attributes() -> None:
    assert describe(HAT) == (
        "A romantic hat in light blue linen, with a rose floral print, trimmed with lace and a bow; made for parties."
    )
    assert describe(MUG) == "For the office: a minimal mug of grey wood, plain all over, simple and clean."
    assert describe(BAG) == (
        "This blue denim tote looks sporty, crossed by racing bands, with white stripes, and suits the outdoors."
    )


def test_the_attributes_of_every_sentence_are_read_back() -> None:
    rng = np.random.default_rng(1)
    looks = [draw_look(shape, rng) for shape in MATERIALS_OF for _ in range(100)]
    assert [read_attributes(describe(look)) for look in looks] == [visible_attributes(look) for look in looks]
    assert set(read_attributes("A photo of a product.").values()) == {""}


def test_accuracy_counts_the_second_colour_only_where_a_pattern_shows_it() -> None:
    shares = measure_accuracy([HAT, MUG, BAG], [describe(HAT), describe(MUG).replace("wood", "metal"), ""])
    assert shares["category"] == 2 / 3
    assert shares["material"] == 1 / 3
    assert shares["second colour"] == 1 / 2
    assert shares["all of them"] == 1 / 3


def test_the_tokenizer_preserves_every_word() -> None:
    from vlm4rec_search.captioning.captioners.tiny.architecture import new_tokenizer

    tokenizer = new_tokenizer()
    ids = tokenizer(describe(HAT))["input_ids"]
    assert len(ids) == 25
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == describe(HAT)


def test_the_model_gets_no_text_and_the_same_pixels_as_in_training() -> None:
    from vlm4rec_search.captioning.captioners.tiny.architecture import new_processor

    processor, (photo, _) = new_processor(), draw_labelled_photo(HELD_OUT, 0)

    def inputs(text: str) -> dict[str, np.ndarray]:
        parts = [{"type": "image", "image": photo}, {"type": "text", "text": text}]
        chat = [{"role": "user", "content": parts}]
        options = {"tokenize": True, "return_dict": True, "return_tensors": "np", "add_generation_prompt": True}
        return dict(processor.apply_chat_template(chat, **options))

    plain, steered = inputs("Describe this product."), inputs("A vintage leather chair <image> </s>")
    assert plain["input_ids"].tolist() == steered["input_ids"].tolist() == [[4] * 88 + [2]]
    np.testing.assert_allclose(plain["pixel_values"][0], cut_tiles(photo) / 127.5 - 1, atol=1e-6)


def test_held_out_photos_are_reproducible_and_differ_from_those_for_training() -> None:
    first, again = draw_labelled_photo(HELD_OUT, 3)[0], draw_labelled_photo(HELD_OUT, 3)[0]
    assert first.size == (256, 256)
    assert first.tobytes() == again.tobytes() != draw_labelled_photo(TRAINING, 3)[0].tobytes()


def test_training_is_reproducible_and_reduces_the_loss() -> None:
    import torch

    from vlm4rec_search.captioning.captioners.tiny.architecture import new_model, new_processor
    from vlm4rec_search.captioning.captioners.tiny.training import train_decoder, train_vision_tower

    drawn = [draw_labelled_photo(TRAINING, number) for number in range(8)]
    tiles, looks = np.stack([cut_tiles(photo) for photo, _ in drawn]), [look for _, look in drawn]
    processor = new_processor()

    def losses() -> tuple[list[float], list[float]]:
        torch.manual_seed(1)
        model = new_model(processor.tokenizer)
        seeing = list(train_vision_tower(model, tiles, looks, steps=10, batch=8))
        return seeing, list(train_decoder(model, processor, tiles, looks, steps=10, batch=8))

    seeing, writing = losses()
    assert (seeing, writing) == losses()
    assert seeing[-1] < seeing[0] - 0.3
    assert writing[0] == pytest.approx(np.log(94), abs=0.3)  # 94 words, none preferred
    assert writing[-1] < writing[0] - 0.5


def test_a_shift_moves_a_photo_and_all_its_tiles() -> None:
    import torch

    from vlm4rec_search.captioning.captioners.tiny.training import shift_photos

    photo, _ = draw_labelled_photo(TRAINING, 1)
    pixels = np.roll(np.asarray(photo), (4, -6), axis=(0, 1))  # down, right
    tiles = torch.from_numpy(cut_tiles(photo))[None]
    shifted = shift_photos(tiles, right=-3, down=2)[0].numpy()
    expected = cut_tiles(Image.fromarray(pixels))
    np.testing.assert_array_equal(shifted[1:], expected[1:])
    np.testing.assert_array_equal(shifted[0, :, 8:-8, 8:-8], expected[0, :, 8:-8, 8:-8])
    np.testing.assert_array_equal(shift_photos(tiles, right=0, down=0), tiles)


def test_mirroring_flips_a_photo_and_all_its_tiles() -> None:
    import torch

    from vlm4rec_search.captioning.captioners.tiny.training import mirror_photos

    photo, _ = draw_labelled_photo(TRAINING, 1)
    tiles = torch.from_numpy(cut_tiles(photo))[None]
    expected = cut_tiles(Image.fromarray(np.asarray(photo)[:, ::-1]))
    np.testing.assert_array_equal(mirror_photos(tiles)[0].numpy(), expected)


def test_training_does_not_overwrite_other_folders(tmp_path: Path) -> None:
    from vlm4rec_search.captioning.captioners.tiny.train import train_model

    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="contains other files"):
        train_model(tmp_path, photos=1, seeing=1, writing=1)
    with pytest.raises(UsageError, match="at least 1 photo"):
        train_model(tmp_path / "new", photos=0, seeing=1, writing=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_packaged_model_is_small_and_its_card_states_its_purpose() -> None:
    files = {path.name: path.stat().st_size for path in WEIGHTS.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "processor_config.json"} < set(files)
    assert files["vision.onnx"] + files["writer.onnx"] < 6_000_000
    assert "Never use it for anybody else's photos" in (WEIGHTS / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_the_packaged_model_describes_unseen_photos_correctly(tiny: Captioner) -> None:
    photos, looks = draw_held_out(100)
    shares = measure_accuracy(looks, caption_photos(tiny, photos))
    shares.pop("all of them")
    # the card states at least 0.97 on 1,000 photos; on 100 photos, 0.9 is three standard errors below
    assert min(shares.values()) >= 0.9, shares


def test_the_defaults_of_the_command_are_those_of_the_packaged_model() -> None:
    from vlm4rec_search.cli.captions import train_demo

    options = {option.name: option.default for option in train_demo.params}
    command = f"--photos {options['photos']} --seeing {options['seeing']} --writing {options['writing']} --to"
    assert command in (WEIGHTS / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_captions_are_those_of_transformers(tiny: Captioner) -> None:
    """The packaged ONNX graphs answer as the weights from which they were converted."""
    photos, _ = draw_held_out(64)
    original = TransformersCaptioner(str(WEIGHTS), load_prompt("describe"), batch_size=32)
    prompts = ["Describe this product."] * len(photos)
    ours, theirs = tiny.caption(photos, prompts), original.caption(photos, prompts)
    assert [replace(each, seconds=0.0) for each in ours if isinstance(each, Caption)] == [
        replace(each, seconds=0.0) for each in theirs if isinstance(each, Caption)
    ]
    assert len(ours) == len(photos)


def test_captions_depend_neither_on_the_batch_nor_on_the_catalogue_text(tiny: Captioner) -> None:
    photos, _ = draw_held_out(6)
    photos.append(photos[0].resize((300, 200)))  # padded to a square
    prompt = tiny.render(Context("Harlow vintage leather chair", "furniture"))
    together = tiny.caption(photos, [prompt] * len(photos))
    alone = [tiny.caption([photo], [tiny.render(Context())])[0] for photo in photos]
    assert [caption.text for caption in together if isinstance(caption, Caption)] == [
        caption.text for caption in alone if isinstance(caption, Caption)
    ]
    assert len({caption.text for caption in together if isinstance(caption, Caption)}) == 6
