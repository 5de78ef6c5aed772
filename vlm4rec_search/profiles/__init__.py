"""Profiles of shoppers from the weights of their histories: a vector, interests, and weighted terms.

SQL decides the weights (`profiles.profile_weights`). This room computes the profiles, as products of sparse matrices
and of blocks of shoppers. A vector or an interest is computed again only when the shopper's history or its item vectors
change (`incremental`).
"""

from vlm4rec_search.profiles.histories import read_item_vectors, read_weights
from vlm4rec_search.profiles.interests import user_interests
from vlm4rec_search.profiles.terms import term_weights
from vlm4rec_search.profiles.vectors import user_vectors

VERSION = 12  # raise it when the same histories give other vectors, interests, terms, pace or search tables

__all__ = ["VERSION", "read_item_vectors", "read_weights", "term_weights", "user_interests", "user_vectors"]
