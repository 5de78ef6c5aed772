"""Captions of product photos: captioners, prompts, captioning runs, validation, manual edits, and the caption table."""
