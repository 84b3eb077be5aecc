"""The engine says the same, byte by byte, and comes to the same state, whether its hot paths are compiled or Python."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.library import is_loaded
from tests.oracle import thrown, thrown_invoices
from tests.oracle.engine import run_engine
from tests.oracle.generate import Thrown
from tests.oracle.throws import throws
from tests.unit.rating.engines import Log, open_engine

pytestmark = pytest.mark.skipif(not is_loaded(), reason="the compiled library is not there")
THROWS = throws(20)
ANY = st.one_of(thrown.priced(), thrown.metered(), thrown.corrected(), thrown.segmented(), thrown_invoices.settled())


@contextmanager
def in_python() -> Iterator[None]:
    """Within it every compiled function of the engine is left out."""
    engine = [module for name, module in sys.modules.items() if name.startswith("rating.")]
    natives = [(module, name) for module in engine for name in vars(module) if name.startswith("_NATIVE_")]
    assert len(natives) > 8
    with pytest.MonkeyPatch.context() as patch:
        for module, name in natives:
            patch.setattr(module, name, None)
        yield


@THROWS
@given(ANY)
def test_whatever_is_thrown(case: Thrown) -> None:
    compiled = run_engine(*case)
    with in_python():
        assert run_engine(*case) == compiled


CATALOGUE = """
meters:
  tokens: {event: ask, aggregate: sum, value: $.tokens, dimensions: {model: $.model, kind: $.kind}}
  asked:  {event: ask, aggregate: count, dimensions: {model: $.model}}
  people: {event: seen, aggregate: unique_count, value: $.who}
price_books:
  default:
    currency: USD
    charges:
      platform: {price: {model: flat, amount: "20"}, when: in_advance}
      setup:    {price: {model: one_time, amount: "5"}, when: in_advance}
      tokens:   {meter: tokens, group_by: [model],
                 price: {model: matrix, by: [kind], cells: [
                   {match: {kind: output}, price: {model: unit, unit_amount: "0.015"}}],
                   otherwise: {model: unit, unit_amount: "0.003"}}}
      asked:    {meter: asked, free_units: 10, price: {model: unit, unit_amount: "0.01"}}
      people:   {meter: people, price: {model: unit, unit_amount: "1"}}
  short:
    currency: USD
    charges:
      tokens: {meter: tokens, price: {model: unit, unit_amount: "0.5"}}
default_subscription: {price_book: default}
subscriptions:
  one: {customer: customer-1, price_book: short, start: 2026-11-01T00:00:00Z, end: 2026-11-12T06:00:00Z}
  hourly: {customer: customer-2, price_book: short, period: hour, start: 2026-11-02T00:30:00Z}
  zone: {customer: customer-3, price_book: default, timezone: America/St_Johns, start: 2026-11-03T00:00:00Z}
  too: {customer: customer-4, price_book: default, start: 2026-10-03T00:00:00Z}
  paused: {customer: customer-5, price_book: default, start: 2026-10-03T00:00:00Z,
           pauses: [{start: 2026-10-20T00:00:00Z, end: 2026-11-02T00:00:00Z}]}
"""


def thrown_events(dice: random.Random, count: int, customers: int) -> list[str]:
    """Events of many customers over six weeks: what one lacks, a value of the wrong kind, a type that nobody meters."""
    found = []
    for _ in range(count):
        day, hour = dice.randrange(42), dice.randrange(24)
        time = f"2026-{10 + day // 28}-{1 + day % 28:02}T{hour:02}:{dice.randrange(60):02}:00Z"
        model, kind = dice.choice(["large", "small", "größer"]), dice.choice(["input", "output"])
        data = dice.choice(
            [
                f'{{"tokens":{dice.randrange(-5, 10 ** dice.randrange(1, 12))},"model":"{model}","kind":"{kind}"}}',
                f'{{"tokens":{dice.randrange(100)}.{dice.randrange(1000):03},"kind":"{kind}"}}',
                f'{{"tokens":"many","model":"{model}"}}',
                f'{{"who":"{dice.randrange(20)}"}}',
            ]
        )
        customer = dice.choice([f"customer-{dice.randrange(customers)}", "k" * (1 + dice.randrange(customers) % 40)])
        found.append(
            f'{{"specversion":"1.0","id":"{dice.randrange(count * 2)}","source":"/s","subject":"{customer}",'
            f'"type":"{dice.choice(["ask", "ask", "seen", "other"])}","time":"{time}","data":{data}}}'
        )
    return found


def _state(snapshot: bytes) -> object:
    """What a snapshot holds; the births of lines are a mapping, in no order."""
    found = msgspec.msgpack.decode(snapshot)
    for _, state in found["tenants"]:
        state["born"].sort()
    return found


@pytest.mark.parametrize("seed", range(4))
def test_many_customers_and_the_state_after_them(seed: int) -> None:
    dice = random.Random(seed)
    log = Log().catalogue(CATALOGUE)
    for _ in range(3):
        log.events(thrown_events(dice, 900, dice.choice([3, 40, 600])), batch=dice.choice([1, 70, 1000]))
        log.tick("2026-11-20T00:00:00Z" if dice.random() < 0.5 else "2026-10-20T00:00:00Z")
    cuts = sorted({0, len(log.entries), *(dice.randrange(len(log.entries)) for _ in range(4))})

    def run() -> tuple[list[object], list[object]]:
        engine, said = open_engine(), []
        for begin, end in pairwise(cuts):
            said.append(engine.process(log.entries[begin:end]))
        before = engine.snapshot()
        again = open_engine(before)
        said.append(again.process(log.events(thrown_events(random.Random(seed), 50, 700)).entries[cuts[-1] :]))
        return said, [_state(before), _state(again.snapshot())]

    compiled = run()
    del log.entries[cuts[-1] :]
    with in_python():
        assert run() == compiled
