"""The tables of the search layer that follow from others, made as the models make them."""

from functools import cache
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa

from vlm4rec_search.common.python_models import nullable_texts
from vlm4rec_search.indexes.search_layer import Frame
from vlm4rec_search.pipeline.rendering import render_model
from vlm4rec_search.profiles.item_terms import item_terms

ROOT = Path(__file__).parents[2]
TYPED = """
    CREATE TABLE documents AS
    SELECT item_id::VARCHAR AS item_id, category::VARCHAR AS category, price::DOUBLE AS price,
        available::BOOLEAN AS available, attributes::JSON AS attributes
    FROM frame
"""


def facets(documents: Frame) -> pa.Table:
    """Return search.item_facets of documents, by the query of the model."""
    query = _facets_query()
    with duckdb.connect() as connection:
        connection.register("frame", unique(documents))
        connection.execute(TYPED)
        return connection.execute(query).to_arrow_table()


@cache
def _facets_query() -> str:
    query = render_model(ROOT, "search.item_facets")
    assert '"search"."item_documents"' in query
    return query.replace('"search"."item_documents"', "documents")


def terms(documents: Frame) -> pd.DataFrame:
    """Return search.item_terms of documents."""
    return item_terms(with_text(unique(documents)))


def with_text(documents: pd.DataFrame) -> pd.DataFrame:
    """Return documents with all their texts in one, in place of embeddings.item_texts."""
    columns = (nullable_texts(documents[name]) for name in ("title", "description", "caption", "details"))
    return documents.assign(text=["\n".join(filter(None, texts)) for texts in zip(*columns, strict=True)])


def scored(popularity: pd.DataFrame) -> pd.DataFrame:
    """Return search.item_popularity of counts: with the score recent + shoppers / (1 + the largest)."""
    counts = popularity["shoppers"]
    return popularity.assign(score=popularity["recent"] + counts / (1 + counts.max()))


def unique(documents: Frame) -> pd.DataFrame:
    """Return the documents as pandas, without rows whose id is missing or repeats that of a row before."""
    if isinstance(documents, pa.Table):
        documents = documents.to_pandas()
    frame = documents if isinstance(documents, pd.DataFrame) else documents.df()
    return frame[frame["item_id"].notna()].drop_duplicates("item_id")
