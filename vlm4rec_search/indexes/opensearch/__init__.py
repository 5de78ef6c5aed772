"""OpenSearch: connection, loader, and a real server on this machine."""
