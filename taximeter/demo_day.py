"""The demo's day: usage events of an AI company on 2026-10-31 (UTC), the same for the same seed.

Customers follow a power law and the hours a working day. As in life, some events come twice, some come late, some come
twice with other content, and some are wrong. The day is one NDJSON file, so that it can be sent, rated and read again.
"""

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

DAY: Final = "2026-10-31"
PERIOD_START: Final = "2026-10-01T00:00:00Z"
PERIOD_END: Final = "2026-11-01T00:00:00Z"
CLOSING_TICK: Final = "2026-11-01T02:00:00Z"
"""By then October has been over for longer than the engine waits for late events."""

BATCH: Final = 500
"""Events in one request."""

_DAY_MS: Final = 24 * 3600 * 1000
_POWER: Final = 1.05
_DUPLICATES, _LATE, _CONFLICTS, _WRONG = 0.015, 0.02, 0.0002, 0.0006
_HOURS: Final = (3, 2, 2, 2, 2, 3, 4, 6, 9, 11, 12, 12, 11, 12, 13, 13, 12, 11, 9, 8, 7, 6, 5, 4)
_WAITING_MAX: Final = 2000
_MODELS, _KINDS, _GPUS = ("large", "medium", "small"), ("chat", "batch", "embedding"), ("h100", "a100", "l40s")
_FIRST: Final = [
    "amber",
    "brisk",
    "cedar",
    "delta",
    "ember",
    "fable",
    "gable",
    "hazel",
    "indigo",
    "juniper",
    "kestrel",
    "lumen",
    "maple",
    "nimbus",
    "onyx",
    "pebble",
    "quartz",
    "river",
    "sable",
    "tundra",
]
_SECOND: Final = [
    "ai",
    "apps",
    "bio",
    "cloud",
    "data",
    "desk",
    "forge",
    "games",
    "hub",
    "labs",
    "legal",
    "media",
    "metrics",
    "robotics",
    "school",
    "soft",
    "studio",
    "systems",
    "travel",
    "works",
]


def catalogue_path() -> Path:
    """The demo's price book."""
    return Path(__file__).with_name("demo.yaml")


@dataclass(slots=True)
class DayFacts:
    """What was put into the file."""

    lines: int = 0
    duplicates: int = 0
    conflicts: int = 0
    late: int = 0
    wrong: int = 0


@dataclass(slots=True)
class _Customer:
    subjects: list[str]
    models: list[float]
    gpu_share: float


@dataclass(slots=True)
class _Day:
    random: random.Random
    customers: list[_Customer]
    facts: DayFacts = field(default_factory=DayFacts)
    waiting: list[bytes] = field(default_factory=list)
    """Events that will come a second time, later."""


def write_day(path: Path, customers: int, events: int, seed: int) -> DayFacts:
    """Writes `events` lines. Raises: OSError."""
    numbers = random.Random(seed)
    day = _Day(numbers, [_customer(numbers, subjects) for subjects in subjects_of(customers)])
    weights = list(itertools.accumulate((rank + 1) ** -_POWER for rank in range(customers)))
    with path.open("wb") as file:
        number = 0
        while day.facts.lines < events:
            who = numbers.choices(day.customers, cum_weights=weights)[0]
            share = day.facts.lines / events
            for line in itertools.islice(_lines(day, who, number, share), events - day.facts.lines):
                file.write(line + b"\n")
                day.facts.lines += 1
            number += 1
    return day.facts


def batches(path: Path, size: int = BATCH) -> Iterator[list[bytes]]:
    """The file's lines, `size` at a time. Raises: OSError."""
    with path.open("rb") as file:
        while lines := list(itertools.islice(file, size)):
            yield lines


def subjects_of(customers: int) -> list[list[str]]:
    """The subjects of each customer, the largest first: those of the price book, then made-up names."""
    known = yaml.safe_load(catalogue_path().read_text())["customers"]
    found = [[str(s) for s in one.get("subjects") or [name]] for name, one in known.items()]
    names = (f"{first}-{second}" for second, first in itertools.product(_SECOND, _FIRST))
    more = itertools.chain(names, (f"customer-{number:05d}" for number in itertools.count()))
    found.extend([name] for name in itertools.islice(more, max(customers - len(found), 0)))
    return found[:customers]


def _customer(numbers: random.Random, subjects: list[str]) -> _Customer:
    leaning = [numbers.random() ** 2 + 0.05 for _ in _MODELS]
    return _Customer(subjects, list(itertools.accumulate(leaning)), numbers.random() ** 3 * 0.4)


def _lines(day: _Day, who: _Customer, number: int, share: float) -> Iterator[bytes]:
    """One event, and what comes with it: its double, or an earlier one's."""
    numbers, facts = day.random, day.facts
    chance = numbers.random()
    if chance < _WRONG:
        facts.wrong += 1
        yield _wrong(day, who, number, share)
        return
    event = _event(day, who, number, share)
    yield event
    chance = numbers.random()
    if chance < _CONFLICTS and facts.lines % BATCH != 0 and b'"status":"succeeded"' in event:
        # In the same request as the first one: which of them is first does not depend on how requests overtake.
        facts.conflicts += 1
        yield event.replace(b'"tokens":', b'"tokens":9')
    elif chance < _DUPLICATES / 3:
        facts.duplicates += 1
        yield event
    elif chance < _DUPLICATES * 1.01:
        day.waiting.append(event)
    if len(day.waiting) > _WAITING_MAX or (day.waiting and numbers.random() < _DUPLICATES * 2 / 3):
        facts.duplicates += 1
        yield day.waiting.pop(numbers.randrange(len(day.waiting)))


def _event(day: _Day, who: _Customer, number: int, share: float, tokens: str | None = None) -> bytes:
    numbers = day.random
    subject, time = numbers.choice(who.subjects), _time(day, share)
    head = f'"id":"{number:08x}-{numbers.getrandbits(32):08x}","subject":"{subject}","time":"{time}"'
    if tokens is None and numbers.random() < who.gpu_share:
        seconds = f"{math.exp(numbers.gauss(3.6, 1.1)):.3f}"
        data = f'{{"gpu":"{numbers.choice(_GPUS)}","seconds":{seconds}}}'
        return _envelope(head, "gpu-fleet", "gpu.job", data)
    model = numbers.choices(_MODELS, cum_weights=who.models)[0]
    kind = numbers.choices(_KINDS, (70, 20, 10))[0]
    status = "failed" if tokens is None and numbers.random() < 0.02 else "succeeded"
    counted = tokens or str(int(math.exp(numbers.gauss(9.4, 1.1))))
    data = f'{{"model":"{model}","kind":"{kind}","status":"{status}","tokens":{counted}}}'
    source = "api-eu" if numbers.random() < 0.4 else "api-us"
    return _envelope(head, source, "llm.request", data)


def _envelope(head: str, source: str, type: str, data: str) -> bytes:
    return f'{{"specversion":"1.0",{head},"source":"{source}","type":"{type}","data":{data}}}'.encode()


def _time(day: _Day, share: float) -> str:
    """The time of an event that is sent when `share` of the day's events have been: now and then it is late."""
    at = _moment(share)
    if day.random.random() < _LATE:
        day.facts.late += 1
        at = max(at - day.random.randrange(5 * 60_000, 3 * 3600_000), 0)
    seconds, ms = divmod(at, 1000)
    return f"{DAY}T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}Z"


def _moment(share: float) -> int:
    """Milliseconds of the day at which that share of its events has been."""
    target = share * sum(_HOURS)
    for hour, weight in enumerate(_HOURS):
        if target < weight:
            return min(int((hour + target / weight) * 3600_000), _DAY_MS - 1)
        target -= weight
    return _DAY_MS - 1


def _wrong(day: _Day, who: _Customer, number: int, share: float) -> bytes:
    """An event with a fault that the door finds (no JSON, no subject, no time) or a meter (no number, no value)."""
    kind = day.random.randrange(5)
    event = _event(day, who, number, share, tokens="1234")
    if kind == 0:
        return event[:-40]
    if kind == 1:
        return event.replace(b'"subject":', b'"subjekt":')
    if kind == 2:
        return event.replace(f'"time":"{DAY}T'.encode(), b'"time":"yesterday ')
    if kind == 3:
        return event.replace(b'"tokens":1234', b'"tokens":"many"')
    return event.replace(b',"tokens":1234', b"")
