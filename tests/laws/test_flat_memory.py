"""Memory of a long run: what a step made goes with it, and what stays does not grow with the events."""

import gc
import random
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rating.engine import RatingEngine, RatingProcessor, RatingSettings
from rating.work import Job
from schemas.entry import Entry
from streams.processor import Step
from tests.laws.test_months_on_disk import write
from tests.unit.rating.engines import Log, event, open_engine


def garbage_of(engine: RatingEngine, entry: Entry) -> tuple[Step, int]:
    """A step of one entry, and how many objects of it only the collector would find."""
    gc.collect()
    gc.freeze()  # what was there before is not looked through each time
    gc.disable()
    try:
        return engine.process([entry]), gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()


def test_what_a_step_made_goes_without_the_collector() -> None:
    """Hosts make the collector rare: what holds itself would stay for hours, with the columns that it holds."""
    log = write(random.Random(0), 60).entries
    open_engine().process(log)  # libraries make their tables at first use
    engine, said = open_engine(), 0
    for entry in log:
        step, garbage = garbage_of(engine, entry)
        said += len(step.outputs)
        assert garbage == 0, entry.kind
    assert said


BOOK: Final = """
meters: {tokens: {event: use, aggregate: sum, value: $.n, dimensions: {model: $.model}}}
price_books:
  book:
    currency: USD
    charges:
      base: {price: {model: flat, amount: "10"}, when: in_advance}
      tokens: {meter: tokens, group_by: [model], price: {model: unit, unit_amount: "0.5"}}
default_subscription: {price_book: book}
"""
ROUND: Final = 600


def usage(log: Log, rounds: int) -> Log:
    """Events of the same customers and groups, again and again."""
    for number in range(rounds):
        log.events(
            event(f"{number}-{n}", "2026-11-20T00:00:00Z", f'{{"n": {n}, "model": "{n % 3}"}}', subject=f"c{n % 50}")
            for n in range(ROUND)
        )
    return log


def test_more_events_for_the_same_lines_take_no_more_memory_than_their_identities(tmp_path: Path) -> None:
    settings = RatingSettings(folder=tmp_path, identities_in_memory=ROUND, rows_in_memory=ROUND, window_days=None)
    processor = RatingProcessor(settings, worker=Now())
    engine = processor.open(0, None)
    log, held = usage(Log().catalogue(BOOK), 12).entries, []
    with traced():
        for at, entry in enumerate(log):
            engine.process([entry])
            if at in (len(log) // 2, len(log) - 1):
                tenants, (now, _) = engine.tenants, tracemalloc.get_traced_memory()
                held.append((tenants.nbytes - tenants.identities.nbytes, now))
    processor.close()
    (tables, early), (tables_later, late) = held
    assert tables_later == tables
    assert late - early < ROUND * 6 * 12  # a filter takes 2.25 bytes an identity; the objects of a file 5 kB


@contextmanager
def traced() -> Iterator[None]:
    """Memory is counted, and the collector rests: as long as few objects come, it does so for hours."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


class Now:
    """Does each job as it comes."""

    def submit(self, job: Job[Any]) -> None:
        job.work(lambda: None)

    def wait(self, job: Job[Any]) -> None:
        assert job.done.is_set()
