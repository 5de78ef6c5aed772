"""Captions of item photos: made ahead by `vlm4rec captions run`, judged, corrected by hand, laid out as a table."""
