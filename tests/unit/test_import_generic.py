"""A shop's own exports are imported into the raw contract."""

import gzip
import json
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from helpers.delivered import read_table
from helpers.parquet_rows import read_rows
from helpers.staged import stage

from vlm4rec_search.cli import main
from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.declarations import Declarations, load_declarations
from vlm4rec_search.datasets.importers.generic import ImportOptions, import_generic
from vlm4rec_search.datasets.importers.write import ImportSummary, connect
from vlm4rec_search.datasets.photos.locate import resolve_path
from vlm4rec_search.datasets.several import open_files

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LINES = (
    {"id": "007", "title": "Hat", "categories": ["Men/Hats", "Sale"], "price": "52", "tags": {"fit": "slim"}},
    {"id": "8", "title": 'A "good" mug', "categories": [], "price": 4.5, "image": "pics/mug.jpg"},
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "exports"
    (folder / "pics").mkdir(parents=True)
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    with gzip.open(folder / "log.csv.gz", "wt") as file:
        file.write("customer,item_id,timestamp,quantity\nc1,007,2024-01-01 10:00:00,3\nc2,8,not a time,\n")
    return folder


def import_files(source: Path, items: str | None = "items.jsonl", log: str | None = None, *maps: str) -> ImportSummary:
    files = {table: file for table, file in (("items", items), ("interactions", log)) if file}
    return import_generic(source, source.parent / "data", ImportOptions(files, maps))


def test_jsonl_items_keep_ids_lists_and_unmapped_columns(source: Path) -> None:
    summary = import_files(source, "items.jsonl", None, "items.item_id=id", "items.category=categories")
    first, second = read_rows(source.parent / "data" / "items.parquet")
    assert (summary.items, summary.interactions) == (2, None)
    assert list(first) == ["item_id", "title", "category", "price", "image", "categories", "tags"]
    assert (first["item_id"], first["category"], first["price"]) == ("007", "Men/Hats", "52")
    assert json.loads(str(first["categories"])) == ["Men/Hats", "Sale"]
    assert json.loads(str(first["tags"])) == {"fit": "slim"}
    assert (second["title"], second["category"], second["price"]) == ('A "good" mug', None, "4.5")


def test_a_csv_log_is_mapped_and_bad_rows_reach_staging_unchanged(source: Path) -> None:
    summary = import_files(source, None, "log.csv.gz", "interactions.user_id=customer", "interactions.value=quantity")
    assert (summary.items, summary.interactions) == (None, 2)
    assert read_rows(source.parent / "data" / "interactions.parquet") == [
        {"user_id": "c1", "item_id": "007", "timestamp": "2024-01-01 10:00:00", "value": "3"},
        {"user_id": "c2", "item_id": "8", "timestamp": "not a time", "value": None},
    ]


def test_parquet_keeps_types_and_lists(source: Path) -> None:
    duckdb.sql("SELECT 7 AS item_id, 'x' AS title, 1.5 AS price, ['a', 'b'] AS kinds, {'k': 1} AS more").write_parquet(
        str(source / "p.parquet")
    )
    import_files(source, "p.parquet", None, "items.category=kinds")
    (row,) = read_rows(source.parent / "data" / "items.parquet")
    assert (row["item_id"], row["category"], row["kinds"], row["more"]) == ("7", "a", '["a","b"]', '{"k":1}')
    assert float(str(row["price"])) == 1.5


def test_a_typed_price_keeps_its_one_meaning(source: Path) -> None:
    values = "1.299 AS price, 1.299 AS weight"
    duckdb.sql(f"SELECT 7 AS item_id, 'x' AS title, {values}").write_parquet(str(source / "p.parquet"))
    import_files(source, "p.parquet")
    (row,) = read_rows(source.parent / "data" / "items.parquet")
    assert (row["price"], row["weight"]) == ("1.2990", "1.299")


def test_a_column_whose_name_is_taken_gets_another_name(source: Path) -> None:
    (source / "two.csv").write_text('item_id,Title,source_Title,"odd ""name"""\n1,upper,y,x\n')
    import_files(source, "two.csv", None, "items.title=item_id")
    assert read_rows(source.parent / "data" / "items.parquet") == [
        {"item_id": "1", "title": "1", "source_source_Title": "upper", "source_Title": "y", 'odd "name"': "x"}
    ]


def test_columns_called_line_and_file_keep_their_values(source: Path) -> None:
    (source / "two.csv").write_text("item_id,title,line,file\n1,Lamp,Summer,a.pdf\n")
    import_files(source, "two.csv")
    (row,) = read_rows(source.parent / "data" / "items.parquet")
    assert (row["line"], row["file"]) == ("Summer", "a.pdf")


def test_the_first_element_of_an_attribute_is_written_beside_the_whole(source: Path) -> None:
    (source / "tags.csv").write_text("item_id,title,tags\n1,Lamp,a|b\n")
    (source / "contract.yaml").write_text('items: {first: {tags: "|"}}')
    import_files(source, "tags.csv")
    assert read_rows(source.parent / "data" / "items.parquet") == [
        {"item_id": "1", "title": "Lamp", "tags": "a", "source_tags": "a|b"}
    ]


def test_options_name_further_columns_as_a_contract_does(source: Path) -> None:
    (source / "books.csv").write_text("item_id,title,Book-Author,author\n1,Beloved,Morrison,x\n")
    options = ImportOptions({"items": "books.csv"}, ("items.author=Book-Author",), ("items.Sold by=us",))
    import_generic(source, source.parent / "data", options)
    assert read_rows(source.parent / "data" / "items.parquet") == [
        {"item_id": "1", "title": "Beloved", "author": "Morrison", "Sold by": "us", "source_author": "x"}
    ]


def test_a_contract_that_is_there_already_counts_and_says_where_it_differs(source: Path) -> None:
    data = source.parent / "data"
    maps = ("items.item_id=id", "items.category=categories")
    (source / "contract.yaml").write_text('values: {time_zones: {EST: "-05:00"}, rating_scale: 10, decimal: "."}\n')
    assert import_files(source, "items.jsonl", None, *maps).warnings == []
    assert load_declarations(data) == load_declarations(source), "a plan reads what an import has written"
    written = (data / "contract.yaml").read_text()
    assert import_files(source, "items.jsonl", None, *maps).warnings == []
    (source / "contract.yaml").write_text('values: {rating_scale: 5, decimal: "."}\n')
    expected = (
        f"{data / 'contract.yaml'} is there already and counts: under values it declares `{{time_zones: {{EST:"
        " '-05:00'}, rating_scale: 10.0}`, this import `{rating_scale: 5.0}`: edit the file, or remove it and import"
        " again"
    )
    assert import_files(source, "items.jsonl", None, *maps).warnings == [expected]
    command = ["import", "generic", str(source), "--to", str(data), *(f"--map={pair}" for pair in maps), "--dry-run"]
    assert f"warning: {expected}" in CliRunner().invoke(main, command).output.splitlines()
    (source / "contract.yaml").unlink()
    (warning,) = import_files(source, "items.jsonl", None, *maps).warnings
    assert "`{decimal: ., time_zones: {EST: '-05:00'}, rating_scale: 10.0}`, this import nothing of it" in warning
    assert (data / "contract.yaml").read_text() == written


def test_a_contract_that_declares_an_imported_table_is_told(source: Path) -> None:
    data = source.parent / "data"
    data.mkdir()
    (data / "katalog.csv").write_text("SKU,title\n1,Lamp\n")
    (data / "contract.yaml").write_text("items: {files: katalog.csv, map: {item_id: SKU}}\nusers: {delimiter: ;}\n")
    command = ["import", "generic", str(source), "--to", str(data), "--items=items.jsonl", "--map=items.item_id=id"]
    for option in ([], ["--dry-run"]):
        refused = CliRunner().invoke(main, [*command, *option])
        assert (refused.exit_code, f"{data / 'katalog.csv'} is there already" in refused.stderr) == (2, True)
    (data / "contract.yaml").write_text("items: {map: {item_id: SKU}}\nusers: {delimiter: ;}\n")
    told = (
        f"warning: {data / 'contract.yaml'} is there already and counts for this data, too: remove what it declares"
        " under items, unless it was written for this data"
    )
    for option in (["--dry-run"], []):
        assert told in CliRunner().invoke(main, [*command, *option]).output.splitlines()


def test_a_dry_run_reads_values_as_the_plan_after_the_import_will(source: Path) -> None:
    (source / "log.csv").write_text("user_id,item_id,timestamp,event_type,value\nu,007,2024-01-01,rating,5\n")
    (source.parent / "data").mkdir()
    (source.parent / "data" / "contract.yaml").write_text("values: {rating_scale: 10}\n")
    command = ["import", "generic", str(source), "--to", str(source.parent / "data"), "--interactions", "log.csv"]
    after = [line for line in CliRunner().invoke(main, [*command, "--dry-run"]).output.splitlines() if "after" in line]
    assert after == [
        "  after, line 2: user_id=u | item_id=007 | timestamp=2024-01-01 00:00:00 | event_type=neutral | value=1.0"
    ]


def test_kinds_of_events_without_a_weight_and_ratings_of_0_are_told(source: Path) -> None:
    kinds = ["Zoom In", "zoom_in", "ansehen", "view", "NULL", "-", "", *["rating"] * 4]
    values = [""] * 7 + ["0.0", "NULL", "7", "8"]
    rows = [f"u,007,2024-01-01,{kind},{value}" for kind, value in zip(kinds, values, strict=True)]
    (source / "log.csv").write_text("\n".join(["user_id,item_id,timestamp,event_type,value", *rows]) + "\n")
    command = ["import", "generic", str(source), "--to", str(source.parent / "data"), "--interactions", "log.csv"]
    told = [
        "warning: events of kinds without a weight count as `default`: zoom_in (2), ansehen (1); say which known kinds"
        f" they are, such as `values: {{events: {{zoom_in: view}}}}` in {source}/contract.yaml, or add them to"
        " models/profiles/event_weights.csv",
        "warning: the rating is 0 in 1 of 3 rows, which is a dislike; if 0 means that nobody rated, declare `values:"
        f' {{nothing: {{value: ["0.0", "NULL"]}}}}` in {source}/contract.yaml, which makes them neutral; purchases of 0'
        " pieces then count once",
    ]
    for options in ([], ["--dry-run"]):
        lines = CliRunner().invoke(main, [*command, *options]).output.splitlines()
        assert [line.strip() for line in lines if "warning" in line] == told
    declared = 'values: {events: {Zoom in: view, ansehen: click}, nothing: {value: ["0.0", "NULL"]}}\n'
    (source / "contract.yaml").write_text(declared)
    assert "warning" not in CliRunner().invoke(main, command).output
    # That import has written a contract.yaml beside the data, which counts from now on.
    (source / "log.csv").write_text("user_id,item_id,timestamp,event_type\nu,007,2024-01-01,gaze\n")
    assert f" in {source.parent / 'data' / 'contract.yaml'}, or add" in CliRunner().invoke(main, command).output


@pytest.mark.parametrize("log", ["rating,0\nrating,1\n", "rating,0\n" + "rating,9\n" * 10, "purchase,0\npurchase,7\n"])
def test_thumbs_few_zeros_and_pieces_are_no_missing_ratings(source: Path, log: str) -> None:
    rows = "".join(f"u,007,2024-01-01,{line}\n" for line in log.splitlines())
    (source / "log.csv").write_text("user_id,item_id,timestamp,event_type,value\n" + rows)
    assert import_files(source, None, "log.csv").warnings == []


def test_stars_are_advised_as_ratings(source: Path) -> None:
    (source / "log.csv").write_text("user,item_id,stars\nu,007,1\n")
    advised = ["interactions.user_id=user", "interactions.timestamp=...", "interactions.value=stars"]
    with pytest.raises(UsageError) as caught:
        import_files(source, None, "log.csv")
    assert str(caught.value).endswith(
        ": add "
        + " ".join(f"--map {each}" for each in advised)
        + " --set interactions.event_type=rating; for a log without times, which says nothing about recency, add"
        " --set interactions.timestamp=2020-01-01"
    )
    (source / "log.csv").write_text("user_id,item_id,timestamp,Book-Rating\nu,007,2024-01-01,1\n")
    (warning,) = import_files(source, None, "log.csv").warnings
    assert "--map interactions.value=Book-Rating --set interactions.event_type=rating" in warning
    (source / "log.csv").write_text("user_id,item_id,timestamp,rating\nu,007,2024-01-01,1\n")
    (warning,) = import_files(source, None, "log.csv").warnings
    assert warning.endswith("add --map interactions.value=rating --set interactions.event_type=rating")
    (warning,) = import_files(source, None, "log.csv", "interactions.value=rating").warnings
    assert warning == (
        "log.csv: the column 'rating' is read as value, and each row counts as a purchase: if it is a rating, add --set"
        " interactions.event_type=rating"
    )
    (source / "log.csv").write_text("user_id,item_id,timestamp,rating,event\nu,007,2024-01-01,1,view\n")
    assert not any("--set" in warning for warning in import_files(source, None, "log.csv").warnings)


def test_photos_are_copied_only_from_inside_the_source(source: Path) -> None:
    (source / "pics" / "mug.jpg").write_bytes(b"photo")
    (source.parent / "secret.jpg").write_bytes(b"secret")
    (source / "link.jpg").symlink_to(source.parent / "secret.jpg")
    names = [
        "pics/mug.jpg",
        "gone.jpg",
        "../secret.jpg",
        str(source.parent / "secret.jpg"),
        "link.jpg",
        "list.csv",
        "http://x/y.jpg",
    ]
    (source / "list.csv").write_text(
        "\n".join(["item_id,title,image", *(f"{row},t,{name}" for row, name in enumerate(names)), ""])
    )
    photos = import_files(source, "list.csv").photos
    assert (photos.copied, photos.not_found, photos.refused, photos.remote) == (1, 1, 4, 1)
    data = source.parent / "data"
    assert sorted(str(path.relative_to(data)) for path in data.rglob("*.*")) == ["items.parquet", "pics/mug.jpg"]
    assert (data / "pics" / "mug.jpg").read_bytes() == b"photo"
    assert import_files(source, "list.csv").photos == photos


def test_photos_are_copied_however_their_paths_are_written(source: Path) -> None:
    (source / "pics" / "red mug.jpg").write_bytes(b"photo")
    (source / "list.csv").write_text(
        "item_id,title,image\n1,t,pics\\red mug.jpg\n2,t,pics/red%20mug.jpg?v=1\n3,t,//cdn.example/a.jpg\n"
    )
    photos = import_files(source, "list.csv").photos
    assert (photos.copied, photos.not_found, photos.refused, photos.remote) == (2, 0, 0, 1)
    data = source.parent / "data"
    assert [path.relative_to(data).as_posix() for path in data.rglob("*.jpg")] == ["pics/red mug.jpg"]
    for name in ("pics\\red mug.jpg", "pics/red%20mug.jpg?v=1"):
        assert resolve_path(data.resolve(), name).read_bytes() == b"photo"


def test_a_column_can_be_set_to_nothing(source: Path) -> None:
    options = ImportOptions({"items": "items.jsonl"}, ("items.item_id=id",), ("items.image=",))
    assert import_generic(source, source.parent / "data", options).photos.not_found == 0
    rows = read_rows(source.parent / "data" / "items.parquet")
    assert {row["image"] for row in rows} == {""}
    assert not any("source_image" in row for row in rows), "the words of the paths would be attributes"


def test_no_images_copies_no_photos(source: Path) -> None:
    (source / "pics" / "mug.jpg").write_bytes(b"photo")
    summary = import_generic(
        source, source.parent / "data", ImportOptions({"items": "items.jsonl"}, ("items.item_id=id",)), images=False
    )
    assert summary.photos.copied == 0
    assert not (source.parent / "data" / "pics").exists()


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (["item_id=id"], "does not have the form"),
        (["items.item_id"], "does not have the form"),
        (["items.item_id="], "does not have the form"),
        (["items.=id"], "does not have the form"),
        (["items.titel=id"], "the options: map: items has no column titel: did you mean title?"),
        (["shoppers.user_id=id"], "does not have the form"),
        (["items.item_id=id", "items.item_id=title"], "names items.item_id twice"),
        (["items.item_id=sku"], "no column sku; it has id, title, categories, price, tags, image"),
        ([], "no column item_id; it has id, title, categories, price, tags, image: add --map items.item_id=id"),
        (["items.item_id=id", "interactions.value=q"], "--interactions is not given"),
    ],
)
def test_wrong_mappings_are_refused_in_one_line(source: Path, maps: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        import_files(source, "items.jsonl", None, *maps)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (source.parent / "data" / "items.parquet").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "there is no file"),
        ("items.xlsx", b"PK\x03\x04", "is an Excel workbook or a zip archive: save it as csv"),
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"item_id,title\n", "holds no rows"),
        ("bad.parquet", b"PAR1", "cannot be read"),
        ("bad.jsonl", b"{nope\n", "none of its 1 records can be read; the first: line 1: it is not JSON"),
        ("bad.csv.gz", b"\x1f\x8c\x08\0\0\0\0\0", "cannot be read"),
        ("cut.csv.gz", gzip.compress(b"item_id,title\n1,a\n2,b\n", mtime=0)[:-8], "is the download complete"),
    ],
)
def test_unreadable_files_are_refused_in_one_line(source: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (source / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        import_files(source, name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list((source.parent / "data").glob("*")) == []


@pytest.mark.parametrize("pattern", ["items**", ".", "/absolute/*.csv"])
def test_what_is_no_pattern_is_refused_in_one_line(source: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="is no pattern of files in"):
        import_files(source, pattern)


def test_an_empty_file_of_several_has_no_rows_and_is_told(source: Path) -> None:
    (source / "part-1.csv").write_text("")
    (source / "part-2.csv").write_text("item_id,title\n1,a\n")
    summary = import_files(source, "part-*.csv")
    assert summary.items == 1
    assert "part-1.csv is empty: it has no header and no rows" in summary.notes


def test_records_that_cannot_be_read_are_kept_for_staging(source: Path) -> None:
    (source / "ragged.csv").write_bytes(b"item_id,title\r\n1,a\n2,b,c\n3,caf\xe9\n4,\xc3\xa9\n")
    summary = import_files(source, "ragged.csv")
    assert summary.files == ["ragged.csv: csv, delimiter ,, utf-8, 2 rows"]
    assert summary.left_out == {"items_records_that_cannot_be_read": 2}
    assert read_rows(source.parent / "data" / "items.broken.parquet") == [
        {
            "table_name": "items",
            "file": "ragged.csv",
            "line": 3,
            "reason": "3 values, the header has 2",
            "record": "2,b,c",
        },
        {
            "table_name": "items",
            "file": "ragged.csv",
            "line": 4,
            "reason": "it is not utf-8 text",
            "record": "3,caf\\xe9",
        },
    ]
    assert read_table(source.parent / "data").files[0].rows == 2
    command = ["import", "generic", str(source), "--to", str(source.parent / "data"), "--items", "ragged.csv"]
    kept = f"{source.parent / 'data' / 'items.broken.parquet'} with their reasons"
    assert f"items records that cannot be read: 2, kept in {kept}" in CliRunner().invoke(main, command).output
    import_files(source, "items.jsonl", None, "items.item_id=id")
    assert not (source.parent / "data" / "items.broken.parquet").exists()


def test_a_second_table_in_another_format_is_refused(source: Path) -> None:
    (source.parent / "data").mkdir()
    (source.parent / "data" / "items.csv").write_text("item_id,title\n")
    with pytest.raises(UsageError, match="would be ambiguous"):
        import_files(source, "items.jsonl", None, "items.item_id=id")


def test_files_with_the_names_of_the_tables_need_no_option(source: Path) -> None:
    (source / "items.jsonl").unlink()
    with pytest.raises(UsageError, match="has no file named items, interactions or users: give --items"):
        import_files(source, None)
    (source / "Items.csv").write_text("item_id,title\n1,Lamp\n")
    for day in (1, 2):
        (source / "interactions").mkdir(exist_ok=True)
        log = f"user_id,item_id,timestamp\nu,{day},2024-01-0{day}\n"
        (source / "interactions" / f"{day}.csv").write_text(log)
    summary = import_files(source, None)
    assert (summary.items, summary.interactions, summary.users) == (1, 2, None)


def test_a_file_with_the_name_of_a_table_that_is_not_read_is_a_warning(tmp_path: Path) -> None:
    source = tmp_path / "exports"
    source.mkdir()
    (source / "items.csv").write_text("item_id,title\n1,Lamp\n")
    (source / "interactions.xlsx").write_bytes(b"x")
    told = "interactions.xlsx is not read: save it as csv"
    assert import_generic(source, tmp_path / "data", ImportOptions({})).warnings[0].startswith(told)
    arguments = ["import", "generic", str(source), "--to", "x", "--dry-run"]
    assert f"warning: {told}" in CliRunner().invoke(main, arguments).stdout
    (source / "items.csv").unlink()
    with pytest.raises(UsageError, match=rf"no file named items.*; {told}"):
        import_generic(source, tmp_path / "data", ImportOptions({}))


def test_all_declared_patterns_of_a_table_are_imported(source: Path) -> None:
    for day in (1, 2):
        (source / f"day{day}.csv").write_text(f"user_id,item_id,timestamp\nu,{day},2024-01-0{day}\n")
    (source / "contract.yaml").write_text("interactions: {files: [day2.csv, 'day1*.csv']}\n")
    assert import_files(source, None).interactions == 2
    (source / "contract.yaml").write_text("interactions: {files: [day2.csv, day3.csv]}\n")
    with pytest.raises(UsageError, match=r"there is no file .*day3\.csv"):
        import_files(source, None)


def test_the_command_prints_counts(source: Path) -> None:
    arguments = ["import", "generic", str(source), "--to", str(source.parent / "data"), "--items", "items.jsonl"]
    plain = CliRunner().invoke(main, [*arguments, "--map", "items.item_id=id"])
    assert plain.exit_code == 0
    assert "items.parquet: 2 rows" in plain.stdout
    assert "0 copied, 1 not found" in plain.stdout
    assert plain.stdout.endswith(f"Next: VLM4REC_DATA_DIR={source.parent / 'data'} sqlmesh plan\n")
    assert "photos" not in CliRunner().invoke(main, [*arguments, "--map=items.item_id=id", "--no-images"]).stdout
    as_json = CliRunner().invoke(main, [*arguments, "--map", "items.item_id=id", "--json"])
    assert json.loads(as_json.stdout)["photos"] == {"copied": 0, "not_found": 1, "refused": 0, "remote": 0}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
def test_real_exports_are_imported_completely(tmp_path: Path) -> None:
    luma = ImportOptions({"items": "items.jsonl"}, ("items.item_id=id", "items.category=categories"))
    summary = import_generic(SHARED / "magento_luma", tmp_path / "luma", luma)
    assert (summary.items, summary.photos.copied, summary.photos.not_found) == (417, 417, 0)
    files = {"items": "items.csv", "interactions": "interactions.csv.gz"}
    retail = ImportOptions(files, ("interactions.value=quantity",))
    summary = import_generic(SHARED / "online_retail", tmp_path / "retail", retail)
    assert (summary.items, summary.interactions) == (3659, 396337)


SEVERAL = {
    "items/de.csv": 'item_id,title,price\n1,Lampe,"24,90"\n2,Tisch,1.299\n',
    "items/en.csv": "item_id,title,price\n3,Lamp,24.90\n4,Table,1.299\n",
    "interactions/a.csv": "user_id,item_id,timestamp\nu,1,31/03/2024\nu,2,01/03/2024\n",
    "interactions/b.csv": "user_id,item_id,timestamp\nu,3,03/31/2024\nu,4,03/01/2024\n",
    "interactions/c.csv": "user_id,item_id,timestamp\nu,1,2024-07-01T10:00:00\n",
    "interactions/d.csv": "user_id,item_id,timestamp\nu,2,45474\nu,3,45475.5\n",
}


def test_files_of_one_table_keep_their_formats(tmp_path: Path) -> None:
    direct = stage(tmp_path / "exports", SEVERAL)
    import_generic(tmp_path / "exports", tmp_path / "data", ImportOptions({}))
    assert not direct.refused and not direct.emptied
    assert {item: row["price"] for item, row in direct.items.items()} == {"1": 24.9, "2": 1299, "3": 24.9, "4": 1.299}
    imported = stage(tmp_path / "data", {})
    assert (imported.items, imported.events) == (direct.items, direct.events)
    assert (imported.refused, imported.emptied) == ([], [])
    parts = sorted(path.relative_to(tmp_path / "data").as_posix() for path in (tmp_path / "data").rglob("*.parquet"))
    assert parts == [
        "interactions/imported/1-a.csv.parquet", "interactions/imported/2-b.csv.parquet",
        "interactions/imported/3-c.csv.parquet", "interactions/imported/4-d.csv.parquet",
        "items/imported/1-de.csv.parquet", "items/imported/2-en.csv.parquet",
    ]  # fmt: skip


def test_each_file_of_a_table_has_its_own_header(tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    (exports / "items").mkdir(parents=True)
    (exports / "items" / "a.csv").write_text("item_id,title,price,Colour\n1,Lamp,24.90,red\n")
    (exports / "items" / "b.csv").write_text("Item ID;Title;Price;Colour\n2;Mug;9.90;blue\n")
    (exports / "items" / "c.csv").write_text("item_id,Item ID,title\n3,internal,Chair\n")
    (exports / "interactions.csv").write_text("user_id,item_id,timestamp\nu,1,2024-07-01T10:00:00Z\n")
    summary = import_generic(exports, tmp_path / "data", ImportOptions({}))
    assert "items/b.csv: the column 'Item ID' is read as item_id" in summary.notes
    for folder in (exports, tmp_path / "data"):
        found = {item: (row["title"], row["price"]) for item, row in stage(folder, {}).items.items()}
        assert found == {"1": ("Lamp", 24.9), "2": ("Mug", 9.9), "3": ("Chair", None)}
    (exports / "contract.yaml").write_text("items: {map: {item_id: [Item ID]}}\n")
    import_generic(exports, tmp_path / "data", ImportOptions({}))
    assert list(stage(tmp_path / "data", {}).items) == ["1", "2", "internal"]


def test_columns_of_two_files_that_differ_in_letter_case_only_are_one(tmp_path: Path) -> None:
    (tmp_path / "exports" / "items").mkdir(parents=True)
    (tmp_path / "exports" / "items" / "a.csv").write_text("item_id,title,Colour\n1,Lamp,red\n")
    (tmp_path / "exports" / "items" / "b.csv").write_text("item_id,title,size,colour\n2,Mug,S,green\n")
    summary = import_generic(tmp_path / "exports", tmp_path / "data", ImportOptions({}))
    assert not any("colour" in note.lower() for note in summary.notes)
    rows = [row for path in sorted((tmp_path / "data" / "items").rglob("*.parquet")) for row in read_rows(path)]
    assert [(row["Colour"], row["size"]) for row in rows] == [("red", None), ("green", "S")]
    assert {name.casefold() for name in rows[0]} == {"item_id", "title", "colour", "size"}


def test_a_file_of_several_without_a_required_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "exports" / "items").mkdir(parents=True)
    (tmp_path / "exports" / "items" / "a.csv").write_text("item_id,title\n1,Lamp\n")
    (tmp_path / "exports" / "items" / "b.csv").write_text("sku,name,Preis\n2,Mug,9\n")
    with pytest.raises(UsageError, match=r"items/b\.csv has no column item_id, title; .* --map items\.item_id=sku"):
        import_generic(tmp_path / "exports", tmp_path / "data", ImportOptions({}))
    maps = ("items.item_id=sku", "items.title=name")
    with pytest.raises(UsageError, match=r"items/a\.csv has no column sku"):
        import_generic(tmp_path / "exports", tmp_path / "data", ImportOptions({}, maps))
    several = "items: {map: {item_id: [item_id, sku], title: [title, name]}}\n"
    (tmp_path / "exports" / "contract.yaml").write_text(several)
    assert import_generic(tmp_path / "exports", tmp_path / "data", ImportOptions({})).items == 2
    rows = [row for path in sorted((tmp_path / "data" / "items").rglob("*.parquet")) for row in read_rows(path)]
    assert [(row["item_id"], row["title"]) for row in rows] == [("1", "Lamp"), ("2", "Mug")]


def test_files_of_an_earlier_import_do_not_stay(tmp_path: Path) -> None:
    source, data = tmp_path / "exports", tmp_path / "data"
    for name in ("items/a.csv", "items/photos/lamp.jpg", "items/b c.csv", "items/empty.csv"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("" if "empty" in name else f"item_id,title,image\n{name},x,items/photos/lamp.jpg\n")

    def import_pattern(pattern: str) -> list[str]:
        assert import_files(source, pattern).photos.copied == 1
        return sorted(path.relative_to(data).as_posix() for path in data.rglob("*.*"))

    photo = "items/photos/lamp.jpg"
    two = ["items/imported/1-a.csv.parquet", "items/imported/2-b_c.csv.parquet", photo]
    assert import_pattern("items/*.csv") == two
    assert import_pattern("items/[ae]*.csv") == ["items.parquet", photo]  # rows of one file
    assert import_pattern("items/*.csv") == two
    assert [row["item_id"] for row in read_table(data).rows] == ["items/a.csv", "items/b c.csv"]
    (data / "items" / "own.csv").write_text("item_id,title\n1,a\n")
    with pytest.raises(UsageError, match=r"items/own\.csv is there already"):
        import_files(source, "items/*.csv")


def test_photos_in_the_folder_of_imported_files_stay(tmp_path: Path) -> None:
    source = tmp_path / "exports"
    for name in ("items/a.csv", "items/b.csv", "items/imported/1.jpg"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(f"item_id,title,image\n{name},x,items/imported/1.jpg\n")
    for _ in range(2):
        import_files(source, "items/*.csv")
        kept = sorted(path.name for path in (tmp_path / "data" / "items" / "imported").iterdir())
        assert kept == ["1-a.csv.parquet", "1.jpg", "2-b.csv.parquet"]


def test_the_command_names_the_folder_of_several_files(tmp_path: Path) -> None:
    for name, content in SEVERAL.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    arguments = ["import", "generic", str(tmp_path), "--to", str(tmp_path / "data")]
    dry = CliRunner().invoke(main, [*arguments, "--dry-run"]).stdout
    assert f"writes {tmp_path}/data/items, {tmp_path}/data/interactions" in dry
    assert f"{tmp_path}/data/items/imported: 4 rows" in CliRunner().invoke(main, arguments).stdout


@pytest.mark.parametrize("name", ["items.jsonl", "items.csv", "items.parquet"])
def test_a_list_of_categories_is_read_the_same_way_on_all_paths(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    rows = """VALUES ('1', 'Boot', '["Shoes","Men"]'), ('2', 'Cap', '[]'), ('3', 'Mug', '["Kitchen"]')"""
    table = duckdb.sql(
        f"SELECT item_id, title, category::JSON AS category FROM ({rows}) AS t(item_id, title, category)"
    )
    table = table if name != "items.parquet" else table.project("* REPLACE (category::VARCHAR[] AS category)")
    table.query("rows", f"COPY rows TO '{tmp_path / 'a' / name}'" + " (FORMAT json)" * (name == "items.jsonl"))
    direct = stage(tmp_path / "a", {"interactions.csv": "user_id,item_id,timestamp\nu,1,2024-01-01\n"})
    assert f"{name}: 3 categories are lists; the first element counts" in direct.told
    assert [row["category"] for row in direct.items.values()] == ["Shoes", None, "Kitchen"]
    for to, maps in (("b", ()), ("c", ("items.category=category",))):
        summary = import_generic(tmp_path / "a", tmp_path / to, ImportOptions({}, maps))
        assert f"{name}: 3 categories are lists" in summary.notes[0]
        imported = stage(tmp_path / to, {})
        for item, row in imported.items.items():
            assert (row["category"], row["title"]) == (direct.items[item]["category"], direct.items[item]["title"])
            for attributes in (row["attributes"], direct.items[item]["attributes"]):
                kept = json.loads(attributes)["source_category"]
                kept = json.loads(kept) if isinstance(kept, str) else kept
                assert kept == {"1": ["Shoes", "Men"], "2": [], "3": ["Kitchen"]}[item]


def test_keys_that_are_no_names_of_columns_get_one_and_are_told(source: Path) -> None:
    line = {"item_id": "1", "title": "x", "Brand": "A", "brand": "B", "": "5"}
    (source / "odd.jsonl").write_text(json.dumps(line))
    summary = import_files(source, "odd.jsonl")
    (row,) = read_rows(source.parent / "data" / "items.parquet")
    assert row == {"item_id": "1", "title": "x", "Brand": "A", "brand_2": "B", "column4": "5"}
    assert summary.notes == [
        "odd.jsonl: the column 'brand' is written as 'brand_2'",
        "odd.jsonl: the column '' is written as 'column4'",
    ]
    arguments = ["import", "generic", str(source), "--to", "x", "--items", "odd.jsonl", "--dry-run"]
    assert "before, line 1: item_id=1 | title=x | Brand=A | brand_2=B" in CliRunner().invoke(main, arguments).stdout


@pytest.mark.parametrize("files", [1, 2, 7, 64])
def test_rows_of_many_files_keep_the_order_of_the_files(tmp_path: Path, files: int) -> None:
    for number in range(files):
        (tmp_path / f"{number:03}.csv").write_text(f"item_id,title\n{number},Lamp\n")
    paths, declared = sorted(tmp_path.glob("*.csv")), Declarations().items
    with closing(connect()) as connection, open_files(connection, tmp_path, paths, "items", declared) as records:
        assert [row[0] for row in records.relation.project("k0").fetchall()] == [str(n) for n in range(files)]
