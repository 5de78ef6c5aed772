"""What every room builds on: settings, errors, logging, text analysis, vectors and the cache of model calls."""
