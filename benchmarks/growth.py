"""How the cost of an event grows with what is held: `python -m benchmarks.growth [--keys 100000,1000000,10000000]`

For each number, a process of its own with an engine that holds so many live lines and so many identities (these on
disk, as a host keeps them): each customer has three lines. Then events for customers at random, each for lines that
are there, in steps of 16 packs. The processes take turns, so that what disturbs the machine disturbs all alike.

Microseconds are of CPU, encoded lines included. Memory is what the process has grown by since its first step, for each
line that has come since: all in all, but for the ledger's rows, which are kept for voids, one for each contribution of
an event for as long as it may be taken back, and are told apart.

A customer in 200 is checked: what his lines come to is what `benchmarks.expected` says. A wrong result is no result.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np

from benchmarks.book import Book, Wrong
from benchmarks.deduplicate import contents_of, parts, random_keys, resident
from benchmarks.expected import expected
from benchmarks.result import CPU_MICROS, append, figure, print_table
from benchmarks.workload import MODELS, START, compiled, packs
from rating.engine import RatingEngine, RatingProcessor, RatingSettings
from schemas import topics
from schemas.entry import CATALOGUE, Entry, encode_entry
from schemas.faults import encode_document
from schemas.times import format_time
from streams.processor import Output
from taximeter.process import keep_freed_memory, spare_the_collector

LINES_EACH: Final = 3
STEP_EVENTS: Final = 16_000
TURN_STEPS: Final = 3
CHECKED_EVERY: Final = 200


class Held:
    """An engine that holds so many lines and identities, and what its checked customers have sent."""

    def __init__(self, keys: int, folder: Path) -> None:
        self.customers = keys // LINES_EACH
        self._catalogue = compiled()
        self._dice = random.Random(keys)
        self._sent = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._number, self._position = 0, 1
        self.processor = RatingProcessor(RatingSettings(folder=folder))
        engine = self.processor.open(0, None)
        assert isinstance(engine, RatingEngine)
        self.engine = engine
        engine.process([Entry(0, 1, encode_entry(CATALOGUE, encode_document(self._catalogue.documents)))])
        for start in range(0, self.customers, STEP_EVENTS):
            self._work(range(start, min(start + STEP_EVENTS, self.customers)))
            if start == 0:
                before, lines = self._resident(), engine.state.lines.size
        identities, chance = engine.tenants.identities, np.random.default_rng(1)
        for part in parts(keys - len(identities), 1 << 16):
            more = random_keys(chance, part)
            identities.check(more, contents_of(more), np.full(part, START))
        self.turn()
        self.line_bytes = (self._resident() - before) / (engine.state.lines.size - lines)

    def turn(self) -> tuple[float, int]:
        """Some steps more. Returns CPU seconds, and the line items that were said."""
        taken, said = 0.0, 0
        for _ in range(TURN_STEPS):
            seconds, lines = self._work(self._dice.randrange(self.customers) for _ in range(STEP_EVENTS))
            taken, said = taken + seconds, said + lines
        return taken, said

    def _resident(self) -> int:
        """Bytes of memory, without the ledger's."""
        return resident() - self.engine.state.ledger.nbytes

    def check(self) -> None:
        """Raises: Wrong."""
        book = Book()
        said, sent = _lines_of(self._said), _lines_of(self._sent)
        book.add([Output(topics.LINE_ITEMS, key, value) for key, value in zip(said[::2], said[1::2], strict=True)])
        book.check(expected("default", sent))

    def _work(self, owners: Iterable[int]) -> tuple[float, int]:
        log = [
            Entry(entry.offset - 1 + self._position, entry.end - 1 + self._position, entry.value)
            for entry in packs(self._texts(owners), self._catalogue)
        ]
        began = time.process_time()
        step = self.engine.process(log)
        taken = time.process_time() - began
        self._position = log[-1].end
        lines = (output for output in step.outputs if output.topic == topics.LINE_ITEMS)
        self._said.writelines(b"%b\n%b\n" % (line.key, line.value) for line in lines if _is_checked(line.value))
        return taken, step.summary.line_items

    def _texts(self, owners: Iterable[int]) -> Iterator[bytes]:
        """What a customer uses, follows from his number, so that all his events are for the same lines."""
        for owner in owners:
            self._number += 1
            if owner % 10 < 3:
                kind, data = "gpu.session", f'{{"seconds":{self._dice.randrange(1, 60_000) / 1000},"gpu":"a100"}}'
            else:
                kind = "llm.request"
                model, way = MODELS[owner % 4], ("input", "output")[owner % 2]
                data = f'{{"tokens":{self._dice.randrange(1, 5000)},"model":"{model}","kind":"{way}"}}'
            text = (
                f'{{"specversion":"1.0","id":"{self._number:012d}","source":"/bench/gateway","type":"{kind}",'
                f'"subject":"customer-{owner:08d}","time":"{format_time(START + self._number * 1000)}","data":{data}}}'
            ).encode()
            if owner % CHECKED_EVERY == 0:
                self._sent.write(text + b"\n")
            yield text


def _lines_of(file: IO[bytes]) -> list[bytes]:
    file.seek(0)
    return file.read().splitlines()


def _is_checked(value: bytes) -> bool:
    at = value.index(b'"customer":"customer-') + 21
    return int(value[at : at + 8]) % CHECKED_EVERY == 0


def child(keys: int) -> None:
    """Fills, says so, and answers each line of its input with a turn; at its end it checks, and says what it holds."""
    spare_the_collector()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        held = Held(keys, Path(folder))
        print(json.dumps("ready"), flush=True)
        for _ in sys.stdin:
            print(json.dumps(held.turn()), flush=True)
        try:
            held.check()
        except Wrong as wrong:
            sys.exit(f"{keys:,} keys: a wrong result is no result\n{wrong}")
        tenants = held.engine.tenants
        identities, ledger = tenants.identities, held.engine.state.ledger
        print(
            json.dumps(
                {
                    "lines": int(held.engine.state.lines.size),
                    "bytes": held.line_bytes,
                    "state": tenants.nbytes - identities.nbytes - ledger.nbytes,
                    "rows": len(ledger),
                    "rows in memory": ledger.nbytes,
                    "rows on disk": tenants.shelf.file_bytes,
                    "identities": len(identities),
                    "in memory": identities.nbytes,
                    "on disk": identities.file_bytes,
                }
            )
        )
        held.processor.close()


class _Child:
    """A process with so many keys."""

    def __init__(self, keys: int) -> None:
        command = [sys.executable, "-m", "benchmarks.growth", "--child", str(keys)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.keys = keys
        self.micros: list[float] = []
        self.said = 0

    def turn(self) -> None:
        """One turn, waited for."""
        _pipe(self._process.stdin).write("\n")
        _pipe(self._process.stdin).flush()
        seconds, said = self.answer()
        self.micros.append(seconds / (TURN_STEPS * STEP_EVENTS) * 1e6)
        self.said += said

    def end(self) -> dict[str, Any]:
        """What it holds. Exits, if it was wrong."""
        _pipe(self._process.stdin).close()
        held: dict[str, Any] = self.answer()
        self._process.wait()
        return held

    def answer(self) -> Any:
        """The next line. Exits where there is none: the process has said why."""
        line = _pipe(self._process.stdout).readline()
        if not line:
            sys.exit(self._process.wait() or 1)
        return json.loads(line)


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def main() -> None:
    """Prints the table. Status 1: something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", default="100000,1000000", help="live lines and identities, with commas, rising")
    parser.add_argument("--turns", type=int, default=5, help=f"of {TURN_STEPS} steps, for each of them")
    parser.add_argument("--json", type=Path, help="append the figures to this file")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    children = []
    for size in options.keys.split(","):
        children.append(_Child(int(size)))
        children[-1].answer()  # it is filled: one after the other
    for _ in range(options.turns):
        for one in children:
            one.turn()
    figures = []
    checked = f"one in {CHECKED_EVERY} customers: events and amounts by charge, SQL in whole numbers over their texts"
    for one in children:
        held = one.end()
        settings = {
            "keys": one.keys,
            "line items an event": round(one.said / (len(one.micros) * TURN_STEPS * STEP_EVENTS), 2),
        }
        last = "" if one is children[-1] else f" of {one.keys:,}"

        def add(metric: str, unit: str, *values: float, settings: dict[str, Any] = settings) -> None:
            figures.append(figure("growth", "own-keys", metric, unit, values, checked=checked, settings=settings))

        add(f"cost at {one.keys:,} keys", CPU_MICROS, *one.micros)
        add(f"memory of a live line{last}", "bytes", held["bytes"])
        add(f"of that, room of tables and indexes{last}", "bytes", held["state"] / held["lines"])
        add(f"memory of a contribution held for voids{last}", "bytes", held["rows in memory"] / held["rows"])
        add(f"disk of a contribution held for voids{last}", "bytes", held["rows on disk"] / held["rows"])
        add(f"disk of an identity{last}", "bytes", held["on disk"] / held["identities"])
        add(f"memory of an identity{last}", "bytes", held["in memory"] / held["identities"])
    first, last_one = children[0], children[-1]
    if last_one.keys == 100 * first.keys:
        name = "cost, last of first"
    else:
        name = f"cost at {last_one.keys:,} keys, of that at {first.keys:,}"
    ratios = [late / early for early, late in zip(first.micros, last_one.micros, strict=True)]
    figures.append(figure("growth", "own-keys", name, "times", ratios, checked=checked))
    print_table(figures)
    if options.json:
        append(options.json, figures)


if __name__ == "__main__":
    main()
