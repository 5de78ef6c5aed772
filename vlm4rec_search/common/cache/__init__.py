"""Results of model calls, each paid for once."""
