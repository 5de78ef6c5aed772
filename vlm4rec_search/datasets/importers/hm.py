"""Imports H&M Personalized Fashion Recommendations: articles.csv, transactions_train.csv, images/.

Format: https://www.kaggle.com/competitions/h-and-m-personalized-fashion-recommendations/data. An article id has ten
digits, of which the first is 0; the photo of 0108775015 is images/010/0108775015.jpg. Some articles have none.
"""

from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

import duckdb

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.datasets.files import find_file, open_csv
from vlm4rec_search.datasets.importers.write import ImportSummary, Table, check_folders, connect, count, write_tables

_ARTICLES = ("article_id", "prod_name", "detail_desc", "product_type_name")
_TRANSACTIONS = ("t_dat", "customer_id", "article_id")

# Copies that passed through a program that takes the ids for numbers have lost the zero.
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


def import_hm(source: Path, to: Path, images: bool = True) -> ImportSummary:
    """Write articles and transactions into `to`, and bring the photos; either table alone will do.

    Every column is kept: what the contract does not know (colour_group_name, index_name ...; price and sales_channel_id
    of a transaction) as an attribute. Articles have no price of their own, and the price of a transaction is scaled, so
    items have none. Transactions have a day, not a time. Left behind: customers.csv.

    Args:
        source: folder with articles.csv, transactions_train.csv (plain, .gz or .zst) and images/.
        to: data folder; made when absent. Tables of an earlier import are replaced.
        images: whether to bring the photos.

    Raises:
        UsageError: neither table is there, one cannot be read or lacks a column, or `to` holds it in another format.
    """
    check_folders(source, to, set())
    files = {"items": find_file(source, "articles.csv"), "interactions": find_file(source, "transactions_train.csv")}
    there = {table: path for table, path in files.items() if path}
    if not there:
        raise UsageError(f"{source} holds neither articles.csv nor transactions_train.csv, plain, .gz or .zst")
    check_folders(source, to, set(there))
    wanted = {"items": (_ARTICLES, _ITEMS), "interactions": (_TRANSACTIONS, _INTERACTIONS)}
    with closing(connect()) as connection:
        tables = {
            table: Table(open_csv(connection, path, wanted[table][0]).project(wanted[table][1]), path)
            for table, path in there.items()
        }
        return write_tables(connection, tables, source, to, images, finish=partial(_left_out, connection, tables))


def _left_out(connection: duckdb.DuckDBPyConnection, tables: Iterable[str], folder: Path) -> dict[str, int]:
    return {
        f"{table}_without_article_id": count(connection, folder / f"{table}.parquet", "item_id IS NULL")
        for table in tables
    }
