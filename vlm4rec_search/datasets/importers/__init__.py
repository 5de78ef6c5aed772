"""Public data sets and own exports, turned into the raw data contract."""
