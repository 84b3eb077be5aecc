"""The job as one batch query in Polars, over a whole file of events. `polars_query.py EVENTS OUT`

Says how long it took to read the JSON and, apart, to rate the same columns, which are Arrow by then. Not a stream: it
keeps no state, takes no further event, and what changes costs the whole again.
"""

import os
import sys

os.environ["POLARS_MAX_THREADS"] = "1"

import polars as pl

from benchmarks.rivals.batch import say_memory, timed


def columns(path: str) -> pl.DataFrame:
    """What the job needs of each event, from its JSON."""
    schema = {"source": pl.String, "id": pl.String, "subject": pl.String, "time": pl.String}
    data = pl.Struct({"tokens": pl.Int64, "model": pl.String})
    frame = pl.read_ndjson(path, schema=schema | {"data": data})
    return frame.select("source", "id", "subject", "time", pl.col("data").struct.unnest())


def rate(usage: pl.DataFrame) -> pl.DataFrame:
    """A row for each line."""
    q = pl.col("quantity")
    return (
        usage.lazy()
        .unique(["source", "id"], keep="any")
        .group_by(customer="subject", model="model", hour=pl.col("time").str.head(13))
        .agg(quantity=pl.col("tokens").sum(), events=pl.len())
        .with_columns(
            amount=q.clip(upper_bound=10_000) * 3_000
            + (q.clip(upper_bound=100_000) - 10_000).clip(lower_bound=0) * 2_000
            + (q - 100_000).clip(lower_bound=0) * 1_500
        )
        .collect()
    )


if __name__ == "__main__":
    source, out = sys.argv[1:]
    usage = timed("read", lambda: columns(source))
    timed("rate", lambda: rate(usage)).write_ndjson(out)
    say_memory()
