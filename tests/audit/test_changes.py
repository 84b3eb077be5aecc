"""The audit where the catalogue changes between events, and where what was billed is rated again."""

import json
from pathlib import Path

from rating.catalogue import load_catalogue
from schemas.entry import CATALOGUE, Rerate, encode_entry, encode_rerate
from schemas.faults import encode_document
from schemas.times import parse_time
from taximeter.audit.run import GONE
from tests.audit.running import Recorded, audited, told
from tests.oracle.engine import as_bytes

BOOK = """
meters:
  tokens: {event: use, aggregate: sum, value: $.n}
  calls: {event: use, aggregate: count}
price_books:
  book:
    currency: USD
    charges:
      fee: {price: {model: flat, amount: "20"}, when: in_advance}
      tokens: {meter: tokens, price: {model: unit, unit_amount: "0.5"}}
    thresholds: [{spend: "30"}]
default_subscription: {price_book: book}
"""
DEARER = BOOK.replace('unit_amount: "0.5"', 'unit_amount: "0.75"')
CALLS = '      calls: {meter: calls, price: {model: unit, unit_amount: "3"}}'
MORE = BOOK.replace("    thresholds", f"{CALLS}\n    thresholds")
OWN = (
    BOOK
    + """
subscriptions:
  acme-own: {customer: acme, price_book: book, start: 2026-11-15T00:00:00Z}
"""
)


def use(id: str, day: str, n: str = "4", subject: str = "acme") -> str:
    head = {"specversion": "1.0", "id": id, "source": "gate", "type": "use", "subject": subject}
    head["time"] = f"{day}T00:00:00Z"
    return json.dumps(head)[:-1] + f', "data": {{"n": {n}}}}}'


def play(*steps: str) -> Recorded:
    """Events (JSON), ticks (times), catalogues (YAML), and `rerate CUSTOMER SINCE`, in their order."""
    rater = Recorded(BOOK)
    for step in steps:
        if step.startswith("{"):
            rater.add(as_bytes([step]), [1])
        elif step.startswith("rerate"):
            _, customer, since = step.split()
            rater.entry(encode_rerate(Rerate(customer=customer, since=since)))
        elif step[:2] == "20":
            rater.tick(parse_time(step))
        else:
            rater.entry(encode_entry(CATALOGUE, encode_document(load_catalogue(step).documents)))
    return rater


def test_prices_that_change_within_a_period(tmp_path: Path) -> None:
    rater = play(
        use("1", "2026-11-02"), use("2", "2026-11-03"), DEARER, use("3", "2026-11-04"), use("4", "2026-11-05", "9"),
        "2026-12-02T00:00:00Z",
    )  # fmt: skip
    report = audited(rater, tmp_path)
    assert told(report) == []
    assert (report.not_audited, report.line_items, report.invoices) == ({}, 3, 1)


def test_a_charge_that_is_new_counts_what_comes_after_it(tmp_path: Path) -> None:
    rater = play(use("1", "2026-11-02"), MORE, use("2", "2026-11-03"), use("3", "2026-11-04"), "2026-12-02T00:00:00Z")
    report = audited(rater, tmp_path)
    assert told(report) == [] and not report.not_audited
    calls = next(item for item in rater._latest.values() if item.charge == "calls")
    assert calls.quantity == "2"


def test_a_change_after_the_close_leaves_the_bill_as_it_is(tmp_path: Path) -> None:
    rater = play(use("1", "2026-11-02"), "2026-12-02T00:00:00Z", DEARER, use("2", "2026-12-03"), "2027-01-02T00:00:00Z")
    report = audited(rater, tmp_path)
    assert told(report) == [] and not report.not_audited


def test_late_usage_under_changed_prices_is_named(tmp_path: Path) -> None:
    rater = play(use("1", "2026-11-02"), "2026-12-02T00:00:00Z", DEARER, use("2", "2026-11-03"), "2026-12-03T00:00:00Z")
    report = audited(rater, tmp_path)
    assert told(report) == []
    assert "usage came to it after its close, under a catalogue that had changed" in {w for _, w in report.not_audited}


def test_a_bill_that_was_rated_again(tmp_path: Path) -> None:
    rater = play(
        use("1", "2026-11-02"), "2026-12-02T00:00:00Z", DEARER, "rerate acme 2026-11-01T00:00:00Z",
        use("2", "2026-12-03"),
    )  # fmt: skip
    assert [invoice.kind for invoice in rater.rated.invoices] == ["period", "correction"]
    report = audited(rater, tmp_path)
    assert told(report) == [] and not report.not_audited
    assert report.invoices == 2


def test_a_subscription_of_ones_own_in_place_of_the_default(tmp_path: Path) -> None:
    rater = play(use("1", "2026-11-02"), OWN, use("2", "2026-11-20"), use("3", "2026-11-21", subject="beta"))
    report = audited(rater, tmp_path)
    assert told(report) == []
    assert {why for _, why in report.not_audited} == {GONE}
