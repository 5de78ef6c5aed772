"""Imports Amazon Reviews 2023 (McAuley Lab): `meta_<category>.jsonl` and `<category>.jsonl`, plain, .gz or .zst.

Format: https://amazon-reviews-2023.github.io (fields of reviews and of item metadata). The item id is `parent_asin`,
which the variants of a product share and which both files have.
"""

from collections import defaultdict
from contextlib import closing
from pathlib import Path

import duckdb

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.files import COMPRESSIONS, only_file, open_json_lines
from vlm4rec_search.datasets.importers.write import ImportSummary, Table, check_folders, connect, write_tables

_TEXT, _LIST = "VARCHAR", "JSON"
_META = {
    **dict.fromkeys(("parent_asin", "title", "price", "main_category", "store", "average_rating"), _TEXT),
    **dict.fromkeys(("rating_number", "subtitle", "author"), _TEXT),
    **dict.fromkeys(("features", "description", "images", "categories", "details"), _LIST),
}
_META_2018 = {
    **dict.fromkeys(("asin", "main_cat", "brand"), _TEXT),
    **dict.fromkeys(("feature", "category", "imageURL", "imageURLHighRes"), _LIST),
}
"""Keys of the 2018 edition. The paper's data set takes its products from that edition."""

_REVIEW = dict.fromkeys(
    ("user_id", "parent_asin", "asin", "timestamp", "rating", "verified_purchase", "helpful_vote"), _TEXT
)


def _joined(column: str) -> str:
    """Return SQL for the elements of a JSON list as one text; a JSON string stays as it is."""
    return f"COALESCE(ARRAY_TO_STRING(TRY_CAST({column} AS VARCHAR[]), ' '), {column} ->> '$')"


_PRICE = "TRY_CAST(REPLACE(LTRIM(TRIM(price), '$'), ',', '') AS DOUBLE)"
# Some programs write NaN for a missing price. Staging would refuse the item for it.
_NUMBER = f"CASE WHEN ISFINITE({_PRICE}) THEN {_PRICE} END"
# JSON_EXTRACT in place of `->`, which would begin a lambda inside an argument.
_PHOTOS = "JSON_EXTRACT(images, '$[*]')"
_PHOTO = f"COALESCE(LIST_FILTER({_PHOTOS}, lambda photo: photo ->> 'variant' = 'MAIN')[1], {_PHOTOS}[1])"
_ITEMS = f"""
  COALESCE(parent_asin, asin) AS item_id,
  title,
  NULLIF(TRIM(CONCAT_WS(' ', {_joined("COALESCE(features, feature)")}, {_joined("description")})), '') AS description,
  COALESCE(categories ->> '$[#-1]', category ->> '$[#-1]', main_category, main_cat) AS category,
  {_NUMBER} AS price,
  COALESCE({_PHOTO} ->> 'large', {_PHOTO} ->> 'hi_res', imageURLHighRes ->> '$[0]', imageURL ->> '$[0]') AS image,
  CASE WHEN ({_NUMBER}) IS NULL THEN NULLIF(TRIM(price), '') END AS source_price,
  COALESCE(main_category, main_cat) AS main_category,
  CAST(COALESCE(categories, category) AS VARCHAR) AS categories,
  COALESCE(store, brand) AS store, average_rating, rating_number, subtitle, author,
  CAST(details AS VARCHAR) AS details
"""
# Staging reads epoch milliseconds only if they have 13 digits, and those before September 2001 have 12. A number with
# fewer digits is not in milliseconds and goes to staging unchanged.
_INTERACTIONS = """
  user_id, parent_asin AS item_id,
  CASE
    WHEN REGEXP_FULL_MATCH(timestamp, '\\d{12,13}')
      THEN CAST(MAKE_TIMESTAMP(CAST(timestamp AS BIGINT) * 1000) AS VARCHAR)
    ELSE timestamp
  END AS timestamp,
  CASE verified_purchase WHEN 'true' THEN 'purchase' ELSE 'review' END AS event_type,
  rating AS value, asin, helpful_vote
"""
_INCOMPLETE_ITEMS = {
    "broken_item_lines": "COALESCE(item_id, title, main_category, categories, details) IS NULL",
    "item_lines_without_id": "item_id IS NULL",
    "prices_that_are_no_number": "source_price IS NOT NULL",
}
_INCOMPLETE_INTERACTIONS = {
    "broken_interaction_lines": "COALESCE(user_id, item_id, timestamp, value, asin) IS NULL",
    "interaction_lines_without_id": "user_id IS NULL OR item_id IS NULL",
}


def import_amazon(source: Path, to: Path, category: str | None = None) -> ImportSummary:
    """Write the metadata and the reviews of one category into `to`. One of the two files is enough.

    - items: the category is the last name of the path `categories`; the attribute `categories` is the whole path. A
      price that is no number ("from 9.99") becomes the attribute `source_price`. The image is the address of the main
      photo; nothing is downloaded.
    - interactions: the value is the rating; the event type is `purchase` for a verified purchase, else `review`.

    Texts and photos of reviews, videos, `bought_together` and further photos of an item are not imported.

    Args:
        source: folder with the files; subfolders are searched.
        to: data folder; created if it does not exist. Tables of an earlier import are replaced.
        category: such as `All_Beauty`; may be None if the folder holds only one.

    Raises:
        UsageError: there are no such files or more than one category, a file cannot be read, or `to` holds a table in
            another format.
    """
    check_folders(source, to, set())
    meta, reviews = _find_files(source, category)
    check_folders(source, to, {name for name, path in (("items", meta), ("interactions", reviews)) if path})
    with closing(connect()) as connection:
        tables = {}
        if meta:
            tables["items"] = Table(read_metadata(connection, meta), meta, _INCOMPLETE_ITEMS)
        if reviews:
            relation = open_json_lines(connection, reviews, _REVIEW, ("user_id",)).project(_INTERACTIONS)
            tables["interactions"] = Table(relation, reviews, _INCOMPLETE_INTERACTIONS)
        return write_tables(connection, tables, source, to, images=True)


def read_metadata(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    """Return an item metadata file of the 2023 or the 2018 edition as items of the raw contract.

    Raises:
        UsageError: the file cannot be read, or is of another kind.
    """
    return open_json_lines(connection, path, {**_META, **_META_2018}, ("parent_asin", "asin")).project(_ITEMS)


def _find_files(source: Path, category: str | None) -> tuple[Path | None, Path | None]:
    """Return the file of the metadata and the file of the reviews, None where there is none."""
    files: dict[str, list[Path]] = defaultdict(list)
    for end in COMPRESSIONS:
        for path in sorted(path for path in source.rglob(f"*.jsonl{end}") if path.is_file()):
            files[path.name.removesuffix(f".jsonl{end}")].append(path)
    categories = sorted({name.removeprefix("meta_") for name in files})
    if not categories:
        raise UsageError(f"{source} holds no meta_CATEGORY.jsonl or CATEGORY.jsonl, plain, .gz or .zst")
    if category is None and len(categories) > 1:
        raise UsageError(f"{source} holds more than one category; give --category, one of {', '.join(categories)}")
    name = category or categories[0]
    if name not in categories:
        raise UsageError(f"{source} holds no category {name}; it has {', '.join(categories)}")
    return only_file(files.get(f"meta_{name}", [])), only_file(files.get(name, []))
