"""After a repair, what does not agree with what was emitted is said again above it; what agrees is left."""

import msgspec
import pytest

from rating.engine import RatingEngine
from rating.rise import rise_above
from schemas import topics
from schemas.output import LineItem
from streams.processor import Output
from tests.unit.rating.engines import Log, event, open_engine, run

BOOK = """
meters:
  use: {event: use, aggregate: sum, value: $.n}
price_books:
  book: {currency: USD, charges: {use: {meter: use, price: {model: unit, unit_amount: "0.5"}}}}
default_subscription: {price_book: book, period: month}
"""


@pytest.fixture
def log() -> Log:
    texts = [event(f"e{n}", f"2026-11-{1 + n:02d}T00:00:00Z", subject=f"c{n % 3}") for n in range(12)]
    return Log().catalogue(BOOK).events(texts, batch=2)


def emitted(outputs: list[Output]) -> list[tuple[bytes, bytes]]:
    return [(output.key, output.value) for output in outputs if output.topic == topics.LINE_ITEMS]


def changed(value: bytes, **changes: object) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(msgspec.json.decode(value, type=LineItem), **changes))


def engine_of(log: Log, entries: int, cut: int) -> tuple[RatingEngine, list[Output]]:
    engine = open_engine()
    outputs: list[Output] = []
    for start in range(0, entries, cut):
        outputs += engine.process(log.entries[start : min(start + cut, entries)]).outputs
    return engine, outputs


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
def test_other_cuts_say_the_same_under_the_same_revisions_and_nothing_is_said_again(log: Log, cut: int) -> None:
    engine, outputs = engine_of(log, len(log.entries), cut)
    by_one = dict.fromkeys(emitted(run(log)))
    assert {one for one in emitted(outputs)} <= by_one.keys()
    assert rise_above(engine, by_one) == []
    assert rise_above(engine, []) == []


def test_what_was_emitted_of_a_part_that_the_state_lacks_is_left(log: Log) -> None:
    engine, _ = engine_of(log, len(log.entries) - 2, 1)
    assert rise_above(engine, emitted(run(log))) == []
    rest = [output for entry in log.entries[-2:] for output in engine.process([entry]).outputs]
    assert set(emitted(rest)) <= set(emitted(run(log)))


@pytest.mark.parametrize("ahead", [0, 5])
def test_a_wrong_line_is_said_again_above_it(log: Log, ahead: int) -> None:
    engine, outputs = engine_of(log, len(log.entries), 1)
    key, value = emitted(outputs)[-1]
    right = msgspec.json.decode(value, type=LineItem)
    wrong = changed(value, amount="999", revision=right.revision + ahead)
    (risen,) = rise_above(engine, [*emitted(outputs)[:-1], (key, wrong)])
    assert risen.key == key
    again = msgspec.json.decode(risen.value, type=LineItem)
    assert again == msgspec.structs.replace(right, revision=right.revision + ahead + 1)
    assert rise_above(engine, [(key, wrong), (risen.key, risen.value)]) == []
    # What comes next goes on above it.
    more = Log().catalogue(BOOK)
    more.entries[0] = more.entries[0]._replace(offset=log.entries[-1].end, end=log.entries[-1].end + 1)
    more.events([event("late", "2026-11-20T00:00:00Z", subject=again.customer)])
    (last,) = emitted(engine.process(more.entries[1:]).outputs)
    assert msgspec.json.decode(last[1], type=LineItem).revision > again.revision
