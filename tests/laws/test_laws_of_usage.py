"""Laws that the engine keeps by itself, whatever is thrown: repeated events, voids, more usage, finer usage."""

import json
import random
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.oracle import thrown, thrown_invoices
from tests.oracle.engine import canonical, run_engine
from tests.oracle.generate import Thrown
from tests.oracle.oracle import Tick
from tests.oracle.thrown_prices import UNIT_AMOUNTS, Document, percentage, rising, tiered
from tests.oracle.throws import throws

THROWS = throws(20)
ANY = st.one_of(thrown.priced(), thrown.metered(), thrown.corrected(), thrown.segmented(), thrown_invoices.settled())
VALUES = st.sampled_from(["0", "0.1", "1", "2.5", "5", "7", "10", "12.5", "100"])


@THROWS
@given(ANY, st.randoms(use_true_random=False))
def test_what_comes_twice_changes_nothing(case: Thrown, dice: random.Random) -> None:
    repeated: list[Any] = []
    for one in case.events:
        repeated.append(one)
        earlier = [event for event in repeated if not isinstance(event, Tick)]
        if earlier and dice.random() < 0.5:
            repeated.append(dice.choice(earlier))
    assert canonical(run_engine(case.catalogue, repeated, case.as_of)) == canonical(run_engine(*case))


@THROWS
@given(st.one_of(thrown.metered(), thrown.corrected()))
def test_a_void_of_everything_leaves_no_usage(case: Thrown) -> None:
    taken_back = []
    for at, one in enumerate(case.events):
        event = {} if isinstance(one, Tick) else json.loads(one)
        if event.get("type") == "use":
            taken_back.append(thrown.void(f"all{at}", event["id"], event["subject"]))
    found = run_engine(case.catalogue, [*(e for e in case.events if not isinstance(e, Tick)), *taken_back])
    assert [item for item in found["line_items"] if item["meter"]] == []


@st.composite
def steps_that_rise(draw: Any) -> Document:
    """`stairstep` whose steps cost more and more."""
    amounts = sorted(draw(st.lists(st.sampled_from([0, 5, 20]), min_size=3, max_size=3)))
    tiers: list[Document] = [{"flat_amount": str(amount)} for amount in amounts]
    tiers[0]["up_to"], tiers[1]["up_to"] = "2.5", "10"
    return {"model": "stairstep", "tiers": tiers}


@THROWS
@given(st.one_of(rising(), steps_that_rise(), percentage()), st.lists(VALUES, min_size=2, max_size=6))
def test_a_charge_never_falls_when_usage_rises(price: Document, values: list[str]) -> None:
    amounts = [_amount(price, values[:count]) for count in range(1, len(values) + 1)]
    assert amounts == sorted(amounts)


@THROWS
@given(st.one_of(tiered("graduated"), tiered("graduated_percentage")), st.integers(1, 30))
def test_together_costs_what_one_by_one_costs(price: Document, count: int) -> None:
    assert _amount(price, [str(count)]) == _amount(price, ["1"] * count)


@THROWS
@given(st.sampled_from(UNIT_AMOUNTS), st.lists(VALUES, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_periods_cost_what_the_whole_costs(unit_amount: str, values: list[str], dice: random.Random) -> None:
    days = [dice.randrange(1, 31) for _ in values]
    price = {"model": "unit", "unit_amount": unit_amount}
    assert _amount(price, values, days, "day") == _amount(price, values, days, "month")


def _amount(price: Document, values: list[str], days: list[int] | None = None, period: str = "month") -> Fraction:
    """What usage comes to in November, unrounded."""
    book = thrown.frame({"c": {"meter": "m", "price": price}}, {"m": thrown.SUM})
    book["subscriptions"]["s"]["period"] = period
    events = [_use(at, value, days[at] if days else 2) for at, value in enumerate(values)]
    items = run_engine(thrown.text_of(book), events)["line_items"]
    return sum((Fraction(item["amount"]) for item in items), Fraction(0))


def _use(at: int, value: str, day: int) -> str:
    head = {"specversion": "1.0", "id": f"e{at}", "source": "gate", "type": "use", "subject": "team-a"}
    return f'{json.dumps({**head, "time": f"2026-11-{day:02}T12:00:00Z"})[:-1]}, "data": {{"n": {value}}}}}'
