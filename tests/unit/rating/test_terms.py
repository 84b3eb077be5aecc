"""Terms: documents in, terms out; every fault with its path."""

import pytest

from rating.settle import TaxRate
from rating.terms import (
    ALWAYS,
    NEVER,
    ONCE,
    CouponTerms,
    CustomerTerms,
    check_book,
    compile_customers,
    compile_taxes,
    tax_rates,
)
from schemas.catalogue import Catalogue, Tax, read_catalogue
from schemas.faults import Faults
from schemas.limits import BUDGET_ALERTS_MAX, COUPONS_MAX, CREDIT_GRANTS_MAX, TAXES_MAX
from schemas.numbers import parse_scaled as s
from schemas.times import parse_time

BOOK = "price_books: {b: {currency: USD, charges: {tokens: {price: {model: unit, unit_amount: '1'}, meter: m}}}}\n"


def read(text: str) -> Catalogue:
    documents, faults = read_catalogue(text)
    assert documents is not None and not faults, faults
    return documents


def compile_text(text: str) -> tuple[dict[str, CustomerTerms], Faults]:
    faults = Faults()
    return compile_customers(read(text), faults), faults


def test_terms_of_a_customer() -> None:
    found, faults = compile_text(
        BOOK
        + """
coupons:
  launch: {percent: "10", duration: 3}
tax_rates:
  swiss: {name: VAT, rate: "0.081"}
credit_grants:
  promo: {customer: acme, amount: "5", priority: 1}
  gift: {customer: nobody-declared, amount: "7"}
customers:
  acme:
    taxes: [{id: swiss}, {name: city, rate: "0.01", inclusive: true}]
    coupons: [{id: launch}, {id: welcome, amount: "20"}, {percent: "5", duration: forever}]
    credit_grants:
      - {id: prepaid, amount: "100", expires_at: 2027-01-01T00:00:00Z, charges: [tokens],
         low_balance: "10", rollover: "50"}
      - {amount: "1", currency: USD}
  plain: {}
"""
    )
    assert not faults and list(found) == ["acme", "nobody-declared"]
    acme = found["acme"]
    assert acme.taxes == (TaxRate("VAT", s("0.081"), False), TaxRate("city", s("0.01"), True))
    assert acme.coupons == (
        CouponTerms("launch", s("10"), None, 3),
        CouponTerms("welcome", None, s("20"), ONCE),
        CouponTerms("coupon-3", s("5"), None, None),
    )
    assert [grant.id for grant in acme.grants] == ["promo", "prepaid", "grant-2"]
    prepaid = acme.grants[1]
    assert (prepaid.effective_from, prepaid.expires_at) == (ALWAYS, parse_time("2027-01-01T00:00:00Z"))
    assert (prepaid.low_balance, prepaid.rollover, prepaid.charges) == (s("10"), s("50"), frozenset({"tokens"}))
    assert found["nobody-declared"].grants[0].expires_at == NEVER


@pytest.mark.parametrize(
    ("customer", "fault"),
    [
        ("taxes: [{id: nope}]", "taxes[0].id: no such tax rate"),
        ("taxes: [{name: VAT}]", "taxes[0].rate: missing"),
        ("taxes: [{name: VAT, rate: '8.1'}]", "taxes[0].rate: found 8.1, expected a share"),
        ("taxes: [{rate: '-0.1'}]", "taxes[0].rate: found -0.1"),
        ("taxes: [{rate: '0.1'}, {rate: '0.1'}]", "taxes[1]: found 'tax' at the rate 0.1 twice"),
        ("taxes: [{id: known, name: x}]", "taxes[0]: found more than an id"),
        ("coupons: [{id: nope}]", "coupons[0].id: no such coupon"),
        ("coupons: [{id: known, duration: 2}]", "coupons[0].duration: found beside an id alone"),
        ("coupons: [{duration: 2}]", "coupons[0]: expected percent or amount"),
        ("coupons: [{percent: '1', amount: '1'}]", "coupons[0]: expected percent or amount"),
        ("coupons: [{percent: '100.1'}]", "coupons[0].percent: found 100.1"),
        ("coupons: [{amount: '0'}]", "coupons[0].amount: found 0"),
        ("coupons: [{id: c, amount: '1'}, {id: c, amount: '1'}]", "coupons[1].id: found 'c' twice"),
        ("credit_grants: [{amount: '-1'}]", "credit_grants[0].amount: found -1"),
        ("credit_grants: [{amount: '1', currency: usd}]", "credit_grants[0].currency: found 'usd'"),
        ("credit_grants: [{amount: '1', customer: b}]", "credit_grants[0].customer: found 'b'"),
        ("credit_grants: [{id: known, amount: '1'}]", "credit_grants[0].id: found 'known' twice"),
        ("credit_grants: [{amount: '1', charges: [token]}]", "credit_grants[0].charges[0]: no such charge"),
        (
            "credit_grants: [{amount: '1', effective_from: 2026-01-01T00:00:00Z, expires_at: 2026-01-01T00:00:00Z}]",
            "credit_grants[0].expires_at: found 2026-01-01",
        ),
    ],
)
def test_faults_of_a_customer_name_their_path(customer: str, fault: str) -> None:
    known = """
tax_rates: {known: {rate: '0.1'}}
coupons: {known: {percent: '1'}}
credit_grants: {known: {customer: a, amount: '1'}}
"""
    _, faults = compile_text(f"{BOOK}{known}customers: {{a: {{{customer}}}}}")
    assert [str(found) for found in faults if str(found).startswith(f"customers.a.{fault}")], list(map(str, faults))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tax_rates: {v: {name: VAT}}", "tax_rates.v.rate: missing"),
        ("tax_rates: {v: {id: w, rate: '0.1'}}", "tax_rates.v.id: found 'w', expected none or 'v'"),
        ("coupons: {c: {}}", "coupons.c: expected percent or amount"),
        ("credit_grants: {g: {amount: '1'}}", "credit_grants.g.customer: missing"),
        ("credit_grants: {g: {customer: a, amount: '1', low_balance: '-1'}}", "credit_grants.g.low_balance: found -1"),
    ],
)
def test_faults_of_documents_name_their_path(text: str, fault: str) -> None:
    _, faults = compile_text(text)
    assert [str(found).startswith(fault) for found in faults] == [True]


@pytest.mark.parametrize(
    ("kind", "item", "most"),
    [
        ("taxes", "{{name: t{0}, rate: '0.1'}}", TAXES_MAX),
        ("coupons", "{{id: c{0}, percent: '1'}}", COUPONS_MAX),
        ("credit_grants", "{{id: g{0}, amount: '1'}}", CREDIT_GRANTS_MAX),
    ],
)
def test_a_customer_has_at_most_so_many(kind: str, item: str, most: int) -> None:
    def faults(many: int) -> Faults:
        return compile_text(f"customers: {{a: {{{kind}: [{', '.join(item.format(i) for i in range(many))}]}}}}")[1]

    assert not faults(most)
    assert str(faults(most + 1)[0]) == f"customers.a.{kind}: found {most + 1}, expected at most {most}"


def test_taxes_of_a_charge() -> None:
    rates = tax_rates(read("tax_rates: {v: {rate: '0.2'}}"))
    faults = Faults()
    assert compile_taxes([Tax(id="v")], rates, "here", faults) == (TaxRate("v", s("0.2"), False),)
    assert compile_taxes([], rates, "here", faults) == () and not faults


def book(text: str) -> list[str]:
    document = read(f"price_books: {{b: {{currency: USD, charges: {{}}, {text}}}}}").price_books["b"]
    faults = Faults()
    check_book(document.bodies()[0], "price_books.b", faults)
    return list(map(str, faults))


def test_a_price_book_without_faults() -> None:
    assert not book(
        "minimum: '100', maximum: '100', overage_factor: '0.5', budget: {amount: '150', alerts: ['50', '120']}"
    )
    assert not book("description: x")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("maximum: '-1'", "price_books.b.maximum: found -1"),
        ("minimum: '5', maximum: '4'", "price_books.b.maximum: found 4, expected at least the minimum 5"),
        ("overage_factor: '2'", "price_books.b.overage_factor: multiplies"),
        ("minimum: '1', overage_factor: '-2'", "price_books.b.overage_factor: found -2"),
        ("budget: {amount: '0'}", "price_books.b.budget.amount: found 0"),
        ("budget: {amount: '1', alerts: ['0']}", "price_books.b.budget.alerts[0]: found 0"),
        ("budget: {amount: '1', alerts: ['5', '5']}", "price_books.b.budget.alerts[1]: found 5 twice"),
    ],
)
def test_faults_of_a_price_book(text: str, fault: str) -> None:
    assert any(found.startswith(fault) for found in book(text)), book(text)


def test_a_budget_has_at_most_so_many_alerts() -> None:
    def faults(many: int) -> list[str]:
        return book(f"budget: {{amount: '1', alerts: {[str(i + 1) for i in range(many)]}}}")

    assert not faults(BUDGET_ALERTS_MAX)
    assert faults(BUDGET_ALERTS_MAX + 1)[0].startswith("price_books.b.budget.alerts: found")
