"""Imports Amazon Reviews 2023 (McAuley Lab): `meta_<category>.jsonl` and `<category>.jsonl`, plain, .gz or .zst.

Format: https://amazon-reviews-2023.github.io (fields of reviews and of item metadata). Variants of a product share its
`parent_asin`, which both files have; it becomes the item id.
"""

from collections import defaultdict
from contextlib import closing
from functools import partial
from pathlib import Path

import duckdb

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.files import COMPRESSIONS, only, open_lines
from vlm4rec_search.datasets.importers.write import ImportSummary, Table, check_folders, connect, count, write_tables

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
"""Keys of the 2018 edition, whose products the paper's data set names."""

_REVIEW = dict.fromkeys(
    ("user_id", "parent_asin", "asin", "timestamp", "rating", "verified_purchase", "helpful_vote"), _TEXT
)


def _joined(column: str) -> str:
    """SQL: the elements of a JSON list as one text; a JSON string as it is."""
    return f"COALESCE(ARRAY_TO_STRING(TRY_CAST({column} AS VARCHAR[]), ' '), {column} ->> '$')"


_PRICE = "TRY_CAST(REPLACE(LTRIM(TRIM(price), '$'), ',', '') AS DOUBLE)"
# NaN, which some programs write for no price, would be a price that costs the item its place.
_NUMBER = f"CASE WHEN ISFINITE({_PRICE}) THEN {_PRICE} END"
# As a function, since `->` in an argument would begin a lambda.
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
# Staging reads epoch milliseconds of 13 digits only, and reviews of before September 2001 have 12; what has fewer are
# no milliseconds of a review, and staging reads it as it stands.


def import_amazon(source: Path, to: Path, category: str | None = None) -> ImportSummary:
    """Write the metadata and the reviews of one category into `to`; either file alone will do.

    The category is the last name of the path `categories`; an attribute keeps the whole path. A price that is no number
    ("from 9.99") stays in the attribute `source_price`. A rating becomes the value, a verified purchase the event type
    `purchase`, any other review `review`. The image is an address; nothing is downloaded. Left behind: the texts and
    photos of reviews, videos, `bought_together`, and all photos of an item but its main one.

    Args:
        source: folder with the files, which may lie in folders below it.
        to: data folder; made when absent. Tables of an earlier import are replaced.
        category: such as `All_Beauty`; may be None when the folder holds only one.

    Raises:
        UsageError: no such files or more than one category, a file cannot be read, or `to` holds a table in another
            format.
    """
    check_folders(source, to, set())
    meta, reviews = _find(source, category)
    check_folders(source, to, {name for name, path in (("items", meta), ("interactions", reviews)) if path})
    with closing(connect()) as connection:
        tables = {}
        if meta:
            tables["items"] = Table(metadata(connection, meta), meta)
        if reviews:
            tables["interactions"] = Table(_reviews(connection, reviews), reviews)
        finish = partial(_left_out, connection, set(tables))
        return write_tables(connection, tables, source, to, images=True, finish=finish)


def metadata(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    """Return an item metadata file of the 2023 or the 2018 edition as items of the raw contract.

    Raises:
        UsageError: the file cannot be read, or is no such file.
    """
    return open_lines(connection, path, {**_META, **_META_2018}, ("parent_asin", "asin")).project(_ITEMS)


def _reviews(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    return open_lines(connection, path, _REVIEW, ("user_id",)).project(_INTERACTIONS)


def _find(source: Path, category: str | None) -> tuple[Path | None, Path | None]:
    """Return the files of the metadata and of the reviews."""
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
    return only(files.get(f"meta_{name}", [])), only(files.get(name, []))


def _left_out(connection: duckdb.DuckDBPyConnection, tables: set[str], folder: Path) -> dict[str, int]:
    items, interactions = folder / "items.parquet", folder / "interactions.parquet"
    counts = {}
    if "items" in tables:
        nothing = "COALESCE(item_id, title, main_category, categories, details) IS NULL"
        counts["broken_item_lines"] = count(connection, items, nothing)
        counts["item_lines_without_id"] = count(connection, items, "item_id IS NULL")
        counts["prices_that_are_no_number"] = count(connection, items, "source_price IS NOT NULL")
    if "interactions" in tables:
        nothing = "COALESCE(user_id, item_id, timestamp, value, asin) IS NULL"
        counts["broken_interaction_lines"] = count(connection, interactions, nothing)
        missing = "user_id IS NULL OR item_id IS NULL"
        counts["interaction_lines_without_id"] = count(connection, interactions, missing)
    return counts
