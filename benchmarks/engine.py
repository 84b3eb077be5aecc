"""The engine alone on one core: packs in, line items out. `python -m benchmarks.engine [--events N] [--workload NAME]`

Two numbers: `engine` is everything up to the changed lines as columns; `engine and emit` has them encoded as JSON, too.
Beside it, in the same run and over the same events, what a user would write as one batch query: Polars on one thread,
duplicates dropped, usage summed by customer and every dimension, one unit price (no tiers, no periods, no output).

Every run checks its own cents: what the last revisions of all lines come to, charge by charge, is what
`benchmarks.expected` says by another road. A wrong result is no result.
"""

import argparse
import os
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import polars as pl
import pyarrow as pa
import pyarrow.types as types

from benchmarks.book import Book, Wrong
from benchmarks.every_model import END
from benchmarks.expected import Cost, about, expected, is_counted
from benchmarks.result import Figure, append, figure, print_table, shown
from benchmarks.stopwatch import STAGES, Stopwatch
from benchmarks.workload import WORKLOADS, compiled, packs
from rating.engine import RatingEngine, RatingProcessor
from schemas.entry import CATALOGUE, Entry, encode_entry, encode_tick
from schemas.faults import encode_document
from schemas.times import parse_time
from taximeter.process import keep_freed_memory, spare_the_collector

SIZES: Final = (16, 64, 256)
"""Packs in a step: what a host takes when it is idle, busy, and behind."""
QUOTED: Final = 64
"""The size that is compared with the target."""


class Run(NamedTuple):
    """The second half of the events, by then most bills and lines exist: CPU seconds, by stage, and what came of it."""

    events: int
    total: float
    stages: dict[str, float]
    line_items: int
    line_bytes: float
    """Of state, for each live line."""
    identity_bytes: float

    @property
    def silent_rate(self) -> float:
        """Events a second, without the encoding of what it says."""
        return self.events / (self.total - self.stages["emit"])

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.total

    def micros(self, stage: str) -> float:
        """Of an event; `rest`: what no stage has."""
        taken = self.total - sum(self.stages.values()) if stage == "rest" else self.stages[stage]
        return taken / self.events * 1e6


def main() -> None:
    """Runs the benchmark and prints its tables. Status 1: it was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--workload", choices=WORKLOADS, default="default")
    parser.add_argument("--packs", type=int, nargs="+", default=SIZES, help="in a step")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, in turns")
    parser.add_argument("--json", type=Path, help="append the figures to this file")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    spare_the_collector()  # as every process that hosts the engine does
    keep_freed_memory()
    workload, catalogue = WORKLOADS[options.workload], compiled(options.workload)
    try:
        texts = list(workload.events(options.events))
    except FileNotFoundError as missing:
        sys.exit(f"left out: {missing}")
    log = list(packs(iter(texts), catalogue, workload.pack))
    size = sum(len(e.value) for e in log) / options.events
    print(f"{options.events:,} events ({options.workload}: {workload.about}), {size:.0f} bytes each packed")
    first = Entry(0, 1, encode_entry(CATALOGUE, encode_document(catalogue.documents)))
    if options.profile:
        _profile(first, log)
        return
    right = expected(workload.cost, texts)
    # The query has columns of one kind: in packs of a few events, one that is empty is told as a text.
    table = log if workload.pack == 1000 else list(packs(iter(texts), catalogue))
    del texts
    watch = Stopwatch()
    queries: list[float] = []
    runs: dict[int, list[Run]] = {size: [] for size in options.packs}
    for _ in range(options.repeat):
        queries.append(options.events / _batch_query(table))
        for packs_, made in runs.items():
            try:
                made.append(run(watch, first, log, packs_, workload.cost, right))
            except Wrong as wrong:
                sys.exit(f"{options.workload}, {packs_} packs: a wrong result is no result\n{wrong}")
    _print(queries, runs)
    figures = list(_figures(options, queries, runs))
    print_table(figures)
    if options.json:
        append(options.json, figures)


def run(watch: Stopwatch, first: Entry, log: list[Entry], size: int, cost: str, right: dict[str, Cost]) -> Run:
    """A new engine works the log in, `size` packs in a step. Raises: Wrong."""
    engine = RatingProcessor().open(0, None)
    assert isinstance(engine, RatingEngine)
    engine.process([first])
    book = Book()
    half = len(log) // 2 // size * size
    for start in range(0, len(log), size):
        if start in (0, half):
            marked, began, total, lines = dict(watch.taken), log[start].offset, 0.0, 0
        part, before = log[start : start + size], time.process_time()
        step = engine.process(part)
        total += time.process_time() - before
        lines += step.summary.line_items
        book.add(step.outputs)
    stages = {name: watch.taken[name] - marked[name] for name in STAGES}
    if cost == "oracle":  # it has gauges, which a tick brings up to date
        end = log[-1].end
        book.add(engine.process([Entry(end, end + 1, encode_tick(parse_time(END)))]).outputs)
    book.check(right, partial(is_counted, cost))
    identities = engine.tenants.identities
    held = engine.tenants.nbytes - identities.nbytes
    return Run(
        log[-1].end - began,
        total,
        stages,
        lines,
        held / max(1, engine.state.lines.size),
        identities.nbytes / max(1, len(identities)),
    )


def _print(queries: list[float], runs: dict[int, list[Run]]) -> None:
    """The medians for people: rates, lines, bytes, and where the time goes."""
    print(f"one Polars batch query, one thread: {statistics.median(queries):,.0f} events/s\n")
    print("second half of the events           engine   engine and emit   line items an event")
    middles = {size: sorted(made, key=lambda one: one.total)[len(made) // 2] for size, made in runs.items()}
    for size, one in middles.items():
        print(
            f"{size:>4} packs a step           {one.silent_rate:>10,.0f}/s      {one.rate:>10,.0f}/s"
            f"   {one.line_items / one.events:>18.2f}"
            f"   ({one.line_bytes:.0f} bytes of state a line, {one.identity_bytes:.0f} an identity)"
        )
    print("\nus an event" + "".join(f"{f'{size} packs':>12}" for size in middles))
    for stage in (*STAGES, "rest"):
        print(f"{stage:<11}" + "".join(f"{one.micros(stage):>12.2f}" for one in middles.values()))
    print()


def _figures(options: argparse.Namespace, queries: list[float], runs: dict[int, list[Run]]) -> list[Figure]:
    """For the record: the size that is quoted by plain names, the others with theirs."""
    checked = about(WORKLOADS[options.workload].cost)
    made = [
        figure("engine", options.workload, "Polars query", "events/s", queries, settings={"events": options.events})
    ]
    for size, several in runs.items():
        of = "" if size == QUOTED else f", {size} packs a step"
        lines = several[0].line_items / several[0].events
        settings = {"events": options.events, "packs a step": size, "line items an event": float(shown(lines))}

        def add(
            metric: str, unit: str, values: list[float], of: str = of, settings: dict[str, object] = settings
        ) -> None:
            made.append(
                figure("engine", options.workload, metric + of, unit, values, checked=checked, settings=settings)
            )

        add("engine", "events/s", [one.silent_rate for one in several])
        add("engine and emit", "events/s", [one.rate for one in several])
        ratios = [one.rate / query for one, query in zip(several, queries, strict=True)]
        add("of the Polars query", "times", ratios)
    return made


def _batch_query(log: list[Entry]) -> float:
    """CPU seconds of the query: the usage columns of the packs, numbers summed by all texts."""
    began = time.process_time()
    batches = [pa.ipc.open_stream(entry.payload).read_next_batch() for entry in log]
    numbers = {f.name for batch in batches for f in batch.schema if f.name[0] == "$" and types.is_decimal(f.type)}
    names = {f.name for batch in batches for f in batch.schema if f.name[0] == "$"} - numbers
    columns = ["identity", "customer", "type", *sorted(numbers), *sorted(names)]
    tables = [pa.Table.from_batches([b.select([c for c in columns if c in b.schema.names])]) for b in batches]
    frame = pl.DataFrame(pa.concat_tables(tables, promote_options="permissive"))
    usage = (
        frame.unique("identity", keep="first", maintain_order=True)
        .group_by("customer", "type", *sorted(names))
        .agg(pl.len(), pl.col(sorted(numbers)).sum())
    )
    usage.with_columns(amount=pl.col(min(numbers)).cast(pl.Float64) * 0.000015)
    return time.process_time() - began


def _profile(first: Entry, log: list[Entry]) -> None:
    import cProfile
    import pstats

    engine = RatingProcessor().open(0, None)
    engine.process([first])
    half = len(log) // 2
    for start in range(0, half, QUOTED):
        engine.process(log[start : start + QUOTED])
    profile = cProfile.Profile()
    profile.enable()
    for start in range(half, len(log), QUOTED):
        engine.process(log[start : start + QUOTED])
    profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(35)


if __name__ == "__main__":
    main()
