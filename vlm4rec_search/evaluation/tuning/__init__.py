"""Tuning: the candidates of every retriever once, then many rankings over them, on rolling windows of the history."""
