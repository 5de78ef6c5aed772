"""The offline captioner on photos whose colours, patterns and outlines are known because the test draws them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from vlm4rec_search.captioning.base import Caption, Context
from vlm4rec_search.captioning.captioners.attributes.colours import distance, name_colour, to_lab
from vlm4rec_search.captioning.registry import load_captioner
from vlm4rec_search.common.settings import Settings

MAGENTO = Path(__file__).parents[3] / "shared" / "data" / "magento_luma"
Painter = Callable[[ImageDraw.ImageDraw], None]


def draw_product(
    colour: str, paint: Painter | None = None, box: tuple[int, int, int, int] = (60, 40, 200, 216)
) -> Image.Image:
    """A rectangle of one colour on a light ground, with a pattern painted inside it."""
    inside = Image.new("RGB", (256, 256), colour)
    if paint:
        paint(ImageDraw.Draw(inside))
    photo = Image.new("RGB", (256, 256), (235, 234, 232))
    photo.paste(inside.crop(box), box[:2])
    return photo


def describe(photo: Image.Image, category: str = "bags") -> str:
    captioner = load_captioner("attributes", Settings())
    (caption,) = captioner.caption([photo], [captioner.render(Context("ignored", category))])
    assert isinstance(caption, Caption)
    return caption.text


def paint_stripes(dx: int, dy: int) -> Painter:
    def paint(draw: ImageDraw.ImageDraw) -> None:
        for shift in range(-512, 512, 24):
            x, y = -shift * dy, shift * dx  # across the line
            draw.line(
                (x - 600 * dx, y - 600 * dy, x + 600 * dx, y + 600 * dy), fill="white", width=10 + 5 * abs(dx * dy)
            )

    return paint


def paint_dots(draw: ImageDraw.ImageDraw) -> None:
    for x in range(0, 256, 28):
        for y in range(0, 256, 28):
            draw.ellipse((x, y, x + 13, y + 13), fill="white")


def paint_checks(draw: ImageDraw.ImageDraw) -> None:
    for start in range(0, 256, 32):
        draw.rectangle((start, 0, start + 6, 256), fill="white")
        draw.rectangle((0, start, 256, start + 6), fill="white")


def test_known_colours_have_their_lab_values() -> None:
    """White, black and pure red of sRGB in CIELAB (D65), as in every table of them."""
    lab = to_lab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], dtype=np.uint8))
    assert lab == pytest.approx(np.array([[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]]), abs=0.05)


def test_distance_weights_lightness_less() -> None:
    zero = np.zeros(3, dtype=np.float32)
    assert distance(np.array([10, 0, 0], dtype=np.float32), zero) == pytest.approx(6.0)  # 0.6 * 10
    assert distance(np.array([5, 4, 0], dtype=np.float32), zero) == pytest.approx(5.0)  # sqrt(3**2 + 4**2)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((250, 250, 250), "white"),
        ((10, 10, 10), "black"),
        ((128, 128, 128), "grey"),
        ((220, 30, 30), "red"),
        ((20, 30, 80), "navy"),
        ((255, 225, 40), "yellow"),
        ((30, 160, 60), "green"),
        ((95, 60, 40), "brown"),
        ((165, 155, 195), "pale purple"),
        ((62, 42, 88), "dark purple"),
        ((12, 14, 130), "dark blue"),
    ],
)
def test_colours_get_the_name_of_the_nearest_palette_colour(rgb: tuple[int, int, int], name: str) -> None:
    assert name_colour(to_lab(np.array(rgb, dtype=np.uint8))) == name


@pytest.mark.parametrize(
    ("colour", "words"), [("#ce242a", "red"), ("#1e52c4", "blue"), ("#1c1c1f", "black"), ("#f6d632", "yellow")]
)
def test_the_caption_names_the_colour_of_the_product_and_not_of_the_background(colour: str, words: str) -> None:
    assert re.match(
        rf"A (vivid )?{words} item \(bags\), plain; smooth \w+ surface; compact outline\.",
        describe(draw_product(colour)),
    )


@pytest.mark.parametrize(
    ("paint", "words"),
    [
        (paint_stripes(1, 0), "horizontal stripes"),
        (paint_stripes(0, 1), "vertical stripes"),
        (paint_stripes(1, 1), "falling diagonal stripes"),
        (paint_stripes(1, -1), "rising diagonal stripes"),
        (paint_dots, "with dots"),
        (paint_checks, "in checks"),
    ],
)
def test_patterns_are_named(paint: Painter, words: str) -> None:
    caption = describe(draw_product("#22306a", paint))
    assert caption.startswith("A navy and white item")
    assert words in caption


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((100, 10, 156, 246), "very tall outline"),
        ((10, 100, 246, 156), "very wide outline"),
        ((60, 60, 190, 190), "compact"),
    ],
)
def test_outlines_are_named(box: tuple[int, int, int, int], words: str) -> None:
    assert words in describe(draw_product("#ce242a", box=box))


def test_textures_are_distinguished() -> None:
    y, x = np.mgrid[0:256, 0:256]
    relief = {
        "smooth": np.zeros((256, 256)),
        "finely lined (rising diagonal)": 24 * np.sin((x + y) * 2 * np.pi / 5),
        "finely textured": 18 * np.sign(np.sin(x * np.pi / 1.6) * np.sin(y * np.pi / 1.6)),
        "coarsely textured": 26 * np.sin(x * 2 * np.pi / 9) * np.sin(y * 2 * np.pi / 9),
    }
    for words, waves in relief.items():
        photo = draw_product("#1e52c4")
        pixels = np.asarray(photo).astype(float)
        pixels[40:216, 60:200] += waves[40:216, 60:200, None]
        assert words in describe(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))


def test_the_prompt_is_the_last_part_of_the_category() -> None:
    captioner = load_captioner("attributes", Settings())
    assert captioner.render(Context("Red shoe", "Men/Tops/Tees & Tanks")) == "tees & tanks"
    assert captioner.render(Context("Blue shoe", "")) == ""
    assert "item, plain" in describe(draw_product("#ce242a"), category="")


def test_captions_do_not_depend_on_the_batch() -> None:
    photos = [draw_product("#ce242a"), draw_product("#22306a", paint_dots)]
    captioner = load_captioner("attributes", Settings())
    assert captioner.caption(photos, ["a", "b"]) == [
        captioner.caption([p], [c])[0] for p, c in zip(photos, "ab", strict=True)
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 300), st.integers(0, 2**32 - 1), st.booleans())
def test_any_image_gets_a_sentence(width: int, height: int, seed: int, flat: bool) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (1, 1, 3) if flat else (height, width, 3))
    photo = Image.fromarray(np.broadcast_to(pixels, (height, width, 3)).astype(np.uint8))
    assert re.fullmatch(r"An? .* item \(bags\), .*; .* surface; .* outline.*\.", describe(photo))


FAMILIES = {
    "Black": "black|charcoal",
    "Blue": "blue|navy|turquoise|teal",
    "Red": "red|coral|burgundy|rose",
    "Green": "green|mint|teal|olive|lime|turquoise",
    "Purple": "purple|lilac|plum|magenta",
    "Gray": "grey|charcoal",
    "Orange": "orange|peach|mustard|tan|coral",
    "Yellow": "yellow|lime|cream",
    "White": "white|cream|light grey",
    "Brown": "brown|tan",
    "Lavender": "lilac|purple|pink",
}


@pytest.mark.skipif(not MAGENTO.is_dir(), reason="the real photos are not here")
def test_first_colours_agree_with_a_real_catalogue() -> None:
    items = [json.loads(line) for line in (MAGENTO / "items.jsonl").read_text().splitlines()][::8]
    captions = [describe(Image.open(MAGENTO / item["image"]).convert("RGB"), item["categories"][0]) for item in items]
    firsts = [caption.split(" item (")[0].split(" and ")[0] for caption in captions]
    agreeing = [bool(re.search(FAMILIES[item["color"]], first)) for item, first in zip(items, firsts, strict=True)]
    assert np.mean(agreeing) > 0.85
    assert len(set(captions)) > 0.9 * len(captions)
