"""H&M Personalized Fashion is imported into the raw contract."""

import gzip
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.parquet_rows import read_rows

from vlm4rec_search.cli import main
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets import raw
from vlm4rec_search.datasets.importers.hm import import_hm

ARTICLES = """article_id,product_code,prod_name,product_type_name,colour_group_name,index_name,detail_desc
0108775015,0108775,Strap top,Vest top,Black,Ladieswear,"Jersey top, with ""narrow"" straps."
0111565001,0111565,20 den 1p Stockings,Underwear Tights,Black,Ladieswear,
"""
TRANSACTIONS = """t_dat,customer_id,article_id,price,sales_channel_id
2018-09-20,c1,0108775015,0.050830508474576264,2
2018-09-21,c1,0111565001,0.03,1
2018-09-21,c2,108775015,0.05,1
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "hm"
    (folder / "images" / "010").mkdir(parents=True)
    (folder / "images" / "010" / "0108775015.jpg").write_bytes(b"photo")
    (folder / "articles.csv").write_text(ARTICLES)
    with gzip.open(folder / "transactions_train.csv.gz", "wt") as file:
        file.write(TRANSACTIONS)
    return folder


def test_articles_keep_leading_zeros_and_attributes(source: Path, tmp_path: Path) -> None:
    summary = import_hm(source, tmp_path / "data")
    top, stockings = read_rows(tmp_path / "data" / "items.parquet")
    assert top == {
        "item_id": "0108775015",
        "title": "Strap top",
        "description": 'Jersey top, with "narrow" straps.',
        "category": "Vest top",
        "image": "images/010/0108775015.jpg",
        "product_code": "0108775",
        "colour_group_name": "Black",
        "index_name": "Ladieswear",
    }
    assert (stockings["item_id"], stockings["description"]) == ("0111565001", None)
    assert (summary.photos.copied, summary.photos.not_found) == (1, 1)
    assert (tmp_path / "data" / "images" / "010" / "0108775015.jpg").read_bytes() == b"photo"


def test_declarations_that_were_kept_from_other_data_are_told(source: Path, tmp_path: Path) -> None:
    assert import_hm(source, tmp_path / "data", images=False).warnings == []
    (tmp_path / "data" / "contract.yaml").write_text("values: {decimal: ','}")
    (warning,) = import_hm(source, tmp_path / "data", images=False).warnings
    assert "contract.yaml is there already and counts for this data, too" in warning


def test_transactions_are_purchases_and_a_lost_zero_is_restored(source: Path, tmp_path: Path) -> None:
    summary = import_hm(source, tmp_path / "data", images=False)
    rows = read_rows(tmp_path / "data" / "interactions.parquet")
    assert rows[0] == {
        "user_id": "c1",
        "item_id": "0108775015",
        "timestamp": "2018-09-20",
        "event_type": "purchase",
        "price": "0.050830508474576264",
        "sales_channel_id": "2",
    }
    assert [row["item_id"] for row in rows] == ["0108775015", "0111565001", "0108775015"]
    assert summary.left_out == {"items_without_article_id": 0, "interactions_without_article_id": 0}
    assert not (tmp_path / "data" / "images").exists()
    for stem in ("items", "interactions"):
        assert raw.inspect(tmp_path / "data", stem, tmp_path / "cache").files[0].rows


def test_a_truncated_file_is_refused(source: Path, tmp_path: Path) -> None:
    whole = (source / "transactions_train.csv.gz").read_bytes()
    (source / "transactions_train.csv.gz").write_bytes(whole[:60])
    with pytest.raises(UsageError, match="is the download complete"):
        import_hm(source, tmp_path / "data")


def test_wrong_folders_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds neither articles.csv nor transactions_train.csv"):
        import_hm(source / "images", tmp_path / "data")
    (source / "articles.csv").write_text("article_id,prod_name\n1,x\n")
    with pytest.raises(UsageError, match="has no column detail_desc, product_type_name; it has article_id, prod_name"):
        import_hm(source, tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "items.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match="would be ambiguous"):
        import_hm(source, tmp_path / "data")


def test_the_command_prints_counts(source: Path, tmp_path: Path) -> None:
    plain = CliRunner().invoke(main, ["import", "hm", str(source), "--to", str(tmp_path / "data")])
    assert plain.exit_code == 0, plain.output
    assert "interactions.parquet: 3 rows" in plain.stdout
    assert "photos: 1 copied, 1 not found" in plain.stdout
