"""A changed catalogue cuts a period that has begun: its lines say so, whenever they were written before."""

import pytest

from rating.engine import RatingEngine
from streams.processor import Output
from tests.unit.rating.engines import Log, event, latest_lines, open_engine

CATALOGUE = """
meters: {m: {event: use, aggregate: sum, value: $.n}}
price_books: {b: %s}
subscriptions: {s: {customer: acme, price_book: b, start: 2026-11-01T00:00:00Z}}
"""
BODY = "{currency: USD, charges: {c: {meter: m, price: {model: unit, unit_amount: '2'}}}}"
VERSIONS = f"{{versions: [{BODY}, {{effective_from: 2026-11-21T00:00:00Z, {BODY[1:]}]}}"


def _log() -> Log:
    log = Log().catalogue(CATALOGUE % BODY).events([event("1", "2026-11-02T00:00:00Z")])
    return log.catalogue(CATALOGUE % VERSIONS)


def _run(engine: RatingEngine, log: Log, cut: int) -> list[Output]:
    steps = [log.entries[at : at + cut] for at in range(0, len(log.entries), cut)]
    return [output for step in steps for output in engine.process(step).outputs]


@pytest.mark.parametrize("closed", [False, True])
def test_a_line_says_where_its_segment_ends_now_at_any_cut(closed: bool) -> None:
    log = _log()
    if closed:
        last = log.entries.pop()
        log.tick("2026-12-01T00:00:00Z")
        log._value(last.value, 1)
    said = [latest_lines(_run(open_engine(), log, cut)) for cut in (1, 2, 3, 4)]
    (line,) = said[0].values()
    assert line["period"] == {"start": "2026-11-01T00:00:00Z", "end": "2026-11-21T00:00:00Z"}
    assert line["revision"] == 2
    assert said[1:] == said[:1] * 3


def test_a_line_says_which_version_it_stands_under_now() -> None:
    earlier = VERSIONS.replace("[{", "[{effective_from: 2026-10-01T00:00:00Z, ", 1)
    two = earlier.replace("[{", f"[{BODY}, {{", 1)
    log = _log()
    log.catalogue(CATALOGUE % two)
    said = [latest_lines(_run(open_engine(), log, cut)) for cut in (1, 2, 3, 4)]
    (line,) = said[0].values()
    assert (line["price_version"], line["revision"]) == (2, 3)
    assert said[1:] == said[:1] * 3


def test_the_same_catalogue_again_says_nothing() -> None:
    log, engine = _log(), open_engine()
    _run(engine, log, 1)
    assert not engine.process([log.catalogue(CATALOGUE % VERSIONS).entries[-1]]).outputs
