"""Imports that fail leave the data folder as it was; odd folder names and hostile catalogues do no harm."""

import pickle
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest
from helpers.parquet_rows import read_rows

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.importers.generic import ImportOptions, import_generic
from vlm4rec_search.datasets.importers.hm import import_hm
from vlm4rec_search.datasets.importers.kaggle import import_kaggle
from vlm4rec_search.datasets.raw import inspect

ITEMS = "item_id,title,image\n1,Hat,pics/hat.jpg\n"
LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from vlm4rec_search.cli import main
main(["import", "generic", sys.argv[1], "--to", sys.argv[2], "--items", "items.csv"])
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "exports"
    (folder / "pics").mkdir(parents=True)
    (folder / "pics" / "hat.jpg").write_bytes(b"photo")
    (folder / "items.csv").write_text(ITEMS)
    return folder


def write_kaggle(folder: Path, items: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "users.txt").write_text(",0\nA1,0\n")
    (folder / "items.txt").write_text(f",item_id\n{items},0\n")
    for split in ("train", "validation", "test"):
        (folder / f"{split}.txt").write_text("user,item\n0,0\n")
    for name in ("image", "text"):
        np.save(folder / f"embed_{name}.npy", np.ones((1, 2), np.float32))
    return folder


def test_no_table_is_written_when_a_photo_cannot_be_copied(source: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pics").write_text("a file where the folder has to be")
    with pytest.raises(OSError, match="pics"):
        import_generic(source, tmp_path / "data", ImportOptions({"items": "items.csv"}))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["pics"]


def test_an_import_that_fails_late_keeps_the_earlier_tables(tmp_path: Path) -> None:
    data = tmp_path / "data"
    import_kaggle(write_kaggle(tmp_path / "first", "B001"), data)
    (data / "text_vectors.parquet").unlink()
    (data / "text_vectors.parquet").mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError, match="text_vectors"):
        import_kaggle(write_kaggle(tmp_path / "second", "B002"), data)
    assert [row["item_id"] for row in read_rows(data / "items.parquet")] == ["B001"]
    assert {row["item_id"] for row in read_rows(data / "interactions.parquet")} == {"B001"}
    assert not (data / ".import.part").exists()


def test_files_of_a_killed_import_are_removed(source: Path, tmp_path: Path) -> None:
    left = tmp_path / "data" / ".import.part"
    left.mkdir(parents=True)
    (left / "interactions.parquet").write_bytes(b"half")
    import_generic(source, tmp_path / "data", ImportOptions({"items": "items.csv"}))
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["items.parquet", "pics"]


def test_a_full_disk_is_reported_as_such(source: Path, tmp_path: Path) -> None:
    rows = "".join(f"{row * row},Hat {row * 7919}\n" for row in range(5000))
    (source / "items.csv").write_text("item_id,title\n" + rows)
    command = [sys.executable, "-c", LIMITED, str(source), str(tmp_path / "data")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert f"{tmp_path / 'data'} cannot be written" in done.stderr
    assert list((tmp_path / "data").iterdir()) == []


def test_source_folders_named_like_partitions_add_no_columns(tmp_path: Path) -> None:
    source = tmp_path / "price=9" / "dt=2024-01-01"
    source.mkdir(parents=True)
    (source / "transactions_train.csv").write_text("t_dat,customer_id,article_id,price\n2018-09-20,c1,0108775015,0.5\n")
    summary = import_hm(source, tmp_path / "item_id=5" / "data")
    (row,) = read_rows(tmp_path / "item_id=5" / "data" / "interactions.parquet")
    assert (row["item_id"], row["price"], "dt" in row) == ("0108775015", "0.5", False)
    assert summary.left_out == {"interactions_without_article_id": 0}


@pytest.mark.parametrize(("suffix", "kind"), [(".csv", "csv"), (".jsonl", "json"), (".parquet", "parquet")])
def test_a_data_folder_named_like_a_partition_adds_no_column(tmp_path: Path, suffix: str, kind: str) -> None:
    file = tmp_path / "price=9" / f"items{suffix}"
    file.parent.mkdir()
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT '1' AS item_id, 'a' AS title, '5' AS price) TO '{file}' (FORMAT {kind})")
    (found,) = inspect(file.parent, "items", tmp_path / "region=7").files
    stored = tmp_path / "region=7" / "raw" / f"{found.key}.parquet"
    assert read_rows(stored)[0]["price"] == "5"
    assert "region" not in read_rows(stored)[0]


def test_spaces_around_the_name_of_a_photo_are_ignored(source: Path, tmp_path: Path) -> None:
    (source / "items.csv").write_text('item_id,title,image\n1,a," pics/hat.jpg "\n2,b," https://x/y.jpg"\n')
    photos = import_generic(source, tmp_path / "data", ImportOptions({"items": "items.csv"})).photos
    assert (photos.copied, photos.not_found, photos.remote) == (1, 0, 1)


def test_a_temporary_file_of_an_import_is_no_photo(source: Path, tmp_path: Path) -> None:
    (source / ".items.parquet.part").write_bytes(b"x")
    (source / "items.csv").write_text("item_id,title,image\n1,a,.items.parquet.part\n")
    assert import_generic(source, tmp_path / "data", ImportOptions({"items": "items.csv"})).photos.refused == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["items.parquet"]


@pytest.mark.parametrize("name", ["items.csv.gz", "photos.csv.gz"])
def test_a_missing_gz_and_a_folder_named_gz_are_no_files(source: Path, tmp_path: Path, name: str) -> None:
    (source / "photos.csv.gz").mkdir()
    with pytest.raises(UsageError, match=f"there is no file .*{name}"):
        import_generic(source, tmp_path / "data", ImportOptions({"items": name}))


def test_a_file_without_bytes_holds_no_rows(tmp_path: Path) -> None:
    (tmp_path / "articles.csv").write_bytes(b"")
    with pytest.raises(UsageError, match="holds no rows"):
        import_hm(tmp_path, tmp_path / "data")


def test_pickled_objects_are_refused_without_advice_to_load_them(tmp_path: Path) -> None:
    source = write_kaggle(tmp_path / "set", "B001")
    (source / "embed_text.npy").write_bytes(pickle.dumps({}))
    with pytest.raises(UsageError, match=r"pickled \(object\) data$"):
        import_kaggle(source, tmp_path / "data")
