"""The engine alone on one core: packs in, encoded line items out. `python -m benchmarks.engine [--events N]`

Beside it, in the same run and over the same events, what a user would write as one batch query: Polars on one thread,
duplicates dropped, usage summed by customer, model and kind, one unit price each (no tiers, no periods, no output).
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import polars as pl
import pyarrow as pa

from benchmarks.workload import compiled, events, packs
from rating.engine import RatingEngine, RatingProcessor
from schemas.entry import CATALOGUE, Entry, encode_entry
from schemas.faults import encode_document

SIZES = (16, 64, 256)
"""Packs of 1,000 events in a step: what a host takes when it is idle, busy, and behind."""


def main() -> None:
    """Runs the benchmark and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    catalogue = compiled()
    log = list(packs(events(options.events), catalogue))
    print(f"{options.events:,} events, {sum(len(e.value) for e in log) / options.events:.0f} bytes each packed")
    first = Entry(0, 1, encode_entry(CATALOGUE, encode_document(catalogue.documents)))
    if options.profile:
        _profile(first, log)
        return
    batch = statistics.median(_batch_query(log) for _ in range(3))
    print(f"{'one Polars batch query, one thread':<46}{options.events / batch:>12,.0f} events/s")
    for size in SIZES:
        _measure(first, log, size, options.events / batch)


def _measure(first: Entry, log: list[Entry], size: int, query: float) -> None:
    engine = RatingProcessor().open(0, None)
    assert isinstance(engine, RatingEngine)
    engine.process([first])
    rates, lines = [], 0
    for start in range(0, len(log), size):
        part = log[start : start + size]
        began = time.process_time()
        step = engine.process(part)
        rates.append(sum(e.end - e.offset for e in part) / (time.process_time() - began))
        lines += step.summary.line_items
    settled = statistics.median(rates[len(rates) // 2 :])
    total = sum(e.end - e.offset for e in log)
    print(
        f"engine, {size:>3} packs a step, second half (median)    {settled:>12,.0f} events/s"
        f"  {settled / query:.2f} of the query, {lines / total:.2f} line items an event,"
        f" {engine.state.nbytes / 1e6:.0f} MB for {engine.state.lines.size:,} lines and {total:,} identities"
    )


def _batch_query(log: list[Entry]) -> float:
    began = time.process_time()
    columns = ["identity", "customer", "type", "$.tokens", "$.model", "$.kind", "$.seconds", "$.gpu"]
    batches = [pa.ipc.open_stream(entry.payload).read_next_batch().select(columns) for entry in log]
    table = pa.concat_tables([pa.Table.from_batches([b]) for b in batches], promote_options="permissive")
    frame = pl.DataFrame(table).unique("identity", keep="first", maintain_order=True)
    usage = frame.group_by("customer", "type", "$.model", "$.kind", "$.gpu").agg(
        pl.len(), pl.col("$.tokens").sum(), pl.col("$.seconds").sum()
    )
    usage.with_columns(amount=pl.col("$.tokens").cast(pl.Float64) * 0.000015)
    return time.process_time() - began


def _profile(first: Entry, log: list[Entry]) -> None:
    import cProfile
    import pstats

    engine = RatingProcessor().open(0, None)
    engine.process([first])
    half = len(log) // 2
    for start in range(0, half, 64):
        engine.process(log[start : start + 64])
    profile = cProfile.Profile()
    profile.enable()
    for start in range(half, len(log), 64):
        engine.process(log[start : start + 64])
    profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(35)


if __name__ == "__main__":
    main()
