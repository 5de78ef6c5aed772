"""Imports H&M Personalized Fashion Recommendations: articles.csv, transactions_train.csv, images/.

Format: https://www.kaggle.com/competitions/h-and-m-personalized-fashion-recommendations/data. An article id has ten
digits and begins with 0; the photo of 0108775015 is images/010/0108775015.jpg. Some articles have no photo.
"""

from contextlib import closing
from pathlib import Path

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.files import COMPRESSIONS, find_file, open_csv
from vlm4rec_search.datasets.importers.write import ImportSummary, Table, check_folders, connect, write_tables

_ARTICLES = ("article_id", "prod_name", "detail_desc", "product_type_name")
_TRANSACTIONS = ("t_dat", "customer_id", "article_id")

# A program that reads the ids as numbers drops the leading zero; this puts it back.
_ID = "CASE WHEN REGEXP_FULL_MATCH(article_id, '\\d{1,9}') THEN LPAD(article_id, 10, '0') ELSE article_id END"
_ITEMS = f"""
  {_ID} AS item_id, prod_name AS title, detail_desc AS description, product_type_name AS category,
  'images/' || LEFT({_ID}, 3) || '/' || {_ID} || '.jpg' AS image,
  * EXCLUDE ({", ".join(_ARTICLES)})
"""
_INTERACTIONS = f"""
  customer_id AS user_id, {_ID} AS item_id, t_dat AS timestamp, 'purchase' AS event_type,
  * EXCLUDE ({", ".join(_TRANSACTIONS)})
"""
_SOURCES = {
    "items": ("articles.csv", _ARTICLES, _ITEMS),
    "interactions": ("transactions_train.csv", _TRANSACTIONS, _INTERACTIONS),
}
"""File, required columns and projection (SQL) of each table."""


def import_hm(source: Path, to: Path, images: bool = True) -> ImportSummary:
    """Write articles and transactions into `to`, and copy the photos. One of the two tables is enough.

    Columns that the raw contract does not know (colour_group_name, index_name ...; price and sales_channel_id of a
    transaction) become attributes. Items have no price, because articles have none and the price of a transaction is
    scaled. Transactions have a day, not a time. customers.csv is not imported.

    Args:
        source: folder with articles.csv, transactions_train.csv (plain, .gz or .zst) and images/.
        to: data folder; created if it does not exist. Tables of an earlier import are replaced.
        images: whether to copy the photos.

    Raises:
        UsageError: neither table is there, a table cannot be read or lacks a column, or `to` holds it in another
            format.
    """
    check_folders(source, to, set())
    found = {table: find_file(source, name, COMPRESSIONS) for table, (name, _, _) in _SOURCES.items()}
    files = {table: path for table, path in found.items() if path}
    if not files:
        raise UsageError(f"{source} holds neither articles.csv nor transactions_train.csv, plain, .gz or .zst")
    check_folders(source, to, set(files))
    with closing(connect()) as connection:
        tables = {}
        for table, path in files.items():
            _, columns, projection = _SOURCES[table]
            relation = open_csv(connection, path, columns).project(projection)
            tables[table] = Table(relation, path, {f"{table}_without_article_id": "item_id IS NULL"})
        return write_tables(connection, tables, source, to, images)
