"""Odd inputs after public reports of people who did this job: what is right stands beside each."""

import gzip
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pytest
from helpers.macro_sql import macros
from helpers.staged import Staged, stage

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.text_forms import MARKERS, WORDS

LOG = "user_id,item_id,timestamp\nu,1,2024-01-01\n"
CATALOGUE = "item_id,title\n1,Lamp\n2,Mug\n"
Stage = Callable[..., Staged]


@pytest.fixture
def staged(tmp_path: Path) -> Stage:
    numbers = count()

    def read(items: str | bytes = CATALOGUE, log: str = LOG, **files: str | bytes) -> Staged:
        delivered = {"items.csv": items, "interactions.csv": log, **files}
        return stage(tmp_path / str(next(numbers)), {name: text for name, text in delivered.items() if text})

    return read


def column(name: str, values: list[str]) -> str:
    return f"item_id;title;{name}\n" + "".join(f"{number};Lamp;{value}\n" for number, value in enumerate(values))


def log_of(times: list[str]) -> str:
    return "user_id;item_id;timestamp\n" + "".join(f"{number};1;{time}\n" for number, time in enumerate(times))


def of_items(found: Staged, name: str) -> list[Any]:
    return [item[name] for item in found.items.values()]


@pytest.mark.parametrize(
    ("content", "titles"),
    [
        ("sep=;\r\nitem_id;title\r\n1;Lamp, red\r\n2;Mug\r\n", ["Lamp, red", "Mug"]),
        ("item_id,title\r1,Lamp\r2,Mug\r", ["Lamp", "Mug"]),
        ("item_id\ttitle\r\n1\tTür grün\r\n".encode("utf-16-le"), ["Tür grün"]),
        ("item_id\ttitle\r\n1\tTür grün\r\n".encode("utf-32"), ["Tür grün"]),
        ('item_id,title\r\n1,"Lamp\r\nred"\r\n2,Mug\r\n', ["Lamp red", "Mug"]),
        ("item_id,title\n1,Lamp,\n2,Mug,\n", ["Lamp", "Mug"]),
        ("item_id,title,\n1,Lamp,\n2,Mug,\n", ["Lamp", "Mug"]),
        ('item_id,title,price\n1,22" monitor,9\n2,"Mug",8\n', ['22" monitor', "Mug"]),
        ('\ufeff"ITEM_ID","TITLE"\r\n"1","Lamp"\r\n', ["Lamp"]),
        ("item_id,title\n1,\u200f\u0645\u0635 \U0001f600\n2,***\n3,?\n", ["\u200f\u0645\u0635 \U0001f600", "***", "?"]),
    ],
)
def test_ways_to_write_a_catalogue(staged: Stage, content: str | bytes, titles: list[str]) -> None:
    assert of_items(staged(content), "title") == titles


def test_spaces_and_signs_for_spreadsheets_hide_no_format(staged: Stage) -> None:
    """A log with a space behind each comma, and ids as shops write them for spreadsheets."""
    found = staged(log='user_id, item_id, timestamp\nu, 1.0, 31/03/2024\nu,="2.0", 01/03/2024\n')
    assert found.refused == []
    assert [(item, time) for _, item, _, _, time in found.events] == [
        ("1", "2024-03-31 00:00:00"),
        ("2", "2024-03-01 00:00:00"),
    ]
    prices = "item_id;title;price\n 1.0;Lamp; 1,299\n 2.0;Mug; 24,90\n"
    assert of_items(staged(prices), "price") == [1.299, 24.9]


PACKED = gzip.compress(CATALOGUE.encode(), mtime=0)
LINE = b'{"item_id":"1","title":"Lamp"}\n{"item_id":"2","title":"Mug"}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("items.csv", PACKED),
        ("items.csv.gz", CATALOGUE.encode()),
        (
            "items.csv.gz",
            gzip.compress(CATALOGUE[:20].encode(), mtime=0) + gzip.compress(CATALOGUE[20:].encode(), mtime=0),
        ),
        ("items.jsonl", gzip.compress(LINE, mtime=0)),
        ("items.jsonl.gz", LINE),
        ("ITEMS.CSV.GZ", PACKED),
    ],
)
def test_packed_files_are_read_whatever_their_names_say(staged: Stage, name: str, content: bytes) -> None:
    assert of_items(staged("", **{name: content}), "title") == ["Lamp", "Mug"]


def test_a_key_twice_is_told(staged: Stage) -> None:
    lines = '{"item_id":"1","title":"Lamp","title":"Mug"}\n{"item_id":"2","title":"Pen","title":"Hat"}\n'
    found = staged("", **{"items.jsonl": lines})
    assert of_items(found, "title") == ["Lamp", "Pen"]
    assert "objects have the key 'title' twice; the first counts" in found.told


def test_attributes_have_one_value_for_a_key_and_no_infinite_ones(staged: Stage, tmp_path: Path) -> None:
    lines = [
        '{"item_id":"1","title":"Lamp","brand":"Alder","brand":"Birch","more":{"a":NaN,"text":"x, NaN"}}',
        '{"item_id":"2","title":"Mug","size":-Infinity,"sizes":[NaN,1.5,"NaN \\" inf"]}',
    ]
    numbers = "['nan'::DOUBLE, 1.5, '-inf'::DOUBLE] AS sizes, 'inf'::DOUBLE AS size, 0.1::FLOAT AS width"
    files = {
        "items/a.jsonl": "\n".join(lines),
        "items/b.parquet": parquet(tmp_path, f"SELECT 3 AS item_id, 'Pen' AS title, {numbers}"),
    }
    found = staged("", "user_id,item_id,timestamp\n", **files)
    assert [json.loads(text) for text in of_items(found, "attributes")] == [
        {"brand": "Alder", "more": {"a": None, "text": "x, NaN"}},
        {"size": None, "sizes": [None, 1.5, 'NaN " inf']},
        {"sizes": [None, 1.5, None], "size": None, "width": 0.1},
    ]
    assert of_items(found, "attributes")[0].count('"brand"') == 1
    assert "objects have the key 'brand' twice; the first counts" in found.told


def test_entities_in_lists_are_decoded_in_their_elements(staged: Stage) -> None:
    lists = [["12&quot; wide", "a"], ["a&quot;,&quot;b"], ["a&#34;,&#x22;b", "&bsol;n &amp;quot;"], ["a\uff02,\uff02b"]]
    decoded = [['12" wide', "a"], ['a","b'], ['a","b', "\\n &quot;"], ['a","b']]
    lines = [
        json.dumps({"item_id": n, "title": "Lamp", "kinds": kinds}, ensure_ascii=False) for n, kinds in enumerate(lists)
    ]
    found = staged("", LOG, **{"items.jsonl": "\n".join(lines)})
    assert [json.loads(text)["kinds"] for text in of_items(found, "attributes")] == decoded
    text = staged('item_id\ttitle\tkinds\n1\tLamp\t["12&quot; wide","a"]\n')
    assert json.loads(json.loads(of_items(text, "attributes")[0])["kinds"]) == decoded[0]


def test_rows_of_totals_and_remarks_are_refused(staged: Stage) -> None:
    found = staged("item_id,title,price\n1,Lamp,9.50\nTotal,,9.50\n-- 1 rows exported\n")
    assert found.refused == [("items", 3, "no title"), ("items", 4, "no title")]


ARRAY = json.dumps([{"item_id": "1", "title": "Lamp"}], indent=1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.csv.gz", gzip.compress(PACKED, mtime=0), "is compressed twice"),
        ("items.csv.gz", gzip.compress(b"PK\3\4", mtime=0), "is an Excel workbook or a zip archive"),
        ("items.jsonl", "{}\n", "has no column item_id, title; it has none"),
        ("items.jsonl", ARRAY, "is one JSON array; write one object per line: jq"),
        ("items.jsonl", '[\n{"item_id":"1","title":"Lamp"},\n{"item_id":"2","title":"Mug"}\n]\n', "is one JSON array"),
        ("items.csv", "Export of shop 12;;\nitem_id;title;price\n1;Lamp;9\n", "it has Export of shop 12"),
        ("items.csv", "Artikelnr;Bezeichnung\n1;Lamp\n", "map: {item_id: Artikelnr, title: Bezeichnung}"),
    ],
)
def test_files_of_another_kind_are_told(staged: Stage, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(UsageError) as error:
        staged("", **{name: content})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["price_eur", "Price incl. VAT", "Verkaufspreis", "Bild-URL", "Lagerbestand", "Hauptkategorie"]
)
def test_a_column_whose_name_holds_a_known_word_is_told(staged: Stage, name: str) -> None:
    assert f"the column '{name}' looks like" in staged(f"item_id,title,{name}\n1,Lamp,9\n").told


def test_prices(staged: Stage) -> None:
    meant = {
        "24.90": 24.9, "1,23,456.78": 123456.78, "1'234.50": 1234.5, "CHF 1\u2019234.50": 1234.5, "US $9": 9.0,
        "$9.99 USD": 9.99, "A$5.00": 5.0, '="12.50"': 12.5, "0": 0.0, "(12.50)": None, "$9.99 - $19.99": None,
        "UVP 19.99": None, "Call for price": None, "9.99/pc": None,
    }  # fmt: skip
    found = staged(column("price", list(meant)))
    assert of_items(found, "price") == list(meant.values())
    assert len(found.emptied) == sum(price is None for price in meant.values())
    assert of_items(staged(column("price", ["1.234"])), "price") == [None]
    german = ["€ 1.299,-", "1 299,00 kr", "1\u00a0299,50 kr", "9,99 €*", "ab 9,99 €"]
    assert of_items(staged(column("price", german)), "price") == [1299, 1299, 1299.5, 9.99, 9.99]


def test_each_file_has_its_own_signs(staged: Stage) -> None:
    files = {
        "items/de.csv": "item_id;title;price\n1;Lamp;1.299\n2;Lamp;9,50\n",
        "items/us.csv": 'item_id,title,price\n3,Lamp,"1,299"\n4,Lamp,9.50\n',
        "interactions/de.csv": "user_id;item_id;timestamp\nu;1;01.02.2024\nu;1;31.01.2024\n",
        "interactions/us.csv": "user_id,item_id,timestamp\nu,1,02/01/2024\nu,1,01/31/2024\n",
    }
    found = staged("", "", **files)
    assert of_items(found, "price") == [1299, 9.5, 1299, 9.5]
    assert [event[4][:10] for event in found.events] == ["2024-02-01", "2024-01-31"] * 2


def parquet(tmp_path: Path, query: str) -> bytes:
    duckdb.sql(query).write_parquet(str(tmp_path / "one.parquet"))
    return (tmp_path / "one.parquet").read_bytes()


def test_a_typed_number_has_one_meaning_beside_german_texts(staged: Stage, tmp_path: Path) -> None:
    typed = "1.299::{0} AS price, 2.125::{0} AS weight, 24.900::{0} AS depth"
    files = {
        "items/a.csv": "item_id;title;price\n1;Lamp;24,90\n2;Lamp;1.299\n",
        "items/b.parquet": parquet(tmp_path, f"SELECT 3 AS item_id, 'Lamp' AS title, {typed.format('DOUBLE')}"),
        "items/c.parquet": parquet(tmp_path, f"SELECT 4 AS item_id, 'Lamp' AS title, {typed.format('DECIMAL(10,3)')}"),
        "items/d.jsonl": '{"item_id": 5, "title": "Lamp", "price": 1.299, "weight": 2.125, "depth": 24.900}\n',
    }
    found = staged("", **files)
    assert of_items(found, "price") == [24.9, 1299, 1.299, 1.299, 1.299]
    attributes = [json.loads(text) for text in of_items(found, "attributes")]
    assert attributes[2:] == [{"weight": 2.125, "depth": 24.9}] * 3
    assert "2.1250" not in str(of_items(found, "attributes"))


def test_availability(staged: Stage) -> None:
    yes, no = ["instock", "1", "Ja", "Verfügbar", "YES", "12"], ["Out of Stock", "sold_out", "0.0", "ausverkauft", "-5"]
    odd = ["5 Stück", ">10", "X"]
    found = staged(column("available", [*yes, *no, *odd]))
    assert of_items(found, "available") == [True] * len(yes) + [False] * len(no) + [True] * len(odd)
    assert len(found.emptied) == len(odd)


def test_times(staged: Stage) -> None:
    moment = "2026-02-01 10:00:00"
    same = ["1769940000", "1769940000000", "1769940000000000", "1769940000000000000", '="2026-02-01 10:00"']
    assert [event[4] for event in staged(log=log_of(same)).events] == [moment] * len(same)
    assert [event[4] for event in staged(log=log_of(["45000.5", "45001"])).events] == [
        "2023-03-15 12:00:00",
        "2023-03-16 00:00:00",
    ]
    dotted = staged(log=log_of(["01.02.2026", "13.02.2026", "2026-13-01", "2024-01-31 24:00"]))
    assert [event[4][:10] for event in dotted.events] == ["2026-02-01", "2026-02-13", "2024-02-01"]
    assert dotted.refused == [("interactions", 4, "time cannot be parsed")]


def test_times_that_stand_for_none_are_refused(staged: Stage) -> None:
    found = staged(log=log_of(["0001-01-01T00:00:00", "1900-01-01", "1899-12-30", "0000-00-00 00:00:00", "9999-12-31"]))
    assert not found.events
    early = "time is before 1901, which programs write for no time"
    assert [reason for *_, reason in found.refused] == [early] * 3 + ["time cannot be parsed", "time is in the future"]


def test_words_for_nothing(staged: Stage) -> None:
    found = staged(
        "item_id,title,category,price,brand\n1,Lamp,n.a.,N.A.,undefined\n2,Mug,[null],#NV,[null]\n3,NULL,,,\n"
    )
    assert of_items(found, "category") == of_items(found, "price") == [None, None]
    assert not found.emptied
    assert [json.loads(brand) for brand in of_items(found, "attributes")] == [{"brand": None}] * 2
    assert ("items", 4, "no title") in found.refused
    named = staged("item_id,title,brand\n1,NULL,NULL\n", **{"contract.yaml": "values: {nothing: {all: []}}"})
    assert of_items(named, "title") == ["NULL"]
    assert json.loads(of_items(named, "attributes")[0]) == {"brand": "NULL"}


def test_of_several_columns_one_with_a_word_for_nothing_is_skipped(staged: Stage) -> None:
    contract = "items: {map: {title: [Titel, Kurz], price: [sale_price, price]}}"
    found = staged(
        "item_id,Titel,Kurz,sale_price,price\n1,\\N,Lamp,NULL,12\n2,Table,x,,13\n3,nan,,1,2\n",
        **{"contract.yaml": contract},
    )
    assert of_items(found, "title") == ["Lamp", "Table"]
    assert of_items(found, "price") == [12, 13]
    assert ("items", 4, "no title") in found.refused
    assert set(MARKERS) == set(macros("cleaning").MARKERS)
    assert set(WORDS) == set(macros("cleaning").WORDS)


def test_a_number_can_stand_for_nothing(staged: Stage) -> None:
    log = "user_id,item_id,timestamp,event_type,value\n" + "".join(
        f"u{rating},1,2024-01-01,rating,{rating}\n" for rating in (0, 1, 9)
    )
    declared = 'values: {nothing: {price: ["0"], value: ["0"]}}'
    found = staged("item_id,title,price\n1,Lamp,0\n2,Mug,5\n", log, **{"contract.yaml": declared})
    assert of_items(found, "price") == [None, 5]
    assert [event[2] for event in found.events] == ["neutral", "dislike", "rating"]
    assert [event[2] for event in staged("item_id,title\n1,Lamp\n", log).events] == ["dislike", "dislike", "rating"]


def test_ids_of_spreadsheets(staged: Stage) -> None:
    written = staged('item_id,title\n="00123",Lamp\n', "user_id,item_id,timestamp\nu,00123,2024-01-01\n")
    assert written.events[0][1] == "00123"
    cut = staged(
        "item_id,title\n4.00638E+12,Lamp\n4.00638E+12,Mug\n1,Cup\n",
        "user_id,item_id,timestamp\nu,4.00638E+12,2024-01-01\n",
    )
    reason = "the id is a rounded number such as 1.23E+12: a spreadsheet has cut its digits"
    assert [why for *_, why in cut.refused] == [reason] * 3


@pytest.mark.parametrize("kind", ["DECIMAL(38,10)", "DECIMAL(38,0)", "DOUBLE"])
def test_whole_ids_of_any_typed_number_meet_those_of_a_log(staged: Stage, tmp_path: Path, kind: str) -> None:
    items = parquet(tmp_path, f"SELECT UNNEST([4711, 90]::{kind}[]) AS item_id, 'Lamp' AS title")
    found = staged("", "user_id,item_id,timestamp\nu,4711,2024-01-01\nu,90,2024-01-01\n", **{"items.parquet": items})
    assert sorted(found.items) == ["4711", "90"]
    assert [event[1] for event in found.events] == ["4711", "90"]


def test_ids_of_a_column_of_decimals_are_whole_numbers(staged: Stage) -> None:
    long = "12345678901234567"
    catalogue = f"item_id,title\n4711.0000000000,Lamp\n{long}.0000000000,Mug\n"
    found = staged(catalogue, f"user_id,item_id,timestamp\nu,4711,2024-01-01\nu,{long},2024-01-01\n")
    assert [event[1] for event in found.events] == ["4711", long]
    kept = staged("item_id,title\n4711.00,Lamp\n4711.10,Mug\n")
    assert list(kept.items) == ["4711.00", "4711.10"]


def test_events(staged: Stage) -> None:
    head = "user_id,item_id,timestamp,event_type,value\n"
    sold = staged(log=head + 'u,1,2024-01-01,purchase,2\nu,1,2024-01-02,purchase,-2\nu,1,2024-01-02,Purchase,"(2)"\n')
    assert [event[2:4] for event in sold.events] == [("purchase", 2), ("return", 2)]
    assert sold.refused == [("interactions", 4, "value is not a number")]
    rated = staged(log=head + "u,1,2024-01-01,rating,95\nu,2,2024-01-02,rating,20\nu,1,2024-01-02,rating,★★★\n")
    assert [event[2] for event in rated.events] == ["rating", "dislike"]
    assert rated.refused == [("interactions", 4, "value is not a number")]
    spelt = staged(
        log="user_id,item_id,timestamp,event_type\nu,1,2024-01-01, Add To Cart \nu,1,2024-01-01,ORDER-COMPLETED\n"
    )
    assert [event[2] for event in spelt.events] == ["cart", "purchase"]
