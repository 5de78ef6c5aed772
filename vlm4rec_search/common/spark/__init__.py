"""Apache Spark as the engine of the tables: values that DuckDB computes in its workers, and the connection."""
