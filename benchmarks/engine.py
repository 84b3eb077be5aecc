"""The engine alone on one core: packs in, line items out. `python -m benchmarks.engine [--events N] [--workload NAME]`

Two numbers: `engine` is everything up to the changed lines as columns, `engine + emit` has them encoded as JSON, too.
Beside it, in the same run and over the same events, what a user would write as one batch query: Polars on one thread,
duplicates dropped, usage summed by customer, model and kind, one unit price each (no tiers, no periods, no output).
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import polars as pl
import pyarrow as pa

import rating.engine
import rating.stages
from benchmarks.workload import WORKLOADS, compiled, packs
from rating.billing import Biller
from rating.deduplicate import Deduplicator
from rating.engine import RatingEngine, RatingProcessor
from schemas.entry import CATALOGUE, Entry, encode_entry
from schemas.faults import encode_document
from taximeter.process import spare_the_collector

SIZES = (16, 64, 256)
"""Packs of 1,000 events in a step: what a host takes when it is idle, busy, and behind."""
STAGES: dict[str, tuple[Any, str]] = {
    "decode": (rating.engine, "Batch"),
    "deduplicate": (Deduplicator, "check"),
    "meter": (rating.engine, "meter_batch"),
    "open bills": (Biller, "open"),
    "fold": (rating.stages, "fold_columns"),
    "replay": (rating.stages.Replay, "run"),
    "emit": (rating.engine, "encode_line_items"),
}
"""The functions that are timed. `replay` works event by event, where the order of single events shows."""


class _Stopwatch:
    """CPU seconds spent in each stage, from outside: the engine knows nothing of it."""

    def __init__(self) -> None:
        self.taken = dict.fromkeys(STAGES, 0.0)
        for name, (owner, attribute) in STAGES.items():
            setattr(owner, attribute, self._timed(name, getattr(owner, attribute)))

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.taken[name] += time.process_time() - began

        return timed


class _Step(NamedTuple):
    """CPU seconds of one step: all of it, and by stage."""

    events: int
    total: float
    stages: dict[str, float]

    @property
    def silent(self) -> float:
        """Without the encoding of what it says."""
        return self.total - self.stages["emit"]


def main() -> None:
    """Runs the benchmark and prints its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--workload", choices=WORKLOADS, default="default")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    spare_the_collector()  # as every process that hosts the engine does
    catalogue = compiled(options.workload)
    log = list(packs(WORKLOADS[options.workload](options.events), catalogue))
    size = sum(len(e.value) for e in log) / options.events
    print(f"{options.events:,} events ({options.workload}), {size:.0f} bytes each packed")
    first = Entry(0, 1, encode_entry(CATALOGUE, encode_document(catalogue.documents)))
    if options.profile:
        _profile(first, log)
        return
    query = 0.0
    if options.workload != "every-model":  # the query is that of the other workloads' meters
        query = options.events / statistics.median(_batch_query(log) for _ in range(3))
        print(f"one Polars batch query, one thread: {query:,.0f} events/s\n")
    watch = _Stopwatch()
    print("second half of the events           engine        engine + emit      of the query   line items an event")
    settled = {size: _measure(watch, first, log, size, query) for size in SIZES}
    print("\nus an event" + "".join(f"{f'{size} packs':>12}" for size in SIZES))
    for stage in (*STAGES, "rest"):
        print(f"{stage:<11}" + "".join(f"{_stage(steps, stage):>12.2f}" for steps in settled.values()))


def _measure(watch: _Stopwatch, first: Entry, log: list[Entry], size: int, query: float) -> list[_Step]:
    """Prints a line; returns the steps of the log's second half."""
    engine = RatingProcessor().open(0, None)
    assert isinstance(engine, RatingEngine)
    engine.process([first])
    steps, lines = [], 0
    for start in range(0, len(log), size):
        part = log[start : start + size]
        before, began = dict(watch.taken), time.process_time()
        result = engine.process(part)
        total = time.process_time() - began
        stages = {name: watch.taken[name] - before[name] for name in STAGES}
        steps.append(_Step(sum(e.end - e.offset for e in part), total, stages))
        lines += result.summary.line_items
    settled = steps[len(steps) // 2 :]
    events = sum(step.events for step in settled)
    silent, whole = events / sum(step.silent for step in settled), events / sum(step.total for step in settled)
    state = engine.state
    held, identities = engine.tenants.nbytes, engine.tenants.identities.nbytes
    print(
        f"{size:>4} packs of 1,000 a step    {silent:>10,.0f}/s     {whole:>10,.0f}/s"
        f"       {_ratio(silent, query)}, {_ratio(whole, query)}     {lines / sum(s.events for s in steps):.2f}"
        f"   ({(held - identities) / max(1, state.lines.size):.0f} bytes of state a line,"
        f" {identities / max(1, len(engine.tenants.identities)):.0f} an identity)"
    )
    return settled


def _ratio(speed: float, query: float) -> str:
    return f"{speed / query:.2f}" if query else "  - "


def _stage(steps: list[_Step], stage: str) -> float:
    """Microseconds an event; `rest`: what no stage has."""
    taken = sum(s.total - sum(s.stages.values()) if stage == "rest" else s.stages[stage] for s in steps)
    return taken / sum(s.events for s in steps) * 1e6


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
