"""Stories from the command line: one seed told whole, or thousands counted."""

import argparse
import gc
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing import get_context

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # before polars is imported: a step is small

from tests.simulation.report import narrative, never_seen, table, tally
from tests.simulation.run import run_story
from tests.simulation.shrink import shrink
from tests.simulation.throw import throw

_CHUNK = 25


def main(arguments: list[str] | None = None) -> int:
    """`--seed 7` tells one story; `--seeds 10000 --from 0 --jobs 2` runs many. Returns 1 where one is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", help="tell the stories of these seeds, whole")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run (200)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once (1)")
    parser.add_argument("--shrink", type=float, default=60.0, help="seconds to cut each failing story down (60)")
    parser.add_argument("--minutes", type=float, default=1440.0, help="stop after so long, with what was told (1440)")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        outcomes = [run_story(throw(seed)) for seed in given.seed]
        for outcome in outcomes:
            print("\n".join(narrative(outcome)))
        return 1 if any(outcome.problems for outcome in outcomes) else 0
    return _run_many(range(given.first, given.first + given.seeds), given.jobs, given.shrink, given.minutes)


def _run_many(seeds: range, jobs: int, shrink_s: float, minutes: float) -> int:
    began = time.monotonic()
    counts: Counter[str] = Counter()
    wrong: list[int] = []
    done = 0
    for found, chunk, ran in _results(seeds, jobs):
        wrong += found
        for seed in found:
            print(f"seed {seed} goes wrong", flush=True)
        counts.update(chunk)
        done += ran
        if done % 500 < _CHUNK:
            print(f"{done} seeds, {len(wrong)} wrong, {done / (time.monotonic() - began):.1f} a second", flush=True)
        if time.monotonic() - began > minutes * 60:
            break
    print("\n".join(table(counts)))
    for name in never_seen(counts):
        print(f"never seen: {name}")
    print(f"{done} seeds from {seeds.start}, {len(wrong)} wrong, {time.monotonic() - began:.0f} s")
    for seed in sorted(wrong)[:3]:
        print(f"\nseed {seed}, cut down:")
        print("\n".join(explain(seed, shrink_s)))
    if wrong:
        print(f"\nwrong: {sorted(wrong)}; python -m tests.simulation --seed {min(wrong)} tells it whole")
    return 1 if wrong else 0


def explain(seed: int, seconds: float) -> list[str]:
    """The failing story of a seed, as small as it gets within some seconds."""
    small = shrink(throw(seed), lambda story: bool(run_story(story).problems), seconds)
    return narrative(run_story(small))


def _results(seeds: range, jobs: int) -> Iterator[tuple[list[int], Counter[str], int]]:
    chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
    if jobs == 1:
        yield from map(run_chunk, chunks)
        return
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(run_chunk, chunks)  # in order, so that what was told has no holes


def run_chunk(seeds: Iterable[int]) -> tuple[list[int], Counter[str], int]:
    """Runs some seeds: which went wrong, what happened, how many there were."""
    wrong: list[int] = []
    counts: Counter[str] = Counter()
    ran = 0
    for seed in seeds:
        outcome = run_story(throw(seed))
        counts.update(tally(outcome))
        ran += 1
        if outcome.problems:
            wrong.append(seed)
    gc.collect()  # see `run`
    return wrong, counts, ran
