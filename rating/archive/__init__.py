"""The archive: raw events and every other entry of the source log, kept as Parquet files."""
