"""Captioner that measures pixels and needs no model."""
