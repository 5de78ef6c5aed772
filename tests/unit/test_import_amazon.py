"""Amazon Reviews 2023 is imported into the raw contract."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner
from helpers.parquet_rows import read_rows

from vlm4rec_search.cli import main
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets import raw
from vlm4rec_search.datasets.importers.amazon import import_amazon

PHOTO = "https://images.example/"
BRUSH = {
    "main_category": "All Beauty",
    "title": "Hair Brush",
    "average_rating": 4.5,
    "rating_number": 12,
    "features": ["Boar bristles", "Wooden handle"],
    "description": ["A brush.", "For long hair."],
    "price": 12.5,
    "images": [
        {"thumb": PHOTO + "t", "large": PHOTO + "side.jpg", "variant": "PT01", "hi_res": None},
        {"thumb": PHOTO + "t", "large": PHOTO + "main.jpg", "variant": "MAIN", "hi_res": PHOTO + "big.jpg"},
    ],
    "videos": [{"title": "Look", "url": "https://videos.example"}],
    "store": "Brushes Ltd",
    "categories": ["Beauty", "Hair Care", "Brushes"],
    "details": {"UPC": "0123"},
    "parent_asin": "B000000001",
    "bought_together": None,
}
SOAP = {
    "main_category": "All Beauty",
    "title": "Soap",
    "features": [],
    "description": [],
    "price": "from 9.99",
    "images": [{"large": None, "variant": "PT01", "hi_res": PHOTO + "soap.jpg"}],
    "categories": [],
    "parent_asin": "0000000002",
}
REVIEW = {
    "rating": 4.0,
    "title": "Nice",
    "text": "Very nice",
    "images": [],
    "asin": "B00000000X",
    "parent_asin": "B000000001",
    "user_id": "U1",
    "timestamp": 1588687728923,
    "helpful_vote": 2,
    "verified_purchase": True,
}
OLD = {**REVIEW, "timestamp": 946684799000, "verified_purchase": False, "user_id": "U2"}


def json_lines(*records: dict[str, object], broken: str = "") -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode() + broken.encode()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write the folders of the data set, with metadata as zst and reviews as gz."""
    folder = tmp_path / "raw"
    (folder / "meta_categories").mkdir(parents=True)
    (folder / "review_categories").mkdir()
    meta = folder / "meta_categories" / "meta_All_Beauty.jsonl.zst"
    with pa.CompressedOutputStream(str(meta), "zstd") as stream:
        stream.write(json_lines(BRUSH, SOAP, broken="{no json\n"))
    with gzip.open(folder / "review_categories" / "All_Beauty.jsonl.gz", "wb") as file:
        file.write(json_lines(REVIEW, OLD, {**REVIEW, "user_id": None}, {**REVIEW, "timestamp": "soon"}))
    return folder


def test_items_have_text_category_price_and_the_main_photo(source: Path, tmp_path: Path) -> None:
    summary = import_amazon(source, tmp_path / "data")
    brush, soap, broken = read_rows(tmp_path / "data" / "items.parquet")
    assert (summary.items, summary.interactions, summary.photos.remote) == (3, 4, 2)
    assert (brush["item_id"], brush["title"]) == ("B000000001", "Hair Brush")
    assert brush["description"] == "Boar bristles Wooden handle A brush. For long hair."
    assert (brush["category"], brush["price"], brush["image"]) == ("Brushes", 12.5, PHOTO + "main.jpg")
    assert json.loads(str(brush["categories"])) == ["Beauty", "Hair Care", "Brushes"]
    assert (brush["store"], json.loads(str(brush["details"]))) == ("Brushes Ltd", {"UPC": "0123"})
    assert (soap["item_id"], soap["category"], soap["description"]) == ("0000000002", "All Beauty", None)
    assert (soap["price"], soap["source_price"], soap["image"]) == (None, "from 9.99", PHOTO + "soap.jpg")
    assert set(broken.values()) == {None}


def test_reviews_have_time_rating_and_event_type(source: Path, tmp_path: Path) -> None:
    left_out = import_amazon(source, tmp_path / "data").left_out
    rows = read_rows(tmp_path / "data" / "interactions.parquet")
    assert rows[0] == {
        "user_id": "U1",
        "item_id": "B000000001",
        "timestamp": "2020-05-05 14:08:48.923",
        "event_type": "purchase",
        "value": "4.0",
        "asin": "B00000000X",
        "helpful_vote": "2",
    }
    assert (rows[1]["timestamp"], rows[1]["event_type"]) == ("1999-12-31 23:59:59", "review")
    assert (rows[2]["user_id"], rows[3]["timestamp"]) == (None, "soon")
    assert left_out == {
        "broken_item_lines": 1,
        "item_lines_without_id": 1,
        "prices_that_are_no_number": 1,
        "broken_interaction_lines": 0,
        "interaction_lines_without_id": 1,
    }


def test_invalid_prices_and_times_reach_staging_unchanged(source: Path, tmp_path: Path) -> None:
    soaps: list[dict[str, object]] = [{**SOAP, "price": price} for price in (float("nan"), "Infinity", "$1,020.50")]
    (source / "meta_Odd.jsonl").write_bytes(json_lines(*soaps))
    times = (1588687728, 1588687728923.5, -1000)  # seconds are no milliseconds of 1970
    odd: list[dict[str, object]] = [{**REVIEW, "timestamp": time} for time in times]
    (source / "Odd.jsonl").write_bytes(json_lines(*odd))
    left_out = import_amazon(source, tmp_path / "data", "Odd").left_out
    items, reviews = (read_rows(tmp_path / "data" / f"{stem}.parquet") for stem in ("items", "interactions"))
    assert [item["price"] for item in items] == [None, None, 1020.5]
    assert [item["source_price"] for item in items] == ["NaN", "Infinity", None]
    assert [review["timestamp"] for review in reviews] == ["1588687728", "1588687728923.5", "-1000"]
    assert left_out["prices_that_are_no_number"] == 2


def test_the_result_meets_the_raw_contract(source: Path, tmp_path: Path) -> None:
    import_amazon(source, tmp_path / "data")
    for stem in ("items", "interactions"):
        assert raw.inspect(tmp_path / "data", stem, tmp_path / "cache").files[0].rows


def test_a_category_is_chosen_and_one_file_is_enough(source: Path, tmp_path: Path) -> None:
    (source / "Toys.jsonl").write_bytes(json_lines(REVIEW))
    with pytest.raises(UsageError, match="more than one category; give --category, one of All_Beauty, Toys"):
        import_amazon(source, tmp_path / "data")
    with pytest.raises(UsageError, match="no category Books; it has All_Beauty, Toys"):
        import_amazon(source, tmp_path / "data", "Books")
    summary = import_amazon(source, tmp_path / "data", "Toys")
    assert (summary.items, summary.interactions) == (None, 1)


@pytest.mark.parametrize("name", ["meta_categories/meta_All_Beauty.jsonl.zst", "review_categories/All_Beauty.jsonl.gz"])
def test_a_truncated_download_is_refused_and_nothing_is_written(source: Path, tmp_path: Path, name: str) -> None:
    whole = (source / name).read_bytes()
    (source / name).write_bytes(whole[: len(whole) - 20])
    with pytest.raises(UsageError, match=r"cannot be read to its end .*: is the download complete"):
        import_amazon(source, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_wrong_folders_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        import_amazon(tmp_path / "gone", tmp_path / "data")
    with pytest.raises(UsageError, match="holds no meta_CATEGORY"):
        import_amazon(make_empty_folder(tmp_path), tmp_path)
    (source / "All_Beauty.jsonl").write_bytes(json_lines(REVIEW))
    with pytest.raises(UsageError, match="hold the same table; keep one"):
        import_amazon(source, tmp_path / "data")
    (source / "All_Beauty.jsonl").write_bytes(b"user,item\n1,2\n")
    (source / "review_categories" / "All_Beauty.jsonl.gz").unlink()
    with pytest.raises(UsageError, match="does not begin with a JSON object"):
        import_amazon(source, tmp_path / "data")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Old.jsonl").write_bytes(json_lines({"reviewerID": "U1", "asin": "B1", "unixReviewTime": 1}))
    (tmp_path / "Folder.jsonl").mkdir()
    with pytest.raises(UsageError, match="does not begin with a JSON object that has the key user_id"):
        import_amazon(tmp_path, tmp_path / "data")
    (tmp_path / "Old.jsonl").rename(tmp_path / "meta_Old.jsonl")
    (tmp_path / "meta_Old.jsonl").write_bytes(json_lines({"title": "no id"}))
    with pytest.raises(UsageError, match="has the key parent_asin or asin"):
        import_amazon(tmp_path, tmp_path / "data")


def make_empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_the_command_prints_counts(source: Path, tmp_path: Path) -> None:
    arguments = ["import", "amazon", str(source), "--to", str(tmp_path / "data"), "--category", "All_Beauty"]
    plain = CliRunner().invoke(main, arguments)
    assert plain.exit_code == 0, plain.output
    assert "items.parquet: 3 rows" in plain.stdout
    assert "prices that are no number: 1" in plain.stdout
    answer = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert (answer["interactions"], answer["left_out"]["item_lines_without_id"]) == (4, 1)
