"""The weighted words of each item: those of a shopper whose history is this item alone."""

import pandas as pd

from vlm4rec_search.common.analyzer import ENGLISH, Analyzer
from vlm4rec_search.profiles.terms import term_weights

PER_ITEM = 32


def item_terms(documents: pd.DataFrame, per_item: int = PER_ITEM, analyzer: Analyzer = ENGLISH) -> pd.DataFrame:
    """Return the words that distinguish each item from the catalogue.

    The weight of a term is its inverse document frequency, divided by the largest of the item (see `term_weights`).

    Args:
        documents: item_id (unique), title, description, caption, details (text or missing).
        per_item: most terms of an item.
        analyzer: of the catalogue's language.

    Returns:
        item_id, term (analyzed), word (its most frequent spelling), weight (1 for the item's first term), rank
        (from 1), analyzer (its id), by item_id and rank; terms of equal weight are ordered by term.
    """
    alone = pd.DataFrame({"user_id": documents["item_id"], "item_id": documents["item_id"], "weight": 1.0})
    terms = term_weights(alone, documents, per_item, analyzer).rename(columns={"user_id": "item_id"})
    return terms.assign(analyzer=analyzer.id)
