"""Builders for tests: workspaces, catalogues, servers and their faults."""
