"""The built-in shop: its files, its wrong rows and bad photos, and what photos and titles show in each world."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from vlm4rec_search.cli import main
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.demo_shop.build import ShopSummary, build_shop
from vlm4rec_search.datasets.demo_shop.drawing import PHOTO, draw_photo
from vlm4rec_search.datasets.demo_shop.looks import MATERIALS_OF, STYLES, USES, Look, draw_look

ITEMS, SHOPPERS = 84, 30  # a smaller shop has fewer bad photos
TABLES = ("items.csv", "interactions.csv.gz", "labels.csv", "SHOP.json")


def read_rows(path: Path) -> list[dict[str, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ShopSummary]:
    folder = tmp_path_factory.mktemp("shop") / "data"
    return folder, build_shop(folder, "photo", ITEMS, SHOPPERS, seed=3, dirty=True)


def test_sizes_are_the_requested_ones_plus_the_wrong_rows(built: tuple[Path, ShopSummary]) -> None:
    folder, summary = built
    assert (summary.items, summary.shoppers) == (84, 30)
    assert len(read_rows(folder / "items.csv")) == 84 + 6
    assert len(read_rows(folder / "interactions.csv.gz")) == summary.interactions + 5 * 3
    assert {row["user_id"] for row in read_rows(folder / "interactions.csv.gz")} - {""} == {
        f"u{number:03d}" for number in range(1, 31)
    }


def test_each_kind_of_wrong_item_occurs_once(built: tuple[Path, ShopSummary]) -> None:
    folder, _ = built
    items = read_rows(folder / "items.csv")
    assert [item["item_id"] for item in items].count("") == 1
    assert [item["item_id"] for item in items].count("00001") == 2
    assert [item["title"][:8] for item in items if not item["title"][:1].isalpha()] == ["<b>Sale<", "<script>", ""]
    assert sum("function()" in item["title"] for item in items) == 1


def test_wrong_interactions_differ_from_good_ones_in_one_value(built: tuple[Path, ShopSummary]) -> None:
    folder, summary = built
    log = read_rows(folder / "interactions.csv.gz")
    known = {item["item_id"] for item in read_rows(folder / "items.csv")}
    good, bad = log[: summary.interactions], log[summary.interactions :]
    assert all(row["item_id"] in known and "2024-07-01" <= row["timestamp"] < "2025-07-01" for row in good)
    assert [row["timestamp"] for row in good] == sorted(row["timestamp"] for row in good)
    for row in bad:
        assert max(len(row.items() & other.items()) for other in good[:3]) == 4


def test_bad_photos_are_as_the_marker_lists_them(built: tuple[Path, ShopSummary]) -> None:
    folder, summary = built
    items = {row["item_id"]: row for row in read_rows(folder / "items.csv")[:ITEMS]}
    photo = {kind: folder / items[item_id]["image"] for item_id, kind in summary.planted_photos.items()}
    assert len(photo) == 8
    assert photo["no image"] == folder
    assert not photo["missing file"].exists()
    assert photo["text named .jpg"].read_text(encoding="utf-8").startswith("The photographer")
    with pytest.raises(OSError, match="truncated"):
        Image.open(photo["truncated JPEG"]).load()
    with pytest.raises(Image.DecompressionBombError):
        Image.open(photo["decompression bomb"])
    assert photo["decompression bomb"].stat().st_size < 100_000
    assert getattr(Image.open(photo["animated GIF"]), "n_frames", 1) == 3
    assert Image.open(photo["CMYK JPEG"]).mode == "CMYK"
    assert Image.open(photo["PNG with alpha"]).getextrema()[3] == (0, 255)
    assert json.loads((folder / "SHOP.json").read_text())["planted_photos"] == summary.planted_photos


def test_a_small_shop_has_so_few_unreadable_photos_that_its_checks_pass(tmp_path: Path) -> None:
    summary = build_shop(tmp_path / "data", "photo", 60, 5, seed=1, dirty=True)
    captionable = {"animated GIF", "CMYK JPEG", "PNG with alpha", "no image"}
    assert captionable < set(summary.planted_photos.values())
    unreadable = [kind for kind in summary.planted_photos.values() if kind not in captionable]
    assert len(unreadable) == 2  # a third would be 5.1% of 59 photos; the suite accepts 5%


def test_good_photos_are_jpegs_named_after_the_item_id(built: tuple[Path, ShopSummary]) -> None:
    folder, summary = built
    good = [row for row in read_rows(folder / "items.csv")[:ITEMS] if row["item_id"] not in summary.planted_photos]
    assert [row["image"] for row in good] == [f"images/{row['item_id']}.jpg" for row in good]
    for row in good:
        photo = Image.open(folder / row["image"])
        assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", (PHOTO, PHOTO))


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    built: tuple[Path, ShopSummary], tmp_path: Path
) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    build_shop(again, "photo", ITEMS, SHOPPERS, seed=3, dirty=True)
    build_shop(other, "photo", ITEMS, SHOPPERS, seed=4, dirty=True)
    for name in (*TABLES, "images/00002.jpg"):
        assert (again / name).read_bytes() == (built[0] / name).read_bytes()
        assert (other / name).read_bytes() != (built[0] / name).read_bytes()


def test_a_clean_shop_has_no_wrong_rows_and_no_bad_photos(tmp_path: Path) -> None:
    summary = build_shop(tmp_path / "data", "photo", 16, 5, seed=1, dirty=False)
    assert len(read_rows(tmp_path / "data" / "items.csv")) == 16
    assert len(read_rows(tmp_path / "data" / "interactions.csv.gz")) == summary.interactions
    assert (summary.planted_items, summary.planted_interactions, summary.planted_photos) == ({}, {}, {})
    assert len(list((tmp_path / "data" / "images").iterdir())) == 16


def test_texts_name_the_traits_in_the_world_title_only(built: tuple[Path, ShopSummary], tmp_path: Path) -> None:
    build_shop(tmp_path / "data", "title", ITEMS, 5, seed=3, dirty=False)
    words = {*STYLES, *USES, *(material for some in MATERIALS_OF.values() for material in some)}
    for row in read_rows(built[0] / "items.csv")[:ITEMS]:
        assert not words & set(f"{row['title']} {row['description']}".lower().replace(".", "").split())
    labels = read_rows(tmp_path / "data" / "labels.csv")
    for row, label in zip(read_rows(tmp_path / "data" / "items.csv"), labels, strict=True):
        assert {label["style"], label["material"]} <= set(row["title"].split())
    assert any(label["style"] != label["shown_style"] for label in labels)
    photo_world = read_rows(built[0] / "labels.csv")
    assert [label["style"] for label in photo_world] == [label["shown_style"] for label in photo_world]


def test_an_earlier_shop_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    build_shop(folder, "photo", 20, 5, seed=1, dirty=True)
    for foreign in ("notes.txt", "images/logo.jpg"):
        (folder / foreign).write_text("mine")
    build_shop(folder, "photo", 16, 5, seed=1, dirty=False)
    photos = [f"{number:05d}.jpg" for number in range(1, 17)]
    assert sorted(path.name for path in (folder / "images").iterdir()) == [*photos, "logo.jpg"]
    assert (folder / "notes.txt").read_text() == "mine"
    assert {path.name for path in folder.iterdir()} == {*TABLES, "images", "notes.txt"}


def test_a_killed_build_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / ".shop-in-progress" / "images").mkdir(parents=True)
    build_shop(tmp_path, "photo", 16, 5, seed=1, dirty=False)
    assert {path.name for path in tmp_path.iterdir()} == {*TABLES, "images"}


def test_a_folder_with_other_files_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds other files \(no SHOP.json\)"):
        build_shop(tmp_path, "photo", 16, 5, seed=1, dirty=False)
    with pytest.raises(UsageError, match="is a file"):
        build_shop(tmp_path / "thesis.txt", "photo", 16, 5, seed=1, dirty=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("world", "items", "shoppers", "seed"),
    [("sound", 16, 1, 0), ("photo", 15, 1, 0), ("photo", 16, 0, 0), ("photo", 16, 1, -1)],
)
def test_wrong_sizes_are_refused(tmp_path: Path, world: str, items: int, shoppers: int, seed: int) -> None:
    with pytest.raises(UsageError, match=r"world 'sound'|at least 16 items"):
        build_shop(tmp_path / "data", world, items, shoppers, seed, dirty=False)
    assert not (tmp_path / "data").exists()


def test_the_command_says_that_it_is_a_demo(tmp_path: Path) -> None:
    sizes = ["--to", str(tmp_path / "data"), "--items", "16", "--shoppers", "5"]
    answer = CliRunner().invoke(main, ["shop", *sizes])
    assert answer.exit_code == 0
    assert "a demo shop (drawn photos, simulated shoppers)" in answer.stdout
    assert "wrong on purpose: 6 item rows, 15 interaction rows, 4 photos" in answer.stdout
    assert json.loads(CliRunner().invoke(main, ["shop", *sizes, "--json"]).stdout)["items"] == 16


def crop_cushion(material: str, colour: str = "grey", pattern: str = "plain") -> np.ndarray:
    look = Look("cushion", "minimal", material, "office", colour, "white", pattern)
    photo = np.asarray(draw_photo(look, np.random.default_rng(5)), dtype=np.float64)
    return photo[90:166, 90:166]


def test_colours_patterns_and_materials_can_be_seen() -> None:
    """Red is red, stripes are horizontal, and the grain of silk is smoother than that of leather and of denim."""
    red = crop_cushion("knit", "red").mean(axis=(0, 1))
    assert red[0] > red[1] + 80 and red[0] > red[2] + 80
    striped = crop_cushion("linen", "navy", "striped").mean(axis=2)
    assert striped.mean(axis=1).std() > 5 * striped.mean(axis=0).std()
    grain = {
        name: np.abs(np.diff(crop_cushion(name).mean(axis=2), n=2)).mean() for name in ("denim", "silk", "leather")
    }
    assert grain["silk"] < 0.5 * grain["leather"] < 0.5 * grain["denim"]


@pytest.mark.parametrize("shape", MATERIALS_OF)
def test_every_product_stands_out_from_its_background(shape: str) -> None:
    rng = np.random.default_rng(1)
    photo = np.asarray(draw_photo(draw_look(shape, rng), rng), dtype=np.float64)
    inside, corner = photo[96:160, 96:160].std(), photo[:20, 100:156].std()
    assert inside > corner
