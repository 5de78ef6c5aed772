"""Events that a shop sends back: their shape, the log that keeps them, and the Parquet files that a plan reads."""
