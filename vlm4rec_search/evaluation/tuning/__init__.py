"""Tuning: the candidates of every leg once, then thousands of rankings over them, on a validation split."""
