"""Profiles and interests as whole frames; the package yields them in blocks of shoppers."""

from pathlib import Path

import pandas as pd

from vlm4rec_search.profiles import user_interests, user_vectors


def all_vectors(weights: pd.DataFrame, items: pd.DataFrame, cache: Path | None = None) -> pd.DataFrame:
    """Return the profile vectors of all users."""
    return pd.concat(user_vectors(weights, items, cache), ignore_index=True)


def all_interests(weights: pd.DataFrame, items: pd.DataFrame, limit: int, cache: Path | None = None) -> pd.DataFrame:
    """Return the interests of all users."""
    return pd.concat(user_interests(weights, items, limit, cache), ignore_index=True)
