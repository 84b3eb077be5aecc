"""A small deterministic processor for the hosts' tests: it adds up whole numbers by key, and counts an id once.

An entry's payload is a JSON list of `[id, key, number]`. Every changed key is written out with a rising revision. What
it should come to is computed by `expected`, from the entries alone.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from schemas.entry import EVENTS, TICK, Entry, encode_entry
from schemas.topics import LINE_ITEMS
from streams.processor import Fetch, Output, Step, Summary, no_files

Event = tuple[str, str, int]
"""Id, key, number."""


def entry_of(events: Sequence[Event]) -> bytes:
    """The envelope that holds these events."""
    return encode_entry(EVENTS, json.dumps(events).encode())


class Adder:
    """The processor. `bias` makes another one of it that disagrees with the first."""

    name = "adder"

    def __init__(self, bias: int = 0) -> None:
        self.bias = bias

    def open(self, partition: int, snapshot: bytes | None, fetch: Fetch = no_files) -> "AdderState":
        return AdderState(partition, snapshot, self.bias)


class AdderState:
    """The totals and revisions by key, and the ids seen."""

    def __init__(self, partition: int, snapshot: bytes | None, bias: int) -> None:
        self.partition = partition
        self.bias = bias
        saved = json.loads(snapshot or b'{"totals": {}, "seen": [], "ticks": 0}')
        self.totals: dict[str, tuple[int, int]] = saved["totals"]
        self.seen = set(saved["seen"])
        self.ticks: int = saved["ticks"]

    def process(self, entries: Sequence[Entry]) -> Step:
        changed: dict[str, None] = {}
        events = duplicates = amount = 0
        for entry in entries:
            if entry.kind == TICK:
                self.ticks += 1
                continue
            for identity, key, number in json.loads(bytes(entry.payload)):
                events += 1
                if identity in self.seen:
                    duplicates += 1
                    continue
                self.seen.add(identity)
                total, revision = self.totals.get(key, (0, 0))
                self.totals[key] = total + number, revision + 1
                amount += number + self.bias
                changed[key] = None
        outputs = [self._output(key) for key in changed]
        summary = Summary(
            len(entries), events, events - duplicates, duplicates, line_items=len(outputs), amount=str(amount)
        )
        return Step(outputs, summary)

    def _output(self, key: str) -> Output:
        total, revision = self.totals[key]
        return Output(LINE_ITEMS, key.encode(), json.dumps({"total": total, "revision": revision}).encode())

    def snapshot(self) -> bytes:
        return json.dumps({"totals": self.totals, "seen": sorted(self.seen), "ticks": self.ticks}).encode()

    def files(self) -> Mapping[str, Path]:
        return {}


def expected(events: Iterable[Event]) -> dict[str, int]:
    """The totals by key, by another road than the processor's."""
    first: dict[str, Event] = {}
    for event in events:
        first.setdefault(event[0], event)
    keys = {key for _, key, _ in first.values()}
    return {key: sum(number for _, of, number in first.values() if of == key) for key in keys}


def latest(records: Iterable[tuple[bytes, bytes]]) -> dict[str, int]:
    """What a consumer of the outputs has: the total of the highest revision of each key.

    Raises: AssertionError if one revision was written with two contents.
    """
    contents: dict[tuple[str, int], int] = {}
    for key, value in records:
        item = json.loads(value)
        known = contents.setdefault((key.decode(), item["revision"]), item["total"])
        assert known == item["total"], f"{key!r} revision {item['revision']}: {known} and {item['total']}"
    return {key: total for (key, _), total in sorted(contents.items())}
