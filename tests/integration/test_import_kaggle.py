"""The paper's data set is imported into the raw contract, with its splits and vectors."""

import gzip
import json
from pathlib import Path

import duckdb
import numpy as np
import pytest
from helpers.parquet_rows import read_rows
from helpers.workspace import Workspace

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets import raw
from vlm4rec_search.datasets.importers.generic import ImportOptions, import_generic
from vlm4rec_search.datasets.importers.kaggle import import_kaggle

FILES = {
    "users.txt": ",0\nA1,0\nA2,1\n",
    "items.txt": ",item_id\nB003,0\nB001,1\nB002,2\n",
    "train.txt": "user,item\n1,0\n0,0\n0,1\n",
    "validation.txt": "user,item\n0,2\n1,7\n",
    "test.txt": "user,item\n1,2\n5,1\n",
}
IMAGES = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.1, 0.2, 0.3]])
TEXTS = np.array([[1.0, 0.0], [0.0, 1.0], [np.nan, 0.0]], np.float32)
META = (
    {
        "asin": "B001",
        "title": "Red shoe",
        "feature": ["Leather"],
        "description": ["Made by hand."],
        "price": "$1,020.50",
        "category": ["Clothing", "Shoes"],
        "imageURLHighRes": ["https://images.example/shoe.jpg"],
        "brand": "Shoemaker",
    },
    {"asin": "B001", "title": "Red shoe again"},
    {"asin": "B009", "title": "Of another category"},
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "Shoes-clip_clip"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    np.save(folder / "embed_image.npy", IMAGES)
    np.save(folder / "embed_text.npy", TEXTS)
    return folder


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    with gzip.open(tmp_path / "meta_Shoes.json.gz", "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in META)
    return tmp_path / "meta_Shoes.json.gz"


def test_interactions_have_their_given_split_and_its_day(source: Path, tmp_path: Path) -> None:
    summary = import_kaggle(source, tmp_path / "data")
    columns = ("user_id", "item_id", "timestamp", "split", "user_number")
    rows = read_rows(tmp_path / "data" / "interactions.parquet")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("A1", "B003", "2000-01-01", "train", "0"),
        ("A1", "B001", "2000-01-01", "train", "0"),
        ("A2", "B003", "2000-01-01", "train", "1"),
        ("A1", "B002", "2000-01-02", "validation", "0"),
        ("A2", "7", "2000-01-02", "validation", "1"),
        ("A2", "B002", "2000-01-03", "test", "1"),
        (None, "B001", "2000-01-03", "test", "5"),
    ]
    assert summary.left_out == {
        "items_without_title": 3,
        "interactions_of_unknown_users": 1,
        "interactions_of_unknown_items": 1,
        "items_without_image_vector": 1,
        "items_without_text_vector": 1,
    }


def test_given_vectors_are_written_with_their_items(source: Path, tmp_path: Path) -> None:
    import_kaggle(source, tmp_path / "data")
    images = duckdb.read_parquet(str(tmp_path / "data" / "image_vectors.parquet"))
    assert (images.columns, list(map(str, images.types))) == (["item_id", "vector"], ["VARCHAR", "FLOAT[]"])
    rows = images.fetchall()
    assert rows[0] == ("B003", [3.0, 4.0, 0.0])
    assert rows[1] == ("B002", pytest.approx([0.1, 0.2, 0.3], abs=1e-7))
    texts = duckdb.read_parquet(str(tmp_path / "data" / "text_vectors.parquet")).fetchall()
    assert texts == [("B003", [1.0, 0.0]), ("B001", [0.0, 1.0])]
    given = json.loads((tmp_path / "data" / "GIVEN.json").read_text())
    assert given["splits"]["validation"] == "2000-01-02"
    assert given["vectors"]["image_vectors.parquet"] == {"dimension": 3}


def test_titles_and_texts_come_from_the_metadata(source: Path, meta: Path, tmp_path: Path) -> None:
    summary = import_kaggle(source, tmp_path / "data", meta)
    coat, shoe, belt = read_rows(tmp_path / "data" / "items.parquet")
    assert (shoe["item_id"], shoe["title"], shoe["price"]) == ("B001", "Red shoe", 1020.5)
    assert (shoe["description"], shoe["category"]) == ("Leather Made by hand.", "Shoes")
    assert (shoe["image"], shoe["store"]) == ("https://images.example/shoe.jpg", "Shoemaker")
    assert [(item["title"], item["item_number"]) for item in (coat, belt)] == [("B003", 0), ("B002", 2)]
    assert (summary.left_out["items_without_title"], summary.photos.remote) == (2, 1)
    for stem in ("items", "interactions"):
        assert raw.inspect(tmp_path / "data", stem, tmp_path / "cache").files[0].rows


def test_another_import_removes_the_given_files(source: Path, tmp_path: Path) -> None:
    import_kaggle(source, tmp_path / "data")
    (source / "items.csv").write_text("item_id,title\n1,Hat\n")
    import_generic(source, tmp_path / "data", ImportOptions({"items": "items.csv"}))
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["interactions.parquet", "items.parquet"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test.txt", None, "there is no file .*test.txt: SRC is the folder of one data set"),
        ("train.txt", "u,i\n1,2\n", "has no column user, item; it has u, i"),
        ("items.txt", ",item_id\nB003,1\nB001,2\nB002,3\n", "does not number its rows 0, 1, 2"),
        ("users.txt", ",0\nA1,0\nA2,0\n", "does not number its rows 0, 1, 2"),
        ("items.txt", ",item_id,more\nB003,0,x\n", "an id and its number were expected"),
        ("embed_image.npy", "no array", "cannot be read as a plain numpy array"),
        ("items.txt", ",item_id\nB003,0\nB001,1\nB003,2\n", "gives B003 more than one number"),
        ("embed_image.npy", "", "cannot be read as a plain numpy array"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    source: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    (source / name).unlink()
    if content is not None:
        (source / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        import_kaggle(source, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (IMAGES[:2], "has 2 rows for 3 items"),
        (IMAGES[0], "no matrix of floating-point numbers"),
        (np.array([[1], [2], [3]]), "no matrix of floating-point numbers"),
        (IMAGES[:, :0], "no matrix of floating-point numbers"),
        (np.array([[{}], [{}], [{}]]), "cannot be read as a plain numpy array"),  # numpy would pickle these
    ],
)
def test_arrays_that_do_not_fit_are_refused(source: Path, tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(source / "embed_text.npy", array, allow_pickle=True)
    with pytest.raises(UsageError, match=message):
        import_kaggle(source, tmp_path / "data")


@pytest.mark.parametrize(
    "header",
    ["'shape': (-300, 2), }", f"'shape': (3, {10**20}), }}", f"'shape': (3, {2**62}), }}", "'shape': ((((", "'"],
)
def test_a_broken_header_is_refused_without_warnings(
    source: Path, tmp_path: Path, header: str, recwarn: pytest.WarningsRecorder
) -> None:
    text = ("{'descr': '<f4', 'fortran_order': False, " + header + "\n").encode()
    (source / "embed_text.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(UsageError, match="cannot be read as a plain numpy array"):
        import_kaggle(source, tmp_path / "data")
    assert not recwarn.list


def test_values_beyond_float32_are_left_out_without_a_warning(
    source: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    np.save(source / "embed_text.npy", np.array([[1e300, 0.0], [1.0, 1.0], [1.0, 2.0]]))
    assert import_kaggle(source, tmp_path / "data").left_out["items_without_text_vector"] == 1
    assert not recwarn.list


def test_text_that_is_no_number_is_no_user_and_no_item(source: Path, tmp_path: Path) -> None:
    (source / "train.txt").write_text("user,item\n0.0,1.0\n0.6,1\n0,1.4\n0,\n1e0,-1\n")
    left_out = import_kaggle(source, tmp_path / "data").left_out
    rows = read_rows(tmp_path / "data" / "interactions.parquet")
    train = {(row["user_id"], row["item_id"]) for row in rows if row["split"] == "train"}
    assert train == {("A1", "B001"), (None, "B001"), ("A1", "1.4"), ("A1", None), (None, "-1")}
    assert (left_out["interactions_of_unknown_users"], left_out["interactions_of_unknown_items"]) == (3, 4)


def test_a_missing_metadata_file_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file .*gone\.gz: --meta is a file of Amazon item metadata"):
        import_kaggle(source, tmp_path / "data", tmp_path / "gone.gz")


def test_as_of_selects_the_splits_in_a_plan(source: Path, meta: Path, workspace: Workspace) -> None:
    output = workspace.vlm4rec("import", "kaggle", str(source), "--to", "data", "--meta", str(meta))
    assert "a day stands in for each split" in output
    workspace.settings["VLM4REC_AS_OF"] = "2000-01-02"
    workspace.plan()
    assert workspace.query("SELECT user_id, position, item_id FROM histories.user_histories ORDER BY ALL") == [
        ("A1", 1, "B003"),
        ("A1", 2, "B001"),
        ("A1", 3, "B002"),
        ("A2", 1, "B003"),
    ]
    refused = "SELECT reason, record ->> '$.attributes.split' FROM staging.rejected_interactions ORDER BY reason"
    assert [reason for reason, _ in workspace.query(refused)] == ["no user id", "unknown item"]
    split = "SELECT attributes ->> 'split', COUNT(*) FROM raw.interactions GROUP BY ALL ORDER BY ALL"
    assert workspace.query(split) == [("test", 2), ("train", 3), ("validation", 2)]
