"""Features and entitlements: every fault with its path; and what may change at a meter under open periods."""

import pytest

from rating.catalogue import load_catalogue
from rating.changes import check_change
from schemas.catalogue import CatalogueError

GOOD = """
meters: {tokens: {event: e, aggregate: sum, value: $.n, dimensions: {model: $.model}}}
price_books: {b: {currency: USD, charges: {t: {meter: tokens, price: {model: unit, unit_amount: "1"}}}}}
customers: {acme: {}, beta: {}}
features:
  f: {meter: tokens, filters: {model: [large, small]}}
  plain: {}
entitlements:
  a: {customer: acme, feature: f, start: 2026-11-01T00:00:00Z, end: 2026-11-10T00:00:00Z, allowance: "5"}
  b: {customer: acme, feature: f, start: 2026-11-10T00:00:00Z}
  c: {customer: beta, feature: f, start: 2026-11-01T00:00:00Z, soft_limit: true}
  d: {customer: beta, feature: plain, start: 2026-11-01T00:00:00Z, kind: static, config: '{"n": 1}'}
default_subscription: {price_book: b}
"""


def faults_of(text: str) -> list[str]:
    with pytest.raises(CatalogueError) as refused:
        load_catalogue(text)
    return [str(fault) for fault in refused.value.faults]


def test_good_ones_are_taken() -> None:
    assert len(load_catalogue(GOOD).documents.entitlements) == 4


@pytest.mark.parametrize(
    ("was", "now", "fault"),
    [
        ("{meter: tokens, filters", "{meter: calls, filters", "features.f.meter: found 'calls', expected one"),
        ("filters: {model", "filters: {kind", "features.f.filters.kind: found 'kind', expected one of model"),
        ("plain: {}", "plain: {filters: {model: [x]}}", "features.plain.filters: stands without a meter"),
        ("{customer: acme, feature: f, start: 2026-11-10", "{customer: nobody, feature: f, start: 2026-11-10",
         "entitlements.b.customer: found 'nobody'"),
        ("feature: plain, start", "feature: other, start", "entitlements.d.feature: found 'other'"),
        ('allowance: "5"', 'allowance: "-5"', "entitlements.a.allowance: found -5, expected nought or more"),
        ("end: 2026-11-10", "end: 2026-10-10", "entitlements.a.end: found a time before `start`"),
        ("end: 2026-11-10", "end: 2026-11-11", "entitlements.b.start: overlaps entitlements.a"),
        ("kind: static, config", "kind: boolean, config", "entitlements.d.config: expected none for the kind boolean"),
        ("config: '{", "config: 'no {", "entitlements.d.config: found 'no {"),
        ("kind: static, config: '{\"n\": 1}'", "kind: metered", "entitlements.d.kind: found metered"),
    ],
)  # fmt: skip
def test_every_fault_has_its_path(was: str, now: str, fault: str) -> None:
    assert was in GOOD
    found = faults_of(GOOD.replace(was, now))
    assert len(found) == 1 and found[0].startswith(fault), found


def test_names_and_metadata_may_change_under_open_periods_and_readings_may_not() -> None:
    before = load_catalogue(GOOD)
    named = GOOD.replace("value: $.n,", "value: $.n, name: Tokens, metadata: {a: b}, archived: true,")
    check_change(before, load_catalogue(named))
    with pytest.raises(CatalogueError):
        check_change(before, load_catalogue(GOOD.replace("value: $.n,", "value: $.m,")))


def test_versions_of_a_price_book_may_stand_beside_metadata() -> None:
    load_catalogue(
        "price_books: {b: {metadata: {a: b}, versions: [{currency: USD, charges: {}}]}}\n"
        "default_subscription: {price_book: b}"
    )
