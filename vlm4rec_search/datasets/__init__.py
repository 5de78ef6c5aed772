"""Turns other people's files into the raw data contract."""
