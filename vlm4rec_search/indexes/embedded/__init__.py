"""The embedded index: one DuckDB file a release, searched in memory."""
