"""Encoders of texts and photos, and the tables of their vectors."""
