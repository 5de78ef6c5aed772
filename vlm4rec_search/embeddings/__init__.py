"""Encoders of texts and photos, and the rows of the embedding tables."""
