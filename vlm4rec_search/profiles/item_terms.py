"""The weighted words of each item: those of a shopper whose history is this item alone."""

import pandas as pd

from vlm4rec_search.common.analyzer import ENGLISH, Analyzer
from vlm4rec_search.profiles.terms import term_weights

PER_ITEM = 32  # terms


def item_terms(texts: pd.DataFrame, analyzer: Analyzer = ENGLISH) -> pd.DataFrame:
    """Return the words that distinguish each item from the catalogue, at most `PER_ITEM` of each.

    All weigh 1; the rank says which are rarest (see `term_weights`).

    Args:
        texts: item_id (unique), text.
        analyzer: of the catalogue's language.

    Returns:
        item_id, term (analyzed), word (its most frequent spelling), weight (1), rank (from 1 for the rarest), analyzer
        (its id), by item_id and rank; equally rare terms are ordered by term.
    """
    alone = pd.DataFrame({"user_id": texts["item_id"], "item_id": texts["item_id"], "weight": 1.0})
    terms = term_weights(alone, texts, PER_ITEM, analyzer).rename(columns={"user_id": "item_id"})
    return terms.assign(analyzer=analyzer.id)
