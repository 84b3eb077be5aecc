"""Memory: what a live line and an identity take is bounded, so that a partition's size can be planned."""

import numpy as np

from rating.engine import RatingSettings
from rating.sheets.sheet import SPEC
from tests.unit.rating.engines import Log, event, open_engine

BOOK = """
meters: {units: {event: use, aggregate: sum, value: $.n, dimensions: {key: $.key}}}
price_books:
  book: {currency: USD, charges: {units: {meter: units, group_by: [key], price: {model: unit, unit_amount: 1}}}}
default_subscription: {price_book: book, period: month}
"""
LINES = 100_000


def test_a_line_with_one_cell_takes_less_than_400_bytes_and_an_identity_less_than_67() -> None:
    engine = open_engine(settings=RatingSettings())
    data = (f'{{"n": 1, "key": "k{i}"}}' for i in range(LINES))
    texts = [event(f"e{i}", "2026-11-05T00:00:00Z", text) for i, text in enumerate(data)]
    log = Log().catalogue(BOOK).events(texts, 10_000)
    del texts
    for entry in log.entries:
        engine.process([entry])
    state, identities = engine.state, engine.tenants.identities
    assert state.lines.size == state.cells.size == len(identities) == LINES
    per_identity = identities.nbytes / LINES
    ledger = state.ledger.nbytes
    per_line = (state.nbytes - ledger) / LINES
    print(f"{per_line:.0f} bytes a line, {per_identity:.0f} bytes an identity")
    assert per_identity <= 67
    assert per_line < 400
    assert sum(column.itemsize * width for column, width in ((np.dtype(d), w) for d, w in SPEC.values())) <= 48
