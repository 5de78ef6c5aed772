"""The HTTP service: a JSON API over an open index that follows its releases."""
