"""Stories by the dice: one seed, one story. What is thrown is kept small, so that a story can be read."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from streams.faults_hook import PLACES
from tests.simulation.story import Change, Events, Fault, Input, Kind, Story, Tick

Document = dict[str, Any]

BEGIN = datetime(2026, 11, 1, 6, tzinfo=UTC)
LAST = datetime(2026, 12, 4, tzinfo=UTC)
"""No event arrives later, so that every repetition comes within the deduplication window."""
SUBJECTS = ("team-a", "team-b", "beta", "gamma")
VALUES = ("1", "2", "3", "5", "10", "12.5", "0.1", "7.000", "1e1", "0.333333333333", "-2.5")
FAULTY = ("null", '"many"')
UNIT_AMOUNTS = ("1", "2", "0.01", "0.125", "0.333333333333", "2.5")
FLAT_AMOUNTS = ("5", "0.015", "20")
LEVELS = ({"spend": "7"}, {"spend": "25"}, {"spend": "10", "repeat": True}, {"spend": "4", "repeat": True})
NOT_ON_KAFKA = frozenset({"after_commit"})
NOT_EMBEDDED: frozenset[str] = frozenset()
KAFKA_PLACES = tuple(sorted(PLACES - NOT_ON_KAFKA))
EMBEDDED_PLACES = tuple(sorted(PLACES - NOT_EMBEDDED))


def throw(seed: int) -> Story:
    """The story of a seed."""
    dice = random.Random(f"{seed} story")
    host: Literal["kafka", "embedded"] = "embedded" if seed % 4 == 3 else "kafka"
    catalogue, change = _catalogue(dice)
    inputs = _inputs(dice, catalogue, change)
    workers, partitions = dice.choice((1, 2, 2, 2, 3)), dice.choice((1, 2, 2))
    return Story(
        seed=seed,
        host=host,
        partitions=partitions,
        workers=workers,
        step_entries=dice.choice((1, 2, 4)),
        snapshot_entries=dice.choice((1, 2, 3, 4, 1000)),
        catalogue=catalogue,
        inputs=inputs,
        faults=_faults(dice, host, partitions, seed),
        waits=tuple(dice.choice((0.0, 0.0, 0.01, 0.05, 0.5, 1.5, 3.0, 7.0)) for _ in inputs),
    )


# Catalogues ----------------------------------------------------------------------------------------------------------


def _catalogue(dice: random.Random) -> tuple[Document, datetime | None]:
    """A catalogue, and from when on a change of it may hold (None: it is not changed)."""
    change = BEGIN + timedelta(days=dice.randint(6, 25), hours=dice.randint(0, 20)) if dice.random() < 0.35 else None
    book: Document = {"currency": "USD", "charges": {"c": {"meter": "m", "price": _price(dice)}}}
    meters = {"m": _meter(dice)}
    charges = book["charges"]
    if dice.random() < 0.3:
        charges["c"] |= dice.choice(({"discount": {"percent": "10"}}, {"free_units": "2.5"}, {"maximum": "15"}))
    if dice.random() < 0.3:
        charges["c"]["group_by"] = ["model"]
    if dice.random() < 0.5:
        charges["d"] = {"meter": "m", "price": {"model": "unit", "unit_amount": dice.choice(UNIT_AMOUNTS)}}
    if dice.random() < 0.5:
        meters["n"] = {"event": "call", "aggregate": "count"}
        charges["n"] = {"meter": "n", "price": {"model": "unit", "unit_amount": "0.5"}}
    if change is None and dice.random() < 0.3:
        charges["f"] = {"price": {"model": "flat", "amount": dice.choice(FLAT_AMOUNTS)}}
        charges["f"]["when"] = dice.choice(("in_advance", "in_arrears"))
    if dice.random() < 0.8:
        book["thresholds"] = dice.sample(LEVELS, dice.choice((1, 1, 2)))
    if dice.random() < 0.2:
        book["budget"] = {"amount": "20"}
    if dice.random() < 0.2:
        book["minimum"] = dice.choice(("10", "25"))
    acme: Document = {"subjects": ["team-a", "team-b"], "timezone": "Europe/Zurich"}
    if dice.random() < 0.3:
        acme["coupons"] = [{"id": "k", "percent": "10", "duration": dice.choice(("once", "forever"))}]
    if dice.random() < 0.3:
        acme["credit_grants"] = [{"id": "g", "amount": dice.choice(("4", "30.505"))}]
    if dice.random() < 0.3:
        acme["taxes"] = [{"name": "VAT", "rate": "0.081"}]
    period = dice.choice(("month", "month", "week"))
    catalogue: Document = {
        "meters": meters,
        "price_books": {"book": book},
        "customers": {"acme": acme, "beta": {"subjects": ["beta"]}},
        "subscriptions": {
            "s": {"customer": "acme", "price_book": "book", "start": "2026-11-01T00:00:00Z", "timezone": "UTC"},
            "t": {"customer": "beta", "price_book": "book", "start": "2026-11-01T00:00:00Z", "period": period},
        },
    }
    if dice.random() < 0.5:
        catalogue["default_subscription"] = {"price_book": "book"}
    return catalogue, change


def _meter(dice: random.Random) -> Document:
    aggregate = dice.choice(("sum", "sum", "sum", "sum", "count", "max", "latest"))
    meter: Document = {"event": "use", "aggregate": aggregate, "dimensions": {"model": "$.model"}}
    if aggregate != "count":
        meter["value"] = "$.n"
    return meter


def _price(dice: random.Random) -> Document:
    model = dice.choice(("unit", "graduated", "graduated", "volume", "stairstep", "package"))
    if model == "unit":
        return {"model": model, "unit_amount": dice.choice(UNIT_AMOUNTS)}
    if model == "package":
        return {"model": model, "package_size": dice.choice(("1", "10", "0.3")), "package_amount": "5"}
    tiers: list[Document] = [{"up_to": bound} for bound in dice.choice((("5",), ("2.5", "10")))] + [{}]
    for tier in tiers:
        if model != "stairstep":
            tier["unit_amount"] = dice.choice(UNIT_AMOUNTS)
        if model == "stairstep" or dice.random() < 0.4:
            tier["flat_amount"] = dice.choice(FLAT_AMOUNTS)
    return {"model": model, "tiers": tiers}


def _changed(dice: random.Random, catalogue: Document, since: datetime) -> Document:
    """Another catalogue, which holds from `since` on: nothing that happened before is told otherwise by it."""
    changed: Document = json.loads(json.dumps(catalogue))
    how = dice.choice(("version", "customer", "both"))
    if how != "customer":
        book = changed["price_books"]["book"]
        later = json.loads(json.dumps(book)) | {"effective_from": _text(since)}
        later["charges"]["c"]["price"] = _price(dice)
        changed["price_books"]["book"] = {"versions": [book, later]}
    if how != "version":
        changed["customers"]["delta"] = {"subjects": ["team-d"]}
        terms = {"customer": "delta", "price_book": "book", "start": _text(since), "timezone": "UTC"}
        changed["subscriptions"]["u"] = terms
    return changed


# Inputs --------------------------------------------------------------------------------------------------------------


def _inputs(dice: random.Random, catalogue: Document, change: datetime | None) -> tuple[Input, ...]:
    inputs: list[Input] = []
    sent: list[str] = []
    now, subjects, since = BEGIN, list(SUBJECTS), None
    for number in range(dice.randint(2, 7)):
        now += timedelta(hours=dice.choice((0, 1, 5, 30, 100, 200)))
        if now > LAST:
            break
        if change is not None and since is None and now + timedelta(days=2) > change:
            # Before anything is sent whose time it may concern.
            changed = _changed(dice, catalogue, change)
            inputs.append(Change(json.dumps(changed)))
            since = change
            if "delta" in changed["customers"]:
                subjects.append("team-d")
        if dice.random() < 0.2:
            inputs.append(Tick(_text(now)))
            continue
        texts = [_text_of_event(dice, f"e{number}.{at}", now, subjects, sent) for at in range(dice.randint(1, 4))]
        sent += texts
        inputs.append(Events(_text(now), tuple(texts)))
    if dice.random() < 0.7:
        inputs.append(Tick(dice.choice(("2026-12-04T00:00:00Z", "2027-01-03T00:00:00Z"))))
        if dice.random() < 0.4 and sent:
            text = _text_of_event(dice, "late", LAST, list(SUBJECTS), sent)
            inputs += [Events(_text(LAST), (text,)), Tick("2027-01-05T00:00:00Z")]
    return tuple(inputs)


def _text_of_event(dice: random.Random, name: str, now: datetime, subjects: list[str], sent: list[str]) -> str:
    """An event as a client writes it; sometimes one that was sent before, one that differs from it, or a void of it."""
    how = dice.random()
    if sent and how < 0.15:
        return dice.choice(sent)
    earlier = json.loads(dice.choice(sent)) if sent else None
    if earlier and earlier["type"] == "use" and how < 0.2:
        return _event(earlier["id"], "use", earlier["subject"], earlier["time"], '{"n": 4, "model": "other"}')
    if earlier and how < 0.3:
        data = json.dumps({"source": "gate", "id": earlier["id"], "reason": "wrong"})
        return _event(f"v{name}", "taximeter.void", earlier["subject"], _text(now), data)
    time = now + dice.choice((timedelta(0), -timedelta(hours=3), -timedelta(days=4), timedelta(hours=20)))
    subject = dice.choice(subjects)
    if subject == "team-d":
        time = now + timedelta(days=2)  # never before its agreement begins
    value = dice.choice(VALUES * 4 + FAULTY)
    kind = dice.choice(("use", "use", "use", "call"))
    return _event(name, kind, subject, _text(time), f'{{"n": {value}, "model": {dice.choice(_MODELS)}}}')


_MODELS = ('"large"', '"small"', "null")


def _event(id: str, kind: str, subject: str, time: str, data: str) -> str:
    head = {"specversion": "1.0", "id": id, "source": "gate", "type": kind, "subject": subject, "time": time}
    return f'{json.dumps(head)[:-1]}, "data": {data}}}'


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


# Faults --------------------------------------------------------------------------------------------------------------


def _faults(dice: random.Random, host: str, partitions: int, seed: int) -> tuple[Fault, ...]:
    """Mostly up to five faults; of each kind and place one comes in its turn, so that none is left to luck."""
    if dice.random() < 0.05:
        return ()
    turn = _TURNS[host][(seed // 4 if host == "embedded" else seed - seed // 4) % len(_TURNS[host])]
    thrown = [_fault(dice, *turn, dice.choice((1, 1, 2, 3)))]
    for _ in range(dice.randint(0, 4)):
        thrown.append(_fault(dice, *dice.choice(_TURNS[host]), dice.choice((1, 2, 3, 4, 5, 7))))
    if host == "kafka" and dice.random() < 0.35:
        thrown += _duel(dice, partitions)
    return tuple({(fault.kind, fault.place, fault.nth): fault for fault in thrown}.values())


def _duel(dice: random.Random, partitions: int) -> list[Fault]:
    """An owner is given up, and comes back about when another takes over; that one may be slow to do so."""
    comes: tuple[tuple[Kind, str], ...] = (("stand_still", dice.choice(_STEPS)), ("cut_off", ""))
    kind, place = dice.choice(comes)
    seconds, part = round(dice.uniform(5.5, 9.0), 3), round(dice.random(), 3)
    found = [Fault(kind, dice.choice((1, 2, 3)), place, seconds, part)]
    if dice.random() < 0.6:
        place = dice.choice(("after_open", "after_restore", "after_read"))
        nth = partitions + dice.choice((1, 1, 2))
        found.append(Fault("stand_still", nth, place, round(dice.uniform(0.5, 3.5), 3)))
    return found


def _fault(dice: random.Random, kind: Kind, place: str, nth: int) -> Fault:
    seconds = 0.0
    if kind in ("stand_still", "cut_off"):
        seconds = dice.choice((0.5, 4.0, 7.0, 9.0, 15.0))
    elif kind in ("late_write", "slow_send"):
        seconds = dice.choice((1.0, 5.0, 8.0, 10.0))
    return Fault(kind, nth, place, seconds, round(dice.random(), 3))


_STEPS = ("after_read", "after_process", "after_process", "after_journal", "after_fence", "after_emit")
_SENDS: tuple[Kind, ...] = ("lost_ack", "failed_send", "late_write", "slow_send")
_WHOSE = ("journal", "outputs", "door")
_ONES: dict[str, tuple[Kind, ...]] = {
    "kafka": (
        *("cut_off", "cut_off", "join", "leave", "failed_read", "dropped_message", "repeated_messages"),
        *(
            "stale_messages",
            "torn_snapshot",
            "torn_snapshot",
            "flipped_bit",
            "flipped_bit",
            "flipped_bit",
            "full_disk",
            "door_crash",
        ),
    ),
    "embedded": (
        "torn_snapshot",
        "torn_snapshot",
        "flipped_bit",
        "flipped_bit",
        "flipped_bit",
        "full_disk",
        "full_log",
        "leave",
    ),
}
_TURNS: dict[str, list[tuple[Kind, str]]] = {
    "kafka": [
        *(("crash", place) for place in KAFKA_PLACES),
        *(("stand_still", place) for place in KAFKA_PLACES),
        *((kind, whose) for kind in _SENDS for whose in _WHOSE),
        *((kind, "") for kind in _ONES["kafka"]),
    ],
    "embedded": [*(("crash", place) for place in EMBEDDED_PLACES), *((kind, "") for kind in _ONES["embedded"])],
}
"""Every fault that may come, by host."""
