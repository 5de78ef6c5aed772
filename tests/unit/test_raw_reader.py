"""Every record of a delivered file is a row, or is kept with its line and reason, however the file is written."""

import csv
import gzip
import io
import json
import os
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.delivered import count_records, read_items, read_table
from helpers.largest_file import largest_file
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm4rec_search.common.errors import RunError, UsageError
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.datasets.declarations import InteractionsDeclaration
from vlm4rec_search.datasets.dialects import Dialect, scan_text
from vlm4rec_search.datasets.raw import describe, inspect, raw_query, remove_unused, unread_files
from vlm4rec_search.datasets.records import _objects_as_they_are, _one_line_each

FEW = 'item_id,title,price\n#1,Brass lamp,10\n#2,"Red ""big"" mug",5\n3,Chair #3 oak,\n'


def rows_of(folder: Path, content: bytes | str, name: str = "items.csv", contract: str = "") -> list[object]:
    found = read_items(folder, content, name, contract)
    assert found.broken == []
    return [(row.get("item_id"), row.get("title"), row.get("price")) for row in found.rows]


EXPECTED = [("#1", "Brass lamp", "10"), ("#2", 'Red "big" mug', "5"), ("3", "Chair #3 oak", None)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("items.csv", FEW.encode()),
        ("items.csv", FEW.encode("utf-8-sig")),
        ("items.csv", FEW.encode("utf-16")),
        ("items.csv", FEW.encode("utf-16-le")),
        ("items.csv", FEW.replace("\n", "\r\n").encode()),
        ("items.csv", FEW.replace("\n", "\r").encode()),
        ("items.csv", FEW.replace("lamp,10\n", "lamp,10\r\n").encode()),
        ("items.csv", FEW.replace("\n", "\n\n").encode()),
        ("items.csv", FEW.replace(",", ";").encode()),
        ("items.csv", ("sep=;\n" + FEW.replace(",", ";")).encode()),
        ("items.csv", FEW.replace('""', '\\"').encode()),
        ("items.csv", FEW.rstrip("\n").encode()),
        ("items.csv", FEW.rstrip(",\n").encode()),
        ("items.csv", FEW.replace("\n", ",\n", 2).replace("price,", "price", 1).encode()),
        ("items.tsv", FEW.replace(",", "\t").encode()),
        ("items.txt", FEW.replace(",", "|").encode()),
        ("items.csv.gz", gzip.compress(FEW.encode(), mtime=0)),
    ],
)
def test_ways_to_write_a_table_give_the_same_rows(tmp_path: Path, name: str, content: bytes) -> None:
    assert rows_of(tmp_path / "data", content, name) == EXPECTED


@pytest.mark.parametrize("encoding", ["windows-1252", "latin-1"])
def test_text_that_is_no_utf8_is_read_as_latin_and_told(tmp_path: Path, encoding: str) -> None:
    found = read_items(tmp_path / "data", "item_id,title\n1,Café Tür\n".encode(encoding))
    assert found.rows == [{"item_id": "1", "title": "Café Tür"}]
    assert found.files[0].written == "csv, delimiter ,, windows-1252"
    assert "is no UTF-8 and is read as windows-1252" in found.files[0].notes[0]


def test_one_line_that_is_no_utf8_does_not_cost_the_others(tmp_path: Path) -> None:
    content = "item_id,title\n1,Küche\n".encode() + b"2,Caf\xe9\n3,Mug\n"
    found = read_items(tmp_path / "data", content)
    assert [row["item_id"] for row in found.rows] == ["1", "3"]
    assert found.broken == [(3, "it is not utf-8 text", "2,Caf\\xe9")]


def test_one_line_that_is_utf8_does_not_cost_the_others_their_accents(tmp_path: Path) -> None:
    rows = "".join(f"{n},Café {n}\n" for n in range(2, 50)).encode("windows-1252")
    found = read_items(tmp_path / "data", "item_id,title\n1,Küche\n".encode() + rows)
    assert [row["title"] for row in found.rows] == ["KÃ¼che", *(f"Café {n}" for n in range(2, 50))]
    assert "is read as windows-1252" in found.files[0].notes[0]
    assert found.broken == []


def test_records_with_line_breaks_keep_their_lines(tmp_path: Path) -> None:
    content = 'item_id,title,description\n1,Lamp,"warm\nlight\n"\n\n2,Mug,red\n3,Chair,"a,b,c",d\n4,Pen,x\n'
    found = read_items(tmp_path / "data", content)
    assert [(row["item_id"], line) for row, line in zip(found.rows, found.lines, strict=True)] == [
        ("1", 2), ("2", 6), ("4", 8),
    ]  # fmt: skip
    assert found.rows[0]["description"] == "warm\nlight\n"
    assert found.broken == [(7, "4 values, the header has 3", '3,Chair,"a,b,c",d')]


def test_a_quote_that_is_not_closed_costs_its_own_line_only(tmp_path: Path) -> None:
    rows = "".join(f"{n},Mug {n},{n}\n" for n in range(3, 30_000))
    found = read_items(tmp_path / "data", f'item_id,title,price\n1,"Lamp,10\n2,Pen,5\n{rows}')
    assert len(found.rows) == 1 + 29_997
    assert found.broken == [(2, "a quote is opened and never closed", '1,"Lamp,10')]
    assert found.lines[0] == 3


@pytest.mark.parametrize("last", ['1000,"Retro lamp,3.50', '1000,Screen of 24",3.50'])
def test_two_quotes_that_are_not_closed_do_not_take_the_rows_between_them(tmp_path: Path, last: str) -> None:
    rows = [f"{n},Mug {n},{n}" for n in range(2_000)]
    rows[100], rows[1_000] = '100,"Vintage poster,3.50', last
    found = read_items(tmp_path / "data", "\n".join(["item_id,title,price", *rows]))
    assert found.broken[0] == (102, "a quote is opened and not closed on its line", rows[100])
    assert len(found.rows) + len(found.broken) == 2_000
    assert [row["item_id"] for row in found.rows if row["item_id"] not in ("100", "1000")] == [
        str(n) for n in range(2_000) if n not in (100, 1_000)
    ]


def test_a_table_inside_of_a_quoted_value_stays_a_value(tmp_path: Path) -> None:
    sizes = "".join(f"{n},{n + 2},{n + 4}\n" for n in range(10))
    found = read_items(tmp_path / "data", f'item_id,title,description\n1,Coat,"{sizes}"\n2,Mug,"red\n""big""\n"\n')
    assert [(row["item_id"], row["description"]) for row in found.rows] == [("1", sizes), ("2", 'red\n"big"\n')]
    assert found.broken == []


def test_very_long_values_and_nul_are_values(tmp_path: Path) -> None:
    long = "x" * 3_000_000
    found = read_items(tmp_path / "data", f"item_id,title,colour\n1,{long},red\n2,a\0b,c\0d\n")
    assert found.rows == [
        {"item_id": "1", "title": long, "colour": "red"},
        {"item_id": "2", "title": "a\0b", "colour": "c\0d"},
    ]


def test_short_rows_are_rows_and_are_told(tmp_path: Path) -> None:
    found = read_items(tmp_path / "data", "item_id,title,price\n1,Lamp\n2,Mug,5\n")
    assert [row.get("price") for row in found.rows] == [None, "5"]
    assert found.files[0].notes == (
        "items.csv: 1 of 2 rows are shorter than the header; what they lack is NULL",
    )  # fmt: skip


def test_declared_signs_are_taken_as_they_are(tmp_path: Path) -> None:
    contract = (
        "items: {delimiter: '::', columns: [item_id, title, category], encoding: latin-1, first: {category: '|'}}"
    )
    found = read_items(tmp_path / "data", '1::"Toy" é::A|B\n'.encode("latin-1"), "items.txt", contract)
    assert found.rows == [{"item_id": "1", "title": '"Toy" é', "category": "A", "source_category": "A|B"}]


def test_declared_columns_are_mapped_set_and_filled_in(tmp_path: Path) -> None:
    contract = """
items:
  delimiter: ";"
  map: {item_id: Nr, title: [Name, Kurz], price: preis}
  set: {image: "fotos/{Nr}.jpg", available: "true", shop: Bremen, description: ""}
"""
    found = read_items(
        tmp_path / "data", "Nr;Name;Kurz;Preis;Farbe;Description\n1;;Lampe;9,5;rot;weg\n", contract=contract
    )
    assert found.rows == [
        {
            "item_id": "1", "title": "Lampe", "price": "9,5", "image": "fotos/1.jpg", "available": "true",
            "description": "", "shop": "Bremen", "Farbe": "rot",
        }
    ]  # fmt: skip


SALE = {"item_id": "1", "title": "Lamp", "price": "100", "sale_price": "50", "available": "yes", "stock": "0"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("items.csv", f"{','.join(SALE)}\n{','.join(SALE.values())}\n"),
        ("items.jsonl", json.dumps(SALE) + "\n"),
    ],
)
def test_a_column_in_whose_place_another_is_declared_is_no_attribute_of_that_name(
    tmp_path: Path, name: str, content: str
) -> None:
    contract = "items: {map: {price: sale_price, brand: title}, set: {available: '{available} {stock}'}}"
    found = read_items(tmp_path / "data", content, name, contract)
    stored = duckdb.read_parquet(str(tmp_path / "data-cache" / "raw" / f"{found.files[0].key}.parquet"))
    ((price, available, attributes),) = stored.project("price, available, attributes").fetchall()
    assert (price, available) == ("50", "yes 0")
    assert json.loads(attributes) == {"source_price": "100", "source_available": "yes", "stock": "0", "brand": "Lamp"}
    assert found.files[0].notes == (
        f"{name}: the column 'price' is the attribute 'source_price'",
        f"{name}: the column 'available' is the attribute 'source_available'",
    )


def test_the_first_element_of_an_attribute_is_an_attribute(tmp_path: Path) -> None:
    content = "item_id,title,Tags\n1,Lamp,a|b\n"
    found = read_items(tmp_path / "data", content, contract='items: {first: {tags: "|"}}')
    assert found.rows == [{"item_id": "1", "title": "Lamp", "tags": "a", "source_Tags": "a|b"}]
    found = read_items(tmp_path / "data", content, contract='items: {first: {labels: "|", category: "|"}}')
    assert found.rows == [{"item_id": "1", "title": "Lamp", "Tags": "a|b"}]
    assert found.files[0].notes == ("items.csv: there is no column 'labels', of which contract.yaml takes parts",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("items.csv", "item_id,title,Genre\n1,Lamp,a | b\\|c||NULL\n2,Mug,NULL\n3,Cup,a\n"),
        (
            "items.jsonl",
            '{"item_id": "1", "title": "Lamp", "Genre": ["a", "b|c"]}\n{"item_id": "2", "title": "Mug"}\n'
            '{"item_id": "3", "title": "Cup", "Genre": "a"}\n',
        ),
    ],
)
def test_an_attribute_with_several_values_is_a_list(tmp_path: Path, name: str, content: str) -> None:
    contract = 'items: {map: {genres: Genre, category: Genre}, first: {category: "|"}, split: {genres: "|"}}'
    found = read_items(tmp_path / "data", content, name, contract=contract)
    assert [row.get("genres") for row in found.rows] == [["a", "b|c"], None, ["a"]]
    assert "source_Genre" not in found.rows[0]
    with pytest.raises(UsageError, match="category has one value"):
        read_items(tmp_path / "data", content, name, contract="items: {split: {category: ','}}")


JSON_LINES = (
    b'{"item_id": "1", "title": "Lamp", "Category": "light", "more": {"a": [1, null]}}\n'
    b'{"item_id": 2, "title": "M\xc3\xbcg", "price": 1.50}\n'
    b'{"item_id": "3", "title": "broken \\x escape"}\n'
    b"\n"
    b'[1, 2]\n{"item_id": "4", "title": "Pen", "price": NaN}\n{"item_id": "5", "title": "half\n'
    b'{"item_id": "6", "title": "\\ud800"}\n{"item_id": "7", "title": "Caf\xe9"}\n'
)


def test_the_first_element_of_a_list_of_categories_that_says_something_counts(tmp_path: Path) -> None:
    lists = {
        '[null, "B"]': "B", '["", "C"]': "C", '["NULL", "X"]': "X", '[{"id": 7, "name": "Shirts"}]': "Shirts",
        '[["Men", "Shoes"], ["Sale"]]': "Men", '[{"id": 7}]': None, "[]": None, '"[Sale] Hats"': "[Sale] Hats",
    }  # fmt: skip
    lines = (f'{{"item_id": "{at}", "title": "Lamp", "category": {text}}}\n' for at, text in enumerate(lists))
    found = read_items(tmp_path / "data", "".join(lines), "items.jsonl")
    assert [row.get("category") for row in found.rows] == list(lists.values())
    assert found.files[0].notes[0] == (
        "items.jsonl: 7 categories are lists; the first element counts, and the list is kept as an attribute; in 2 of"
        " them no element is a text or has a name, and the category is empty"
    )


def test_a_broken_json_line_does_not_cost_the_others(tmp_path: Path) -> None:
    found = read_items(tmp_path / "data", JSON_LINES, "items.jsonl")
    assert [row["item_id"] for row in found.rows] == ["1", "2", "4"]
    assert found.rows[0] == {"item_id": "1", "title": "Lamp", "category": "light", "more": {"a": [1, None]}}
    assert found.rows[1]["price"] == "1.5"
    assert found.lines == [1, 2, 6]
    assert [(line, reason.split(":")[0]) for line, reason, _ in found.broken] == [
        (3, "it is not JSON"), (5, "it is no JSON object but a list"), (7, "it is not JSON"),
        (8, "it is not JSON"), (9, "it is not utf-8 text"),
    ]  # fmt: skip


def test_parquet_with_bytes_floats_and_broken_texts(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = pa.table(
        {
            "item_id": pa.array([4711.0, 4712.0, 4713.0]),
            "title": pa.array([b"Lamp", b"T\xc3\xbcr", b"Caf\xe9"], pa.binary()),
            "price": pa.array([9.5, float("nan"), 3.0]),
            "thumb": pa.array([b"\xff\xd8", b"\xff\xd9", None], pa.binary()),
            "size": pa.array([float("nan"), 2.5, None]),
        }
    )
    pq.write_table(table, tmp_path / "data" / "items.parquet")
    found = read_table(tmp_path / "data")
    assert found.rows == [
        {"item_id": "4711", "title": "Lamp", "price": "9.5", "size": None},
        {"item_id": "4712", "title": "Tür", "size": 2.5},
    ]
    assert [(line, reason) for line, reason, _ in found.broken] == [(3, "it is not utf-8 text")]
    assert json.loads(found.broken[0][2])["title"] == "Caf\\xE9"
    assert found.files[0].notes == ("items.parquet: the column 'thumb' holds bytes that are no text; it is left out",)


@pytest.mark.parametrize("name", ["line", "Line", "file", "c0", "json"])
def test_a_column_of_parquet_may_have_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    table = pa.table({"item_id": ["1", "2"], "title": ["Lamp", "Mug"], name: ["Summer", "Winter"]})
    pq.write_table(table, tmp_path / "data" / "items.parquet")
    found = read_table(tmp_path / "data")
    assert [row[name] for row in found.rows] == ["Summer", "Winter"]
    assert found.lines == [1, 2]


TEXTS = pa.Array.from_buffers(pa.string(), 2, pa.array([b"T\xc3\xbcr", b"Caf\xe9"], pa.binary()).buffers())


def test_parquet_whose_texts_are_no_utf8_keeps_the_others(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"item_id": ["1", "2"], "title": TEXTS}), tmp_path / "data" / "items.parquet")
    found = read_table(tmp_path / "data")
    assert found.rows == [{"item_id": "1", "title": "Tür"}]
    assert found.broken[0][:2] == (2, "it is not utf-8 text")


@pytest.mark.parametrize(
    "values",
    [pa.ListArray.from_arrays(pa.array([0, 1, 2]), TEXTS), pa.StructArray.from_arrays([TEXTS], ["name"])],
    ids=["list", "struct"],
)
def test_a_list_in_which_a_text_is_no_utf8_costs_its_column(tmp_path: Path, values: pa.Array) -> None:
    (tmp_path / "data").mkdir()
    table = pa.table({"item_id": ["1", "2"], "title": ["Lamp", "Mug"], "tags": values, "sizes": [["S", "Ü"], None]})
    pq.write_table(table, tmp_path / "data" / "items.parquet")
    found = read_table(tmp_path / "data")
    assert found.rows == [
        {"item_id": "1", "title": "Lamp", "sizes": ["S", "Ü"]},
        {"item_id": "2", "title": "Mug", "sizes": None},
    ]
    assert found.files[0].notes == (
        "items.parquet: the column 'tags' holds a list or an object with a text that is no UTF-8; it is left out",
    )


def test_a_dictionary_in_which_a_text_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    title = pa.DictionaryArray.from_arrays(pa.array([0, 1]), TEXTS)
    pq.write_table(pa.table({"item_id": ["1", "2"], "title": title}), tmp_path / "data" / "items.parquet")
    with pytest.raises(UsageError, match="cannot be read: a text in a column of categories"):
        read_table(tmp_path / "data")


def test_decimals_below_one_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    shares = pa.array([Decimal("0.50"), Decimal("0.00"), Decimal("-0.05"), None], pa.decimal128(2, 2))
    table = pa.table({"item_id": list("1234"), "title": ["Lamp"] * 4, "price": shares, "discount": shares})
    pq.write_table(table, tmp_path / "data" / "items.parquet")
    found = read_table(tmp_path / "data")
    assert [row.get("price") for row in found.rows] == ["0.5", "0", "-0.05", None]
    assert [row["discount"] for row in found.rows] == [0.5, 0, -0.05, None]


def test_decimals_that_are_too_long_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    price = pa.array([Decimal("12.50")], pa.decimal256(40, 2))
    pq.write_table(pa.table({"item_id": ["1"], "title": ["Lamp"], "price": price}), tmp_path / "data" / "items.parquet")
    with pytest.raises(
        UsageError, match=r"items.parquet has decimals of more than 38 digits \(price\): save them with"
    ):
        read_table(tmp_path / "data")


def test_names_that_nearly_are_those_of_the_contract_are_matched_and_told(tmp_path: Path) -> None:
    found = read_items(tmp_path / "data", "\ufeffItem ID,TITLE , price,Category,brand\n1,Lamp,10,lights, Alder\n")
    assert found.rows == [{"item_id": "1", "title": "Lamp", "price": "10", "category": "lights", "brand": " Alder"}]
    assert "items.csv: the column 'Item ID' is read as item_id" in found.files[0].notes


def test_a_column_that_looks_like_one_of_the_contract_is_a_warning(tmp_path: Path) -> None:
    found = read_items(tmp_path / "data", "item_id,title,Preis,in_stock,stock\n1,Lamp,10,yes,3\n")
    assert found.files[0].warnings == (
        "items.csv: the column 'Preis' looks like price and is not used: declare `items: {map: {price: Preis}}` in"
        " contract.yaml beside the data",
        "items.csv: the columns in_stock, stock look like available and are not used: declare `items: {map:"
        " {available: in_stock}}` in contract.yaml beside the data",
    )


def test_a_name_twice_is_told_and_the_first_counts(tmp_path: Path) -> None:
    found = read_items(tmp_path / "data", "item_id,title,price,price\n1,Lamp,10,12\n")
    assert found.rows == [{"item_id": "1", "title": "Lamp", "price": "10", "price_2": "12"}]
    assert found.files[0].notes == ("items.csv: the header names 'price' twice; the second column is called 'price_2'",)


def test_a_name_that_is_decomposed_is_told_only_if_it_comes_twice(tmp_path: Path) -> None:
    decomposed = "Gro\u0308\u00dfe"
    assert not read_items(tmp_path / "one", f"item_id,title,{decomposed}\n1,Lamp,9\n").files[0].notes
    found = read_items(tmp_path / "two", f"item_id,title,Gr\u00f6\u00dfe,{decomposed}\n1,Lamp,9,8\n")
    assert found.files[0].notes == (
        "items.csv: the header names 'Gr\u00f6\u00dfe' twice; the second column is called 'Gr\u00f6\u00dfe_2'",
    )


@pytest.mark.parametrize("extra", ["", '3,"two\nlines",1\n'])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_header_of_a_second_file_that_was_appended_is_refused(tmp_path: Path, extra: str, mark: str) -> None:
    content = f"{mark}item_id,title,price\n1,Lamp,10\n{mark}item_id,title,price\n2,Mug,5\n{extra}"
    found = read_items(tmp_path / "data", content)
    assert [row["item_id"] for row in found.rows][:2] == ["1", "2"]
    assert found.broken == [(3, "it is the header once more", f"{mark}item_id,title,price")]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("", r"cannot be stored in .*-cache/raw \(File too large\): make room there, or set VLM4REC_CACHE"),
        ('0,"two\nlines"\n', r"cannot be kept in the temporary folder .* make room there, or set TMPDIR"),
    ],
)
def test_a_full_disk_is_told_with_its_folder_and_setting(tmp_path: Path, extra: str, message: str) -> None:
    content = "item_id,title\n" + "".join(f"{n},Lamp {n * 7919}\n" for n in range(60_000)) + extra
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "items.csv").write_text(content)
    with pytest.raises(RunError, match=message), largest_file(100_000):
        read_table(tmp_path / "data")


def test_a_missing_column_is_told_with_the_mapping_that_mends_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_items(tmp_path / "data", "Artikelnummer;Bezeichnung\n1;Lampe\n")
    assert "map: {item_id: Artikelnummer, title: Bezeichnung}" in str(caught.value)


def test_a_declared_column_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no column Nummer; it has item_id, title"):
        read_items(tmp_path / "data", "item_id,title\n1,Lamp\n", contract="items: {map: {item_id: Nummer}}")


def test_files_of_a_folder_are_one_table_in_order(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for day, content in (
        ("02", "user_id,item_id,timestamp\nu2,b,t2\n"),
        ("01", "user_id;Item_ID;timestamp\nu1;a;t1\n"),
    ):
        (data / "interactions" / f"date=2026-11-{day}").mkdir(parents=True)
        (data / "interactions" / f"date=2026-11-{day}" / "part.csv").write_text(content)
    (data / "interactions" / "_SUCCESS").write_text("")
    line = '{"user_id": "u3", "item_id": "c", "timestamp": "t3"}\n'
    (data / "interactions" / "late.jsonl").write_text(line)
    found = read_table(data, "interactions")
    assert [file.file for file in found.files] == [
        "interactions/date=2026-11-01/part.csv", "interactions/date=2026-11-02/part.csv", "interactions/late.jsonl",
    ]  # fmt: skip
    assert [row["user_id"] for row in found.rows] == ["u1", "u2", "u3"]
    assert all("date" not in row for row in found.rows)
    (data / "contract.yaml").write_text("interactions: {files: 'interactions/**.csv', partitions: date}")
    assert [row["date"] for row in read_table(data, "interactions").rows] == ["2026-11-01", "2026-11-02"]


def test_folders_named_key_value_are_columns_as_hive_writes_them(tmp_path: Path) -> None:
    for folder, name, content in (
        ("brand=A%2FB%20C", "a.csv", "item_id,title\n1,Lamp\n"),
        ("brand=A%2FB%20C", "b.jsonl", '{"item_id": "2", "title": "Lamp"}\n'),
        ("brand=__HIVE_DEFAULT_PARTITION__", "a.csv", "item_id,title,brand\n3,Lamp,file\n"),
        ("flat", "a.csv", "item_id,title,Brand\n4,Lamp,own\n"),
        ("flat", "b.csv", "item_id,title\n5,Lamp\n"),
    ):
        (tmp_path / "data" / "items" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "items" / folder / name).write_text(content)
    (tmp_path / "data" / "contract.yaml").write_text("items: {partitions: brand}")
    found = [(row["item_id"], row.get("brand") or row.get("Brand")) for row in read_table(tmp_path / "data").rows]
    assert found == [("1", "A/B C"), ("2", "A/B C"), ("3", None), ("4", "own"), ("5", None)]


def test_files_of_a_table_that_are_not_read_are_warnings(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "interactions"
    folder.mkdir(parents=True)
    head = "user_id,item_id,timestamp\n"
    (folder / "1.csv").write_text(f"{head}u,1,2024-01-01\n")
    (folder / "2.ndjson").write_text('{"user_id": "u", "item_id": "2", "timestamp": "2024-01-02"}\n')
    with pa.output_stream(folder / "3.csv.zst", compression="zstd") as file:
        file.write(f"{head}u,3,2024-01-03\n".encode())
    left_out = ("4.json", "5.XLSX", "6.jpg", "7.json", "8.json", "../interactions.csv.bz2")
    for name in left_out:
        (folder / name).write_bytes(b"x")
    config = Settings(data_dir=tmp_path / "data", cache=tmp_path / "cache")
    found = inspect(tmp_path / "data", "interactions", config.cache)
    assert [(file.file, file.rows) for file in found.files] == [
        ("interactions/1.csv", 1), ("interactions/2.ndjson", 1), ("interactions/3.csv.zst", 1),
        ("interactions/4.json", 0), ("interactions/5.XLSX", 0), ("interactions.csv.bz2", 0),
    ]  # fmt: skip
    assert describe(found)[1][0] == (
        "interactions/4.json and 2 more .json files are not read: save it as csv, tsv, txt, parquet, jsonl, ndjson, or"
        " if it is text or has a JSON object on each line, declare the `files` of interactions in contract.yaml"
    )
    rows = raw_query(config, None, "interactions", ["item_id"]).sql("duckdb")
    assert duckdb.sql(f"SELECT item_id FROM {rows}").fetchall() == [("1",), ("2",), ("3",)]
    (folder / "9.json").write_bytes(b"x")
    assert inspect(tmp_path / "data", "interactions", config.cache).version != found.version
    (tmp_path / "data" / "contract.yaml").write_text("interactions: {files: interactions/1.csv}")
    assert describe(inspect(tmp_path / "data", "interactions", config.cache)) == ([], [])
    with pytest.raises(UsageError, match=r"holds none of items.csv.*; items.xlsx is not read: save it as csv"):
        read_items(tmp_path / "other", b"x", "items.xlsx")


def test_files_beside_the_file_of_a_table_are_warnings(tmp_path: Path) -> None:
    (tmp_path / "Interactions").mkdir()
    for name in ("interactions.csv", "interactions.2026-05.csv", "Interactions/1.csv", "interactions.broken.parquet"):
        (tmp_path / name).write_text("user_id,item_id,timestamp\nu,1,2024-01-01\n")
    (warning,) = unread_files(tmp_path, "interactions", InteractionsDeclaration()).values()
    assert warning == (
        "Interactions/1.csv and 1 more .csv files are not read: put all files of interactions into one folder"
        " interactions, or declare the `files` of interactions in contract.yaml"
    )


def test_an_optional_table_of_which_no_file_is_read_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "users.xlsx").write_bytes(b"x")
    query = raw_query(Settings(data_dir=tmp_path, cache=tmp_path / "cache"), None, "users", ["user_id"])
    assert duckdb.sql(f"FROM {query.sql('duckdb')}").fetchall() == []


def test_an_empty_file_of_several_is_a_warning_and_does_not_cost_the_others(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "part-1.csv").write_text("")
    (tmp_path / "items" / "part-2.csv").write_text(FEW)
    config = Settings(data_dir=tmp_path, cache=tmp_path / "cache")
    found = inspect(tmp_path, "items", config.cache)
    assert [bool(file.rows) for file in found.files] == [False, True]
    assert describe(found)[1] == ["items/part-1.csv is empty: it has no header and no rows"]
    query = raw_query(config, None, "items", ["item_id"]).sql(dialect="duckdb")
    assert duckdb.sql(f"SELECT DISTINCT file FROM {query}").fetchall() == [("items/part-2.csv",)]
    (tmp_path / "items" / "part-2.csv").write_text("")
    with pytest.raises(UsageError, match="all other files of items are empty"):
        inspect(tmp_path, "items", config.cache)


@pytest.mark.parametrize("content", [gzip.compress(b"", mtime=0), b"\n"], ids=["packed", "line"])
def test_an_empty_part_of_json_lines_is_a_warning(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "1.jsonl").write_text('{"item_id": "1", "title": "Lamp"}')
    (tmp_path / "items" / "2.jsonl.gz").write_bytes(content)
    found = inspect(tmp_path, "items", tmp_path / "cache")
    assert [file.rows for file in found.files] == [1, 0]
    assert describe(found)[1] == ["items/2.jsonl.gz is empty: it has no header and no rows"]


def test_a_file_that_came_twice_is_a_warning(tmp_path: Path) -> None:
    log = "user_id,item_id,timestamp\nu,1,2024-01-01\n"
    for name in ("orders.csv", "orders (1).csv", "country=DE/part.csv", "country=AT/part.csv"):
        (tmp_path / "data" / "interactions" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "interactions" / name).write_text(log if "order" in name else log.replace("\nu", "\nv"))
    (tmp_path / "data" / "contract.yaml").write_text("interactions: {partitions: country}")
    expected = [
        "interactions/orders.csv has the content of interactions/orders (1).csv, so that each record is there twice:"
        " remove one of them"
    ]
    for _ in range(2):  # read, and taken from the cache
        found = inspect(tmp_path / "data", "interactions", tmp_path / "cache")
        assert describe(found)[1] == [text for file in found.files for text in file.warnings] == expected


def test_an_unchanged_file_is_not_read_again_and_a_changed_one_is(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = read_items(data, FEW)
    stored = sorted((tmp_path / "data-cache" / "raw").iterdir())
    assert read_table(data) == first
    assert sorted((tmp_path / "data-cache" / "raw").iterdir()) == stored
    assert read_items(data, FEW.replace("lamp", "tray")).files[0].key != first.files[0].key


def test_what_nobody_has_used_for_a_month_is_removed(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "data-cache"
    stored = []
    for name in ("lamp", "tray"):
        read_items(data, FEW.replace("lamp", name))
        stored.append(set((cache / "raw").iterdir()).difference(*stored))
    for path in (cache / "raw").iterdir():
        os.utime(path, (0, 0))
    read_table(data)
    remove_unused(cache)
    assert stored[0]
    assert set((cache / "raw").iterdir()) == stored[1]


TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\ufeff", exclude_categories=["Cs"]), max_size=12
) | st.sampled_from(["", '"', "a,b", "#x", "x\ny", "\\", "it's", "ü|;\t", '""', " "])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=12),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    ends=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_records_in_any_dialect_come_back(
    rows: list[tuple[str, str, str]], delimiter: str, ends: str, encoding: str, quoting: int
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=ends, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["item_id", "title", "colour"])
    writer.writerows(rows)
    with TemporaryDirectory() as folder:
        found = read_items(Path(folder) / "data", text.getvalue().encode(encoding))
    assert found.broken == []
    got = [(row.get("item_id"), row.get("title"), row.get("colour")) for row in found.rows]
    assert got == [tuple(value or None for value in row) for row in rows]
    assert len(got) == count_records(text.getvalue(), delimiter=delimiter)


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(
        st.sampled_from(["1,a,b", "2,a", "3,a,b,c", "4", ",,", '5,"a","b"', '6,a"b,c', "#7,a,b", "8,a,b,", "9,,x"]),
        min_size=1,
        max_size=30,
    )
)
def test_every_line_is_a_row_or_a_broken_record(lines: list[str]) -> None:
    with TemporaryDirectory() as folder:
        try:
            found = read_items(Path(folder) / "data", "\n".join(["item_id,title,colour", *lines]))
        except UsageError as error:
            assert "none of its" in str(error)
            assert all(line == "3,a,b,c" for line in lines)
            return
    assert sorted(found.lines + [line for line, _, _ in found.broken]) == list(range(2, len(lines) + 2))
    assert [text for _, _, text in found.broken] == [line for line in lines if line == "3,a,b,c"]


@pytest.mark.parametrize("packed", [False, True])
def test_sound_files_are_read_the_fast_way_whatever_their_names_say(tmp_path: Path, packed: bool) -> None:
    text = b'{"item_id":"1","title":"Lamp"}\n' * 3
    path = tmp_path / ("items.jsonl" if packed else "items.jsonl.gz")
    path.write_bytes(gzip.compress(text) if packed else text)
    with duckdb.connect() as connection:
        objects = _objects_as_they_are(connection, path, scan_text(path))
        assert objects is not None
        assert objects.shape == (3, 2)
        path.write_bytes(gzip.compress(b"a,b\n1,2\n") if packed else b"a,b\n1,2\n")
        lines = _one_line_each(connection, path, scan_text(path), Dialect("utf-8"), ["c0", "c1"], 1, ["a", "b"])
        assert lines is not None
        assert lines.fetchall() == [(2, "1", "2")]
