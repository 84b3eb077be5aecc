"""A rejection says where its event came in, to the very event, whether a log numbers events or messages."""

import msgspec
import pytest

from schemas import topics
from schemas.entry import Entry
from tests.unit.rating.engines import Log, event, open_engine

BOOK = """
meters: {n: {event: use, aggregate: sum, value: $.n}}
price_books: {b: {currency: USD, charges: {n: {meter: n, price: {model: unit, unit_amount: "1"}}}}}
default_subscription: {price_book: b, period: month, anchor: 1}
"""


def _places(entries: list[Entry]) -> list[tuple[object, ...]]:
    engine = open_engine()
    outputs = [output for output in engine.process(entries).outputs if output.topic == topics.REJECTIONS]
    places = [msgspec.json.decode(output.value)["where"] for output in outputs]
    return [(place["partition"], place["offset"], place.get("index")) for place in places]


@pytest.fixture
def log() -> Log:
    """A catalogue, a pack of three events of which the last two lack the value, and a pack of one that lacks it."""
    data = ['{"n": 1}', "{}", "{}", "{}"]
    texts = [event(f"e{n}", "2026-11-02T00:00:00Z", text) for n, text in enumerate(data)]
    return Log().catalogue(BOOK).events(texts[:3]).events(texts[3:])


def test_an_offset_of_its_own_is_the_place_of_an_event(log: Log) -> None:
    assert _places(log.entries) == [(0, 2, None), (0, 3, None), (0, 4, None)]


def test_events_that_share_an_offset_have_an_index_too(log: Log) -> None:
    messages = [Entry(n, n + 1, entry.value) for n, entry in enumerate(log.entries)]
    assert _places(messages) == [(0, 1, 1), (0, 1, 2), (0, 2, None)]
