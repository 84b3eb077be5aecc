"""Months of a partition whose ledger lies on disk say, byte for byte, what they say in memory: whatever is closed,
corrected, taken back or rated again on the way, and whichever snapshot a new process goes on from, and where."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.engine import RatingEngine, RatingProcessor, RatingSettings
from schemas.access import DEFAULT_TENANT
from schemas.entry import Entry
from schemas.times import DAY, format_time, parse_time
from streams.snapshots import Snapshot, SnapshotStore
from tests.laws.test_ledger_on_disk import Sometimes
from tests.laws.tiny_sheets import tiny_sheets
from tests.oracle.throws import throws
from tests.unit.rating.engines import event
from tests.unit.rating.test_identities import full_disk
from tests.unit.rating.test_rerate import Diary

BEGIN: Final = parse_time("2026-11-01T00:00:00Z")
BOOK: Final = """
meters:
  sum: {event: use, aggregate: sum, value: $.n, dimensions: {who: $.who}}
  peak: {event: use, aggregate: max, value: $.n}
  last: {event: use, aggregate: latest, value: $.n}
  half: {event: use, aggregate: percentile, percentile: "50", value: $.n}
  who: {event: use, aggregate: unique_count, value: $.who}
  seats: {event: set, aggregate: time_weighted, value: $.n, unit: day}
price_books:
  book:
    versions:
    - currency: USD
      charges: &charges
        base: {price: {model: flat, amount: "10"}, when: in_advance}
        sum:
          meter: sum
          group_by: [who]
          price: {model: graduated, tiers: [{up_to: 5, unit_amount: "2"}, {unit_amount: "PRICE"}]}
        peak: {meter: peak, price: {model: unit, unit_amount: "1"}}
        last: {meter: last, price: {model: unit, unit_amount: "0.5"}}
        half: {meter: half, price: {model: unit, unit_amount: "0.25"}}
        who: {meter: who, price: {model: unit, unit_amount: "3"}}
        seats: {meter: seats, price: {model: unit, unit_amount: "0.01"}}
    - {currency: USD, charges: *charges, effective_from: "2026-12-10T00:00:00Z"}
  other:
    currency: USD
    charges:
      base: {price: {model: flat, amount: "7"}}
      sum: {meter: sum, group_by: [who], price: {model: unit, unit_amount: "4"}}
      peak: {meter: peak, price: {model: unit, unit_amount: "2"}}
      last: {meter: last, price: {model: unit, unit_amount: "1"}}
      half: {meter: half, price: {model: unit, unit_amount: "1"}}
      who: {meter: who, price: {model: unit, unit_amount: "1"}}
      seats: {meter: seats, price: {model: unit, unit_amount: "1"}}
default_subscription: {price_book: book, period: month}
"""
PRICES: Final = ["1", "1.5", "0.003"]
CUSTOMERS: Final = ["acme", "bolt"]
TENANTS: Final = [DEFAULT_TENANT, "second"]
VALUES: Final = ["1", "2.5", "-3", "0.000000000001", "7000000"]


@pytest.fixture(autouse=True, scope="module")
def always() -> Iterator[None]:
    with tiny_sheets(many=3, merged_at_once=2, small=60, piece=4):
        yield


# What happens --------------------------------------------------------------------------------------------------------


def write(dice: random.Random, length: int) -> Diary:
    """The log of some months: mostly events, some of them late; voids, ticks, re-ratings, other prices."""
    log, now, made, number = Diary(), BEGIN, [("", "", "")], 0
    for tenant in TENANTS:
        log.of(tenant).catalogue(BOOK.replace("PRICE", PRICES[0]))
    for _ in range(length):
        tenant, what = dice.choice(TENANTS[:1] * 3 + TENANTS[1:]), dice.random()
        log.of(tenant)
        if what < 0.15:
            now += dice.choice([DAY // 4, 5 * DAY, 20 * DAY])
            log.tick(format_time(now))
        elif what < 0.2:
            log.catalogue(BOOK.replace("PRICE", dice.choice(PRICES)))
        elif what < 0.28:
            book: dict[str, Any] = {"price_book": "other"} if dice.random() < 0.3 else {}
            log.rerate(format_time(BEGIN), dice.choice(CUSTOMERS), **book)
        elif what < 0.4:
            mine = [one for one in made if one[0] == tenant]
            if mine:
                named = [dice.choice(mine) for _ in range(dice.randint(1, 2))]
                log.events(
                    event(
                        f"v{number + n}",
                        format_time(now),
                        f'{{"source": "gate", "id": "{id}"}}',
                        type="taximeter.void",
                        subject=subject,
                    )
                    for n, (_, id, subject) in enumerate(named)
                )
                number += len(named)
        else:
            texts = []
            for _ in range(dice.randint(1, 9)):
                number += 1
                id, subject = f"e{number}", dice.choice(CUSTOMERS)
                late = dice.choice([0, 0, 0, 3 * DAY, 40 * DAY])
                data = f'{{"n": {dice.choice(VALUES)}, "who": "{dice.choice("abc")}"}}'
                time = format_time(max(now - late + dice.randrange(DAY), BEGIN))
                kind = dice.choice(["use", "use", "use", "set"])
                texts.append(event(id, time, data if kind == "use" else '{"n": 3}', subject=subject, type=kind))
                made.append((tenant, id, subject))
            log.events(texts)
    return log


# Where it happens ----------------------------------------------------------------------------------------------------


class Process:
    """A worker that may end at any step, and whose successor may find an older snapshot, or another disk, or none."""

    def __init__(self, folder: Path, dice: random.Random, rows: int) -> None:
        self.folder, self.dice, self.rows = folder, dice, rows
        self.store = SnapshotStore(folder / "snapshots")
        self.homes = 0
        self.saved: list[int] = []
        self.engine = self._open(None)

    def _open(self, snapshot: Snapshot | None) -> RatingEngine:
        place = None if self.dice.random() < 0.1 else self.folder / f"state-{self.homes}"
        settings = RatingSettings(1, 0, None, 35 * DAY, place, identities_in_memory=3, rows_in_memory=self.rows)
        self.processor = RatingProcessor(settings, worker=Sometimes(self.dice))
        if snapshot is None:
            return self.processor.open(0, None)
        return self.processor.open(0, snapshot.state, lambda name, to: self.store.fetch("rating", 0, name, to))

    def save(self, step: int) -> None:
        """A snapshot of what is before a step."""
        state = self.engine.snapshot()
        self.store.save("rating", 0, Snapshot(step, 0, 1, state, dict(self.engine.files())))
        self.saved = [*self.saved, step][-2:]

    def crash(self) -> int:
        """Another process goes on, from the newest snapshot or from that before it. Returns at which step."""
        if self.dice.random() < 0.5:
            self.processor.close()  # else the thread of the old one goes on for a while
        if len(self.saved) > 1 and self.dice.random() < 0.5:
            (self.folder / "snapshots" / "rating" / "00000" / f"{self.saved.pop():020d}-0000000001.snapshot").unlink()
        self.homes += self.dice.random() < 0.3
        found = self.store.load("rating", 0)
        self.engine = self._open(found)
        return 0 if found is None else found.position


@throws(12)
@given(st.randoms(use_true_random=False), st.sampled_from([1, 4, 12]), st.integers(15, 60), st.integers(1, 4))
def test_months_on_disk_say_what_they_say_in_memory(dice: random.Random, rows: int, length: int, at_once: int) -> None:
    entries = write(dice, length).entries
    steps = [entries[at : at + at_once] for at in range(0, len(entries), at_once)]
    expected = _rate(steps)
    with tempfile.TemporaryDirectory() as folder:
        process = Process(Path(folder), dice, rows)
        at = 0
        while at < len(steps):
            if dice.random() < 0.2:
                process.save(at)
            if dice.random() < 0.1:
                at = process.crash()
            if dice.random() < 0.05:
                with full_disk():
                    found = process.engine.process(steps[at])
            else:
                found = process.engine.process(steps[at])
            assert found == expected[at]
            at += 1
        assert process.engine.settle() == expected[-1]


def _rate(steps: list[list[Entry]]) -> list[Any]:
    settings = RatingSettings(1, 0, None, 35 * DAY)
    engine = RatingProcessor(settings).open(0, None)
    return [*(engine.process(step) for step in steps), engine.settle()]
