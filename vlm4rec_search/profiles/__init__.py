"""What the weights of a history make of a shopper: a vector, interests, and words.

SQL has decided the weights (`profiles.profile_weights`); here is the arithmetic, as products of sparse matrices and of
blocks of shoppers, each shopper's once for as long as history and item vectors stay (`upkeep`).
"""

from vlm4rec_search.profiles.interests import user_interests
from vlm4rec_search.profiles.terms import term_weights
from vlm4rec_search.profiles.vectors import user_vectors

VERSION = 2  # raise it when vectors, interests or words of the same weights change

__all__ = ["VERSION", "term_weights", "user_interests", "user_vectors"]
