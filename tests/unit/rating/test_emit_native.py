"""The library writes each line as it is written by hand: numbers, times, texts and tiers at their extremes."""

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import rating.emit_native
from native.library import is_loaded
from rating.billing import Biller
from rating.emit_native import Texts, Writer, encode_by_library
from rating.exact import wide_of
from rating.items import encode_by_hand
from rating.state import State
from schemas.numbers import ONE, SCALED_MAX
from schemas.times import DAY, parse_time
from streams.processor import Block
from tests.unit.rating.engines import Log, event, open_engine

pytestmark = pytest.mark.skipif(not is_loaded(), reason="the compiled library is not there")
THROWS = settings(max_examples=100, deadline=None, derandomize=True)
BOOK = """
meters: {sum: {event: use, aggregate: sum, value: $.n, dimensions: {model: $.model, kind: $.kind}}}
price_books:
  book:
    currency: USD
    charges:
      platform: {price: {model: flat, amount: 10}, when: in_advance}
      unit: {meter: sum, group_by: [model, kind], price: {model: unit, unit_amount: 1}}
      graduated: {meter: sum, free_units: "0.5", bill_zero_usage: true, price: {model: graduated, tiers: [
        {up_to: 2, unit_amount: 1, flat_amount: "0.1"}, {up_to: "7.5", unit_amount: "0.333333333333", flat_amount: 3},
        {up_to: 8, unit_amount: 0}, {unit_amount: "0.5"}]}}
      package: {meter: sum, price: {model: package, package_size: "0.3", package_amount: "0.7"}}
      down: {meter: sum, group_by: [kind, kind],
        price: {model: package, package_size: 3, package_amount: "0.5", round: down}}
default_subscription: {price_book: book, period: month}
"""
SCALED = st.one_of(
    st.integers(-SCALED_MAX, SCALED_MAX),
    st.sampled_from([n * s for n in (0, 1, ONE - 1, ONE, 2**63, 2**64, 10**18 * ONE, SCALED_MAX) for s in (1, -1)]),
    st.builds(lambda digits, power: digits * 10**power, st.integers(-9999, 9999), st.integers(0, 34)),
)
"""Up to 38 digits, with many noughts too, and about the widths of C's numbers."""
TIMES = st.one_of(
    st.integers(parse_time("1970-01-01T00:00:00Z"), parse_time("9998-12-31T23:59:59.999999Z")),
    st.integers(-719_162, 2_932_896).map(lambda day: day * DAY),
    st.sampled_from([f"{y}-02-28T23:59:59.999999Z" for y in (2000, 2100, 2024, 2023)]).map(parse_time),
)
"""Of the whole allowed range, and midnights from the year 1 to 9999: leap days, ends of centuries."""
COUNTS = st.integers(0, 2**63 - 1)
WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)


@pytest.fixture
def state() -> State:
    """One line of each charge."""
    engine = open_engine()
    data = '{"n": 6, "model": "large", "kind": "in"}'
    for entry in Log().catalogue(BOOK).events([event("e", "2026-11-05T00:00:00Z", data)]).entries:
        engine.process([entry])
    assert engine.state.lines.size == 5
    return engine.state


def both(state: State) -> None:
    """Holds the library against the reference, for all lines."""
    state.heads = None  # what the tests put in is in no cache
    lines = np.arange(state.lines.size, dtype=np.int64)
    biller = Biller(state)
    found = encode_by_library(state, biller, lines)
    assert found == [encode_by_hand(state, biller, line) for line in lines.tolist()]
    assert encode_by_library(state, biller, lines) == found, "with the identities that are known"


def line_of(state: State, charge: str) -> int:
    return state.lines["charge"][: state.lines.size].tolist().index(state.charges.find(charge))


@THROWS
@given(SCALED, SCALED, COUNTS, COUNTS, COUNTS.map(lambda n: n - 1))
@example(-SCALED_MAX, SCALED_MAX, 0, 2**63 - 1, -1)
def test_numbers(quantity: int, amount: int, events: int, revision: int, through: int) -> None:
    state = NUMBERS
    state.lines["first"][:5] = state.lines["last"][:5] = 0
    state.lines["quantity"][:5], state.lines["amount"][:5] = wide_of(quantity), wide_of(amount)
    state.lines["events"][:5], state.lines["revision"][:5], state.lines["through"][:5] = events, revision, through
    both(state)


@THROWS
@given(TIMES, TIMES, TIMES, TIMES)
def test_times(start: int, end: int, first: int, last: int) -> None:
    state = NUMBERS
    state.lines["first"][:5], state.lines["last"][:5] = first, last
    state.lines["events"][:5] = 1
    state.bills["start"][0], state.bills["end"][0] = start, end
    both(state)


@THROWS
@given(WORDS, WORDS, WORDS | st.none(), WORDS | st.none())
@example('"\\/\b\f\n\r\t\0\x1f\x7f\x80\u2028\U0001f600', "", "", None)
def test_texts_and_the_identities_made_of_them(customer: str, id: str, model: str | None, kind: str | None) -> None:
    state = NUMBERS
    state.own_names[0] = (id, customer)
    state.combos.values[1:] = [tuple([model, kind][: len(values)]) for values in state.combos.values[1:]]
    both(state)


@pytest.mark.parametrize("count", range(0, 300, 7))
def test_identities_of_every_length(state: State, count: int) -> None:
    for more in range(7):
        state.own_names[0] = ("id", "x" * (count + more))
        both(state)


@THROWS
@given(
    st.integers(-(10**14), 10**14)
    | st.sampled_from([0, ONE // 2, ONE // 2 + 1, 5 * ONE // 2, 8 * ONE, 8 * ONE + 1, 17 * ONE // 2, 3 * ONE])
    | st.integers(0, 10**24).map(lambda n: n * ONE)
)
def test_tiers(quantity: int) -> None:
    state = NUMBERS
    cells = state.cells
    for cell in range(cells.size):
        line = int(cells["line"][cell])
        rate = state.catalogue.rates[state.lines["rate"][line]]
        left = max(quantity - rate.free_units, 0) if quantity > 0 else quantity
        cells["value"][cell] = cells["quantity"][cell] = wide_of(quantity)
        cells["amount"][cell] = wide_of(rate.tables[0].amount(left, rate.bill_zero_usage))
        state.lines["events"][line] = 1
    both(state)


def test_a_tier_whose_bounds_do_not_fit_is_left_to_the_reference(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    line = line_of(state, "graduated")
    whole = encode_by_hand(state, Biller(state), line)
    monkeypatch.setattr(rating.emit_native, "_full_tiers", lambda rate, number: None)
    monkeypatch.setattr(rating.emit_native, "encode_by_hand", lambda state, biller, line: ("by hand", line))
    state.heads = None
    found: list[Any] = encode_by_library(state, Biller(state), np.arange(state.lines.size))
    assert found[line] == ("by hand", line)
    assert whole not in found
    repeated = line_of(state, "down")
    assert [at for at, output in enumerate(found) if output[0] == "by hand"] == sorted([line, repeated])


def test_a_line_longer_than_the_buffer_is_written_alone(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rating.emit_native, "_ROOM", 700)
    state.own_names[0] = ("id", "x" * 5000)
    both(state)


def test_parts_are_cut_and_joined(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rating.emit_native, "_ROWS", 2)
    both(state)


def test_lines_stand_in_blocks_that_hold_nothing_else(state: State) -> None:
    lines = np.resize(np.arange(2), 10_000)
    outputs = encode_by_library(state, Biller(state), lines)
    blocks = [part for part in outputs.parts if isinstance(part, Block)]
    assert len(blocks) == len(outputs.parts) > 1
    said = sum(len(output.value) for output in outputs)
    assert said <= sum(len(block.values) for block in blocks) < 2 * said, "little room behind what is said"
    assert sum(len(block.keys) for block in blocks) == sum(len(output.key) for output in outputs)


def test_lines_that_are_left_stand_at_their_places_among_blocks(state: State) -> None:
    left = line_of(state, "down")  # it names one dimension twice
    first, second, third, *_ = (line for line in range(state.lines.size) if line != left)
    lines = np.array([first, left, left, second, third, left, first])
    outputs = encode_by_library(state, Biller(state), lines)
    assert [len(part) if isinstance(part, Block) else 0 for part in outputs.parts] == [1, 0, 0, 2, 0, 1]
    assert outputs == [encode_by_hand(state, Biller(state), line) for line in lines.tolist()]


def test_what_is_new_since_the_last_time_is_written_too() -> None:
    engine = open_engine()
    log = Log().catalogue(BOOK)
    for i in range(50):
        data = msgspec.json.encode({"n": i, "model": f"m{i % 7}", "kind": None if i % 3 else f"k{i}"}).decode()
        log.events([event(f"e{i}", f"2026-{11 + i % 2}-05T00:00:00Z", data, subject=f"customer-{i}")])
    for entry in log.entries:
        for output in engine.process([entry]).outputs:
            assert msgspec.json.decode(output.value)["id"].encode() == output.key
    before: Writer = engine.state.heads
    lines = np.arange(engine.state.lines.size)
    kept = encode_by_library(engine.state, Biller(engine.state), lines)
    assert engine.state.heads is before
    both(engine.state)
    assert encode_by_library(engine.state, Biller(engine.state), lines) == kept


def test_a_line_keeps_its_identity_and_little_else() -> None:
    engine = open_engine()
    rows = [event(f"e{i}", "2026-11-05T00:00:00Z", f'{{"n": 1, "model": "m{i}"}}') for i in range(20_000)]
    for entry in Log().catalogue(BOOK).events(rows).entries:
        engine.process([entry])
    writer: Writer = engine.state.heads
    assert writer.nbytes / engine.state.lines.size < 100


def test_texts_grow() -> None:
    texts, all = Texts(), [["a", ""], [], ["ü" * 100], [f"t{i}" for i in range(100)]]
    for part in all:
        texts.add(part)
    ends = texts.ends[: texts.count + 1].tolist()
    found = [bytes(texts.bytes[a:b]).decode() for a, b in pairwise(ends)]
    assert found == [text for part in all for text in part]


NUMBERS: State = state.__wrapped__()  # type: ignore[attr-defined]
"""For Hypothesis: each example puts in what it is about."""
