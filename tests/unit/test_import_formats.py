"""The packaged formats import small exports as the shop systems and data sets write them."""

import re
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from helpers.delivered import read_table
from helpers.parquet_rows import read_rows

from vlm4rec_search.cli import main
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.declarations import load_declarations
from vlm4rec_search.datasets.importers import formats
from vlm4rec_search.datasets.importers.formats import load_format
from vlm4rec_search.datasets.importers.generic import ImportOptions, import_generic

SHOPIFY = """\
Handle,Title,Body (HTML),Vendor,Type,Tags,Published,Variant SKU,Variant Price,Image Src
brass-lamp,Brass lamp,<p>Warm light</p>,Alder,Lamps,"desk, brass",true,L-1,25.00,https://cdn.example/lamp.jpg
brass-lamp,,,,,,,L-2,27.00,https://cdn.example/lamp-2.jpg
mug,Red mug,,Birch,Mugs,,false,M-1,7.50,
"""
WOOCOMMERCE = """\
ID,Type,SKU,Name,Short description,Description,In stock?,Sale price,Regular price,Categories,Images
7,simple,,Brass lamp,Warm,Warm light,1,,25,"Lamps > Desk, Sale","https://x/a.jpg, https://x/b.jpg"
8,simple,M-1,Red mug,,,0,5,7.5,Mugs,
"""
FEED = """\
id\ttitle\tdescription\tlink\timage_link\tavailability\tprice\tsale_price\tproduct_type
100\tBrass lamp\tWarm light\thttps://x/100\thttps://x/100.jpg\tin_stock\t25.00 USD\t19.00 USD\tHome > Lamps
"""
MAGENTO = """\
sku,store_view_code,product_type,categories,name,description,price,base_image,additional_attributes,is_in_stock
MH01,,simple,"Default Category/Gear,Default Category/Gear/Bags",Brass lamp,Warm,25.0,/m/h/mh01.jpg,color=red,1
MH01,de,,,Messinglampe,,,,,
MH02,,simple,Default Category/Gear,Red mug,,7.5,,,0
"""
PROPERTIES = """\
timestamp,itemid,property,value
1435460400000,1,categoryid,10
1435460400000,1,790,n552.000
1435460500000,1,categoryid,11
1435460400000,2,available,0
"""
BUSINESS = '{"business_id": "b1", "name": "Cafe", "categories": "Coffee, Food", "is_open": 1}\n'
REVIEW = '{"user_id": "u1", "business_id": "b1", "stars": 4.0, "date": "2018-07-07 22:09:11"}\n'
NAMES = sorted(path.stem for path in Path(formats.__file__).with_name("formats").glob("*.yaml"))
EXPORTS: dict[str, dict[str, bytes]] = {
    "shopify": {"products_export_1.csv": SHOPIFY.encode()},
    "woocommerce": {"wc-product-export-1.csv": WOOCOMMERCE.encode("utf-8-sig")},
    "google-merchant": {"feed.txt": FEED.encode(), "feed.csv": FEED.encode()},
    "magento": {"catalog_product_20261128.csv": MAGENTO.encode()},
    "movielens": {
        "movies.dat": "1::Café (1995)::Animation|Comedy\n".encode("latin-1"),
        "ratings.dat": b"1::1::5::978300760\n",
        "users.dat": b"1::F::1::10::48067\n",
    },
    "retailrocket": {
        "events.csv": b"timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,1,\n",
        "item_properties_part1.csv": PROPERTIES.encode(),
        "item_properties_part2.csv": PROPERTIES.replace("500000,1,", "600000,3,").encode(),
    },
    "yelp": {
        "yelp_academic_dataset_business.json": BUSINESS.encode(),
        "yelp_academic_dataset_review.json": REVIEW.encode(),
    },
}
ITEMS: dict[str, list[tuple[str | None, ...]]] = {
    "shopify": [
        ("brass-lamp", "Brass lamp", "Lamps", "25.00", "https://cdn.example/lamp.jpg", "true"),
        ("mug", "Red mug", "Mugs", "7.50", None, "false"),
    ],
    "woocommerce": [
        ("7", "Brass lamp", "Lamps > Desk", "25", "https://x/a.jpg", "1"),
        ("M-1", "Red mug", "Mugs", "5", None, "0"),
    ],
    "google-merchant": [("100", "Brass lamp", "Home > Lamps", "19.00 USD", "https://x/100.jpg", "in_stock")],
    "magento": [
        ("MH01", "Brass lamp", "Default Category/Gear", "25.0", "pub/media/catalog/product/m/h/mh01.jpg", "1"),
        ("MH02", "Red mug", "Default Category/Gear", "7.5", None, "0"),
    ],
    "movielens": [("1", "Café (1995)", "Animation", None, None, None)],
    "retailrocket": [
        ("1", "1", "11", None, None, None),
        ("2", "2", None, None, None, "0"),
        ("3", "3", "11", None, None, None),
    ],
    "yelp": [("b1", "Cafe", "Coffee", None, None, "1")],
}
EVENTS = {
    "movielens": {"user_id": "1", "item_id": "1", "timestamp": "978300760", "event_type": "rating", "value": "5"},
    "retailrocket": {"user_id": "257597", "item_id": "1", "timestamp": "1433221332117", "event_type": "view"},
    "yelp": {
        "user_id": "u1", "item_id": "b1", "timestamp": "2018-07-07 22:09:11", "event_type": "rating", "value": "4.0",
    },
}  # fmt: skip


def write_export(folder: Path, name: str) -> Path:
    folder.mkdir()
    for file, content in EXPORTS[name].items():
        (folder / file).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_an_export_becomes_the_raw_contract(tmp_path: Path, name: str) -> None:
    source, data = write_export(tmp_path / "export", name), tmp_path / "data"
    summary = import_generic(source, data, ImportOptions({}), load_format(name))
    assert summary.warnings == []
    columns = ("item_id", "title", "category", "price", "image", "available")
    rows = read_rows(data / "items.parquet")
    assert [tuple(row.get(column) for column in columns) for row in rows] == ITEMS[name]
    assert len(read_table(data).rows) == len(rows)
    if name in EVENTS:
        (event,) = read_rows(data / "interactions.parquet")
        assert {key: event[key] for key in EVENTS[name]} == EVENTS[name]


@pytest.mark.parametrize(
    ("name", "lists"),
    [
        ("shopify", {"Tags": '["desk","brass"]'}),
        ("woocommerce", {"Categories": '["Lamps > Desk","Sale"]'}),
        ("magento", {"categories": '["Default Category/Gear","Default Category/Gear/Bags"]'}),
        ("movielens", {"genres": '["Animation","Comedy"]'}),
        ("yelp", {"categories": '["Coffee","Food"]'}),
    ],
)
def test_attributes_with_several_values_are_lists(tmp_path: Path, name: str, lists: dict[str, str]) -> None:
    import_generic(write_export(tmp_path / "export", name), tmp_path / "data", ImportOptions({}), load_format(name))
    row = read_rows(tmp_path / "data" / "items.parquet")[0]
    assert {key: row[key] for key in lists} == lists


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        (ImportOptions({}, maps=("items.tags=Tags",)), None),
        (ImportOptions({}, sets=("items.tags={Tags}",)), "desk, brass"),
    ],
)
def test_an_attribute_that_a_person_names_is_split_as_well(
    tmp_path: Path, options: ImportOptions, whole: str | None
) -> None:
    import_generic(write_export(tmp_path / "export", "shopify"), tmp_path / "data", options, load_format("shopify"))
    row = read_rows(tmp_path / "data" / "items.parquet")[0]
    assert (row["tags"], row.get("source_Tags"), row.get("Tags")) == ('["desk","brass"]', whole, None)


def test_movies_are_read_in_the_encoding_of_their_edition(tmp_path: Path) -> None:
    for encoding in ("latin-1", "utf-8"):  # MovieLens 1M, and 10M
        (tmp_path / encoding).mkdir()
        (tmp_path / encoding / "movies.dat").write_bytes("1::Amélie (2001)::Comedy\n".encode(encoding))
        import_generic(tmp_path / encoding, tmp_path / f"{encoding}-data", ImportOptions({}), load_format("movielens"))
        assert [row["title"] for row in read_rows(tmp_path / f"{encoding}-data" / "items.parquet")] == ["Amélie (2001)"]


def test_what_a_shop_does_not_offer_is_unavailable(tmp_path: Path) -> None:
    shopify, woocommerce, magento = (tmp_path / name for name in ("shopify", "woocommerce", "magento"))
    shopify.mkdir()
    rows = ("a,A,true,active", "a,,,", "b,B,true,archived", "c,C,TRUE,Draft", "d,D,false,active", "e,E,true,")
    (shopify / "products_export.csv").write_text("\n".join(["Handle,Title,Published,Status", *rows, ""]))
    woocommerce.mkdir()
    rows = ("a,A,1,1,visible", "b,B,-1,1,", "c,C,0,1,", "d,D,1,0,", "e,E,,1,search", "f,F,1,1,hidden")
    head = "SKU,Name,Published,In stock?,Visibility in catalog"
    (woocommerce / "wc-product-export.csv").write_text("\n".join([head, *rows, ""]))
    magento.mkdir()
    rows = ("a,,A,1,1", "b,,B,1,2", "b,de,Be,,1", "c,,C,0,1", "d,,D,1,")
    (magento / "catalog_product.csv").write_text(
        "\n".join(["sku,store_view_code,name,is_in_stock,product_online", *rows, ""])
    )
    for source, found in (
        (shopify, ["true", "false", "false", "false", "true"]),
        (woocommerce, ["1", "false", "false", "0", "1", "false"]),
        (magento, ["1", "false", "0", "1"]),
    ):
        data = tmp_path / f"{source.name}-data"
        import_generic(source, data, ImportOptions({}), load_format(source.name))
        assert [row["available"] for row in read_rows(data / "items.parquet")] == found
    own = ImportOptions({}, sets=("items.available=true",))
    import_generic(woocommerce, data, own, load_format("woocommerce"))
    assert {row["available"] for row in read_rows(data / "items.parquet")} == {"true"}


def test_variations_of_woocommerce_are_merged_into_their_product(tmp_path: Path) -> None:
    """A shirt with an SKU, and a mug without one whose first variation comes before it."""
    (tmp_path / "wc-product-export.csv").write_text(
        "ID,Type,SKU,Name,Parent,In stock?,Regular price,Categories,Images\n"
        "4,variation,M-red,Mug - red,id:5,1,8,,https://x/red.jpg\n"
        "5,variable,,Mug,,1,,Mugs,\n"
        "7,variable,S,Shirt,,1,,Shirts,https://x/s.jpg\n"
        "8,variation,S-1,Shirt - small,S,1,20,,\n"
        "9,variation,S-2,Shirt - large,S,1,22,,\n"
        "10,simple,,Hat,,1,5,Hats,\n"
    )
    summary = import_generic(tmp_path, tmp_path / "data", ImportOptions({}), load_format("woocommerce"))
    assert summary.left_out == {"items_rows_merged_into_others": 3}
    columns = ("item_id", "title", "price", "category", "image")
    assert [tuple(row[name] for name in columns) for row in read_rows(tmp_path / "data" / "items.parquet")] == [
        ("5", "Mug", "8", "Mugs", "https://x/red.jpg"),
        ("S", "Shirt", "20", "Shirts", "https://x/s.jpg"),
        ("10", "Hat", "5", "Hats", None),
    ]


def test_line_breaks_of_woocommerce_are_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "wc-product-export.csv").write_text(
        "ID,SKU,Name,Short description,Description\n"
        r"1,A,Shirt,short,Soft\ncotton\n\nWash\\new"
        "\n"
        r"2,B,Rug\new,Warm\nwool,"
        "\n"
    )
    import_generic(tmp_path, tmp_path / "data", ImportOptions({}), load_format("woocommerce"))
    rows = read_rows(tmp_path / "data" / "items.parquet")
    assert [(row["title"], row["description"]) for row in rows] == [
        ("Shirt", "Soft\ncotton\n\nWash\\new"),
        (r"Rug\new", "Warm\nwool"),
    ]


def test_only_variations_are_merged_and_only_into_the_product_that_they_name(tmp_path: Path) -> None:
    """An ID is no SKU, a product may be there twice, and the product of a variation may be missing."""
    (tmp_path / "wc-product-export.csv").write_text(
        "ID,Type,SKU,Name,Parent,Regular price\n"
        "9,variable,,Cap,,\n"
        "10,simple,9,Nine,,5\n"
        "11,variation,C-1,Cap - red,id:9,7\n"
        "12,simple,H,Hat,,3\n"
        "13,simple,H,Other hat,,4\n"
        "14,variation,B-1,Belt - long,B,6\n"
        "15,variation,B-2,Belt - short,B,8\n"
    )
    summary = import_generic(tmp_path, tmp_path / "data", ImportOptions({}), load_format("woocommerce"))
    assert summary.left_out == {"items_rows_merged_into_others": 1}
    rows = read_rows(tmp_path / "data" / "items.parquet")
    assert [(row["item_id"], row["title"], row["price"]) for row in rows] == [
        ("9", "Cap", "7"),
        ("9", "Nine", "5"),
        ("H", "Hat", "3"),
        ("H", "Other hat", "4"),
        ("B-1", "Belt - long", "6"),
        ("B-2", "Belt - short", "8"),
    ]
    assert "Parent" not in rows[0]


def test_orders_of_variations_become_events_of_their_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SQL of docs/data.md."""
    (tmp_path / "wc-product-export.csv").write_text(
        "ID,SKU,Name,Parent\n5,,Mug,\n4,M-red,Mug - red,id:5\n7,S,Shirt,\n8,S-1,Shirt - small,S\n10,H,Hat,\n"
    )
    orders = "".join(f"a@b.example,{sku},2026-11-0{day},1\n" for day, sku in enumerate(("M-red", "S-1", "S", "H"), 1))
    (tmp_path / "orders.csv").write_text(f"Email (Billing),SKU,Order Date,Quantity\n{orders}")
    docs = Path(__file__).parents[2] / "docs" / "data.md"
    (query,) = (text for text in re.findall("```sql\n(.*?)```", docs.read_text(), re.DOTALL) if "wc-product" in text)
    monkeypatch.chdir(tmp_path)
    duckdb.execute(query)
    options = ImportOptions({"interactions": "interactions.csv"})
    import_generic(tmp_path, tmp_path / "data", options, load_format("woocommerce"))
    items = {row["item_id"] for row in read_rows(tmp_path / "data" / "items.parquet")}
    events = [row["item_id"] for row in read_rows(tmp_path / "data" / "interactions.parquet")]
    assert (items, sorted(events)) == ({"5", "S", "H"}, ["5", "H", "S", "S"])


def test_no_photo_of_magento_is_no_photo(tmp_path: Path) -> None:
    rows = ("a,A,no_selection", "b,B,/b.jpg", "c,C,")
    (tmp_path / "catalog_product.csv").write_text("\n".join(["sku,name,base_image", *rows, ""]))
    import_generic(tmp_path, tmp_path / "data", ImportOptions({}), load_format("magento"))
    images = [row["image"] for row in read_rows(tmp_path / "data" / "items.parquet")]
    assert images == [None, "pub/media/catalog/product/b.jpg", None]


def test_a_separator_behind_a_backslash_does_not_split_a_list(tmp_path: Path) -> None:
    (tmp_path / "wc-product-export.csv").write_text(
        'SKU,Name,Categories,Images\n1,a,"Shirts\\, Blouses > Long\\, wide, Sale","https://x/a\\,b.jpg, https://x/c.jpg"\n'
    )
    import_generic(tmp_path, tmp_path / "data", ImportOptions({}), load_format("woocommerce"))
    (row,) = read_rows(tmp_path / "data" / "items.parquet")
    assert (row["category"], row["image"]) == ("Shirts, Blouses > Long, wide", "https://x/a,b.jpg")


def test_rows_that_are_merged_are_counted(tmp_path: Path) -> None:
    source = write_export(tmp_path / "export", "shopify")
    summary = import_generic(source, tmp_path / "data", ImportOptions({}), load_format("shopify"))
    assert summary.left_out == {"items_rows_merged_into_others": 1}


def test_rows_of_several_files_are_merged_in_the_order_of_the_files(tmp_path: Path) -> None:
    head = "Handle,Title,Body (HTML),Vendor,Type,Tags,Variant Price,Image Src\n"
    (tmp_path / "products_export_1.csv").write_text(f"{head}b,Mug,,,,,5,\na,Lamp,,,,,9,\n")
    (tmp_path / "products_export_2.csv").write_text(f"{head}a,Later,,,,,7,\n")
    import_generic(tmp_path, tmp_path / "data", ImportOptions({}), load_format("shopify"))
    rows = read_rows(tmp_path / "data" / "items.parquet")
    assert [(row["item_id"], row["title"], row["price"]) for row in rows] == [("b", "Mug", "5"), ("a", "Lamp", "9")]


def test_options_go_before_the_format(tmp_path: Path) -> None:
    source = write_export(tmp_path / "export", "google-merchant")
    options = ImportOptions({"items": "feed.csv"}, ("items.price=price",), ("items.category=all",))
    summary = import_generic(source, tmp_path / "data", options, load_format("google-merchant"))
    assert summary.files == ["feed.csv: csv, delimiter tab, utf-8, 1 rows"]
    (row,) = read_rows(tmp_path / "data" / "items.parquet")
    assert (row["price"], row["category"], row["sale_price"]) == ("25.00 USD", "all", "19.00 USD")


def test_a_folder_without_the_export_is_told(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    with pytest.raises(UsageError, match="holds none of products_export"):
        import_generic(tmp_path / "export", tmp_path / "data", ImportOptions({}), load_format("shopify"))


def test_what_the_source_declares_counts_and_its_values_go_on(tmp_path: Path) -> None:
    source = tmp_path / "export"
    source.mkdir()
    (source / "artikel.csv").write_text("Nr;Name;Preis\n1;Lampe;9,50\n")
    (source / "contract.yaml").write_text(
        "items: {files: artikel.csv, map: {item_id: Nr, title: Name, price: Preis}}\nvalues: {decimal: ','}\n"
    )
    import_generic(source, tmp_path / "data", ImportOptions({}))
    assert read_rows(tmp_path / "data" / "items.parquet") == [{"item_id": "1", "title": "Lampe", "price": "9,50"}]
    assert (tmp_path / "data" / "contract.yaml").read_text() == "values:\n  decimal: ','\n"


def test_what_the_source_declares_leaves_the_other_values_of_a_format(tmp_path: Path) -> None:
    source = tmp_path / "export"
    source.mkdir()
    (source / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,7,4.5,1700000000\n")
    (source / "contract.yaml").write_text('values: {nothing: {value: ["0"]}}\n')
    import_generic(source, tmp_path / "data", ImportOptions({}), load_format("movielens"))
    values = load_declarations(tmp_path / "data").values
    assert (values.rating_scale, values.nothing) == (5, {"value": ("0",)})


def test_a_dry_run_shows_rows_and_refusals_and_writes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "export"
    source.mkdir()
    (source / "items.csv").write_text("sku,Title,Preis\n1,Lamp,9\n2,,5\n3,Mug,5,6\n")
    (source / "log.csv").write_text("user_id,item_id,timestamp\nu,1,2025-03-01\nu,9,2025-03-01\n")
    command = [
        "import",
        "generic",
        str(source),
        "--to",
        str(tmp_path / "data"),
        "--items",
        "items.csv",
        "--interactions",
        "log.csv",
    ]
    done = CliRunner().invoke(main, [*command, "--map", "items.item_id=sku", "--dry-run"])
    assert done.exit_code == 0, done.output
    for line in (
        "  read items.csv: csv, delimiter ,, utf-8, 2 rows",
        "  note: items.csv: the column 'Title' is read as title",
        "  warning: items.csv: the column 'Preis' looks like price and is not used: add --map items.price=Preis",
        "  before, line 2: sku=1 | Title=Lamp | Preis=9",
        "  after, line 2: item_id=1 | title=Lamp | Preis=9",
        "items: 2 rows, and 1 that cannot be read",
        "  would be refused, 1 of 3 rows: no title",
        '    items.csv, line 3: {"item_id":"2","attributes":{"Preis":"5"}}',
        "  would be refused, 1 of 3 rows: cannot be read: 4 values, the header has 3",
        "    items.csv, line 4: 3,Mug,5,6",
        "interactions: 2 rows",
        "  would be refused, 1 of 2 rows: unknown item",
        '    log.csv, line 3: {"user_id":"u","item_id":"9","timestamp":"2025-03-01","attributes":{}}',
    ):
        assert line in done.output.splitlines(), f"{line}\n{done.output}"
    assert not (tmp_path / "data").exists()


def test_a_dry_run_shows_rows_as_staging_has_them_and_looks_for_photos(tmp_path: Path) -> None:
    (tmp_path / "a b.jpg").write_bytes(b"photo")
    items = r"""item_id,title,price,image,brand
1,Caf&eacute; mug,"1.299,00 €",pics\a b.jpg,H&amp;M
2,Lamp,"9,50",a%20b.jpg?v=1,nan
3,Pen,"1,20",//cdn.example/p.jpg,Alder
"""
    (tmp_path / "items.csv").write_text(items.replace(r"\u20ac", "€"))
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu,1,01.03.2025 10:15\nv,2,31.03.2025\n")
    command = ["import", "generic", str(tmp_path), "--to", str(tmp_path / "data"), "--items", "items.csv"]
    done = CliRunner().invoke(main, [*command, "--interactions", "log.csv", "--dry-run"])
    assert done.exit_code == 0, done.output
    for line in (
        f"  warning: 1 of 2 photos that were looked for are not in {tmp_path}, such as pics\\a b.jpg",
        "  before, line 2: item_id=1 | title=Caf&eacute; mug | price=1.299,00 € | image=pics\\a b.jpg | brand=H&amp;M",
        "  after, line 2: item_id=1 | title=Café mug | price=1299.0 | image=pics\\a b.jpg | brand=H&M",
        "  after, line 3: item_id=2 | title=Lamp | price=9.5 | image=a%20b.jpg?v=1 | brand=",
        "  after, line 2: user_id=u | item_id=1 | timestamp=2025-03-01 10:15:00",
    ):
        assert line in done.output.splitlines(), f"{line}\n{done.output}"


def test_a_dry_run_shows_the_values_that_would_be_lost(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "item_id,title,price,available,description\n1,Lamp,ask us,yes,\n2,Mug,5,perhaps,let x = 1\n"
    )
    command = ["import", "generic", str(tmp_path), "--to", str(tmp_path / "data"), "--items", "items.csv", "--dry-run"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "  would lose a value, 1 of 2 rows: price emptied: price is not a number" in done.output.splitlines()
    assert "  would lose a value, 1 of 2 rows: available emptied: available is neither true nor false" in done.output
    assert "  would lose a value, 1 of 2 rows: description emptied: description contains page script" in done.output
    assert '    items.csv, line 2: {"item_id":"1","title":"Lamp","price":"ask us"' in done.output


def test_a_file_option_is_given_once(tmp_path: Path) -> None:
    command = ["import", "generic", str(tmp_path), "--to", str(tmp_path / "data")]
    done = CliRunner().invoke(main, [*command, "--interactions", "a.csv", "--interactions", "b.csv"])
    assert done.exit_code == 2
    assert "give --interactions once" in done.output
    assert "files: [a.csv, b.csv]" in done.output
