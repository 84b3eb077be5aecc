"""Settle: laws of spreading, of the invoice's equation and its mirror, and sums that can be followed by hand."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.settle import (
    Applied,
    CouponLeft,
    Drawn,
    GrantLeft,
    InvoiceTerms,
    Line,
    Settled,
    TaxAmount,
    TaxRate,
    settle,
    spread,
)
from schemas.currency import MINOR_DIGITS, minor_unit, round_to_minor
from schemas.numbers import ONE, format_scaled, parse_scaled

CENT = minor_unit("USD")
CURRENCIES = st.sampled_from(["USD", "JPY", "KWD"])
CHARGES = ["tokens", "requests", "storage", "minimum"]
RATES = st.sampled_from(["0", "0.081", "0.2", "0.055", "0.0725"]).map(parse_scaled)
TAXES = st.builds(TaxRate, st.sampled_from(["VAT", "levy"]), RATES, st.booleans())


def s(text: str) -> int:
    return parse_scaled(text)


def texts(amounts: Sequence[int]) -> list[str]:
    return [format_scaled(amount) for amount in amounts]


# Spreading ------------------------------------------------------------------------------------------------------------


@given(st.integers(-(10**9), 10**9), st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=8))
def test_parts_sum_exactly_and_mirror(units: int, weights: list[int]) -> None:
    parts = spread(units * CENT, weights, CENT)
    assert sum(parts) == units * CENT
    assert all(part % CENT == 0 for part in parts)
    assert spread(-units * CENT, weights, CENT) == [-part for part in parts]
    assert spread(units * CENT, [-weight for weight in weights], CENT) == parts or not sum(weights)


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_a_part_is_less_than_a_unit_from_its_share_and_the_earlier_of_equals_has_no_less(
    units: int, weights: list[int]
) -> None:
    parts = spread(units * CENT, weights, CENT)
    total = sum(weights)
    if total:
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part // CENT * total - units * weight) < total
            assert weight or not part
    for i, weight in enumerate(weights):
        assert all(parts[i] >= parts[j] for j in range(i + 1, len(weights)) if weights[j] == weight)


def test_what_rounding_leaves_goes_to_the_largest_remainders() -> None:
    assert texts(spread(s("0.05"), [1, 1, 1], CENT)) == ["0.02", "0.02", "0.01"]
    assert texts(spread(s("5"), [10, 5], CENT)) == ["3.33", "1.67"]
    assert texts(spread(s("-0.05"), [1, 1, 1], CENT)) == ["-0.02", "-0.02", "-0.01"]
    assert texts(spread(s("8"), [s("100"), s("-20")], CENT)) == ["10", "-2"]
    assert spread(0, [], CENT) == []


@pytest.mark.parametrize(("amount", "weights"), [("0.05", []), ("0.005", [1])])
def test_what_cannot_be_spread_is_refused(amount: str, weights: list[int]) -> None:
    with pytest.raises(ValueError, match="cannot be spread"):
        spread(s(amount), weights, CENT)


# Laws of the whole ----------------------------------------------------------------------------------------------------


@st.composite
def invoices(draw: st.DrawFn, below: bool = True) -> tuple[list[Line], InvoiceTerms]:
    """An invoice's lines and terms, `below`: with lines below nought and things to give back."""
    currency = draw(CURRENCIES)
    unit = minor_unit(currency)
    least = -100_000 if below else 0
    taxes = draw(st.lists(TAXES, max_size=3, unique=True))
    lines = []
    for charge in draw(st.lists(st.sampled_from(CHARGES), min_size=1, max_size=6)):
        own = tuple(tax for tax in taxes if draw(st.booleans()))
        lines.append(Line(charge, draw(st.integers(least, 100_000)) * unit, own, charge != "minimum"))
    charged = sum(line.amount for line in lines if line.charged) // unit
    kinds = st.one_of(
        st.builds(lambda p, h: CouponLeft("c", percent=p, held=h), st.integers(1, 100 * ONE), st.booleans()),
        st.builds(lambda a: CouponLeft("c", amount=a), st.integers(0, 50_000 * unit)),
    )
    coupons = [c._replace(id=f"c{i}") for i, c in enumerate(draw(st.lists(kinds, max_size=3)))]
    some = st.frozensets(st.sampled_from(CHARGES), max_size=2)
    grants = draw(
        st.lists(st.builds(GrantLeft, st.just("g"), st.integers(0, 50_000 * unit), some, st.booleans()), max_size=3)
    )
    some_drawn = st.builds(Drawn, st.sampled_from(["g0", "g1"]), st.integers(1, 30_000).map(lambda n: n * unit), some)
    drawn = draw(st.lists(some_drawn, max_size=3))
    return lines, InvoiceTerms(
        currency=currency,
        rounding=draw(st.sampled_from(["half_up", "half_even"])),
        tax_rounding=draw(st.sampled_from(["per_invoice", "per_line"])),
        cap=draw(st.integers(min(0, charged) if below else 0, max(0, charged))) * unit,
        coupons=tuple(coupons),
        grants=tuple(g._replace(id=f"g{i}") for i, g in enumerate(grants)),
        drawn=tuple(drawn),
    )


@given(invoices())
def test_the_equation_holds_and_the_lines_sum_to_the_invoice(case: tuple[list[Line], InvoiceTerms]) -> None:
    lines, terms = case
    settled = settle(lines, terms)
    assert settled.total == sum(x.amount for x in lines) - settled.discounts - settled.credits + settled.taxes
    assert sum(line.discount for line in settled.lines) == settled.discounts
    assert sum(line.credit for line in settled.lines) == settled.credits
    assert sum(line.tax for line in settled.lines) == settled.taxes
    assert settled.discounts == terms.cap + sum(amount for _, amount in settled.applied_coupons)
    assert settled.credits == sum(amount for _, amount in settled.applied_credits)
    assert settled.taxes == sum(tax.amount for tax in settled.tax_lines if not tax.inclusive)
    included = sum(tax.amount for tax in settled.tax_lines if tax.inclusive)
    assert sum(line.included for line in settled.lines) == included
    unit = minor_unit(terms.currency)
    assert all(part % unit == 0 for line in settled.lines for part in line)


@given(invoices(below=False))
def test_coupons_and_credits_take_nothing_below_nought(case: tuple[list[Line], InvoiceTerms]) -> None:
    lines, terms = case
    settled = settle(lines, terms)
    assert settled.total >= 0 and settled.taxes >= 0 and settled.discounts >= 0 and settled.credits >= 0
    balances = {grant.id: grant.balance for grant in terms.grants if grant.in_force}
    assert all(0 < amount <= balances[id] for id, amount in settled.applied_credits)
    for line, parts in zip(lines, settled.lines, strict=True):
        assert line.amount - parts.discount - parts.credit >= 0
        assert parts.discount >= 0 and parts.credit >= 0


@given(invoices())
def test_credits_come_back_up_to_what_was_drawn_and_the_total_stays_at_or_below_nought(
    case: tuple[list[Line], InvoiceTerms],
) -> None:
    lines, terms = case
    settled = settle(lines, terms)
    net = sum(line.amount for line in lines) - settled.discounts
    if net < 0:
        drawn: dict[str, int] = {}
        for grant, amount, _ in terms.drawn:
            drawn[grant] = drawn.get(grant, 0) + amount
        assert all(-drawn[id] <= amount < 0 for id, amount in settled.applied_credits)
        assert net - settled.credits <= 0
    else:
        assert settled.credits >= 0 and net - settled.credits >= 0


@given(invoices(below=False))
def test_an_invoice_that_takes_all_back_is_the_mirror_of_the_first(case: tuple[list[Line], InvoiceTerms]) -> None:
    """With percentages only: what is given back of amounts and credits depends on what was used."""
    lines, terms = case
    percent = tuple(coupon._replace(held=True) for coupon in terms.coupons if coupon.percent is not None)
    there = InvoiceTerms(terms.currency, terms.rounding, terms.tax_rounding, terms.cap, percent)
    back = InvoiceTerms(terms.currency, terms.rounding, terms.tax_rounding, -terms.cap, percent)
    first, second = settle(lines, there), settle([line._replace(amount=-line.amount) for line in lines], back)
    assert second.total == -first.total
    assert second.lines == tuple(type(line)(*(-part for part in line)) for line in first.lines)


@given(invoices())
def test_each_exclusive_tax_is_its_rate_of_the_base_that_is_shown(case: tuple[list[Line], InvoiceTerms]) -> None:
    lines, terms = case
    settled = settle(lines, terms)
    if terms.tax_rounding == "per_invoice":
        for tax in settled.tax_lines:
            if not tax.inclusive and tax.base * tax.rate % ONE == 0:
                exact = tax.base * tax.rate // ONE
                assert tax.amount == round_to_minor(exact, terms.currency, terms.rounding)


# By hand --------------------------------------------------------------------------------------------------------------


def usd(*amounts: str, taxes: tuple[TaxRate, ...] = ()) -> list[Line]:
    return [Line(f"c{i}", s(amount), taxes) for i, amount in enumerate(amounts)]


def test_coupons_come_off_in_the_order_listed_each_on_what_is_left() -> None:
    percent, amount = CouponLeft("p", percent=s("10")), CouponLeft("a", amount=s("5"))
    first = settle(usd("60", "40"), InvoiceTerms("USD", coupons=(percent, amount)))
    second = settle(usd("60", "40"), InvoiceTerms("USD", coupons=(amount, percent)))
    assert first.applied_coupons == (Applied("p", s("10")), Applied("a", s("5")))
    assert second.applied_coupons == (Applied("a", s("5")), Applied("p", s("9.5")))
    assert texts([line.discount for line in first.lines]) == ["9", "6"]


def test_a_coupon_reduces_the_true_up_too_and_the_cap_does_not() -> None:
    lines = [*usd("30"), Line("minimum", s("20"), (), False)]
    settled = settle(lines, InvoiceTerms("USD", cap=s("10"), coupons=(CouponLeft("half", percent=s("50")),)))
    assert texts([line.discount for line in settled.lines]) == ["20", "10"]
    assert settled.before_coupons == s("40") and settled.total == s("20")


def test_a_grant_pays_only_for_its_charges_and_only_while_in_force() -> None:
    grants = (
        GrantLeft("expired", s("1000"), in_force=False),
        GrantLeft("c1 only", s("1000"), frozenset({"c1"})),
        GrantLeft("any", s("12.005")),
    )
    settled = settle(usd("30", "20"), InvoiceTerms("USD", grants=grants))
    assert settled.applied_credits == (Applied("c1 only", s("20")), Applied("any", s("12")))
    assert texts([line.credit for line in settled.lines]) == ["12", "20"]


def test_credits_are_drawn_before_tax() -> None:
    vat = TaxRate("VAT", s("0.081"), False)
    settled = settle(usd("100", taxes=(vat,)), InvoiceTerms("USD", grants=(GrantLeft("g", s("40")),)))
    assert settled.tax_lines == (TaxAmount("VAT", s("0.081"), False, s("60"), s("4.86")),)
    assert settled.total == s("64.86")


def test_each_tax_is_rounded_once_on_the_net_or_for_each_line() -> None:
    vat = TaxRate("VAT", s("0.075"), False)
    lines = usd("0.10", "0.10", "0.10", taxes=(vat,))
    once = settle(lines, InvoiceTerms("USD"))
    each = settle(lines, InvoiceTerms("USD", tax_rounding="per_line"))
    even = settle(lines, InvoiceTerms("USD", rounding="half_even"))
    assert [once.taxes, each.taxes, even.taxes] == [s("0.02"), s("0.03"), s("0.02")]
    assert texts([line.tax for line in once.lines]) == ["0.01", "0.01", "0"]


def test_an_inclusive_tax_lies_inside_the_prices() -> None:
    vat = TaxRate("VAT", s("0.2"), True)
    settled = settle(usd("100", "20", taxes=(vat,)), InvoiceTerms("EUR"))
    assert (settled.taxes, settled.total) == (0, s("120"))
    assert settled.tax_lines == (TaxAmount("VAT", s("0.2"), True, s("100"), s("20")),)
    assert texts([line.included for line in settled.lines]) == ["16.67", "3.33"]


def test_an_exclusive_tax_is_raised_on_the_net_without_the_inclusive_one() -> None:
    vat, levy = TaxRate("VAT", s("0.2"), True), TaxRate("levy", s("0.1"), False)
    settled = settle(usd("120", taxes=(levy, vat)), InvoiceTerms("USD"))
    assert settled.tax_lines == (
        TaxAmount("levy", s("0.1"), False, s("100"), s("10")),
        TaxAmount("VAT", s("0.2"), True, s("100"), s("20")),
    )
    assert settled.total == s("130")


def test_two_inclusive_taxes_share_one_price() -> None:
    state, city = TaxRate("state", s("0.15"), True), TaxRate("city", s("0.10"), True)
    settled = settle(usd("125", taxes=(state, city)), InvoiceTerms("USD"))
    assert [(tax.base, tax.amount) for tax in settled.tax_lines] == [(s("100"), s("15")), (s("100"), s("10"))]


def test_taxes_of_a_charge_are_raised_on_its_lines_alone() -> None:
    full, reduced = TaxRate("VAT", s("0.2"), False), TaxRate("VAT", s("0.055"), False)
    lines = [
        Line("a", s("10"), (full,)),
        Line("b", s("100"), (reduced,)),
        Line("c", s("30"), (full,)),
        Line("d", s("5")),
    ]
    settled = settle(lines, InvoiceTerms("EUR"))
    assert [(tax.rate, tax.base, tax.amount) for tax in settled.tax_lines] == [
        (s("0.2"), s("40"), s("8")),
        (s("0.055"), s("100"), s("5.5")),
    ]
    assert texts([line.tax for line in settled.lines]) == ["2", "5.5", "6", "0"]


def test_a_rate_of_nought_is_listed() -> None:
    exempt = TaxRate("reverse charge", 0, False)
    assert settle(usd("10", taxes=(exempt,)), InvoiceTerms("EUR")).tax_lines == (
        TaxAmount("reverse charge", 0, False, s("10"), 0),
    )


def test_a_correction_gives_back_the_last_draws_first_before_money() -> None:
    drawn = (Drawn("a", s("5")), Drawn("b", s("5")), Drawn("a", s("2")))
    settled = settle(usd("-10"), InvoiceTerms("USD", drawn=drawn))
    assert dict(settled.applied_credits) == {"a": s("-5"), "b": s("-5")} and settled.total == 0
    some = settle(usd("-6"), InvoiceTerms("USD", drawn=drawn))
    assert dict(some.applied_credits) == {"a": s("-2"), "b": s("-4")}
    more = settle(usd("-20"), InvoiceTerms("USD", drawn=drawn))
    assert more.total == s("-8")


def test_a_correction_gives_back_to_a_grant_only_what_its_charges_take_back() -> None:
    drawn = (Drawn("storage", s("9"), frozenset({"storage"})),)
    settled = settle([Line("tokens", s("-4")), Line("storage", s("-3"))], InvoiceTerms("USD", drawn=drawn))
    assert settled.applied_credits == (Applied("storage", s("-3")),) and settled.total == s("-4")


def test_below_nought_a_percentage_gives_back_its_share_where_it_held_and_an_amount_stays() -> None:
    amount, held, fresh = CouponLeft("a", amount=s("5")), CouponLeft("p", s("10")), CouponLeft("n", s("10"), held=False)
    settled = settle(usd("-20"), InvoiceTerms("USD", coupons=(amount, held, fresh)))
    assert settled.applied_coupons == (Applied("p", s("-2")),) and settled.total == s("-18")


def test_a_cap_given_back_where_no_charge_is_due_falls_on_the_lines_there_are() -> None:
    settled = settle([Line("minimum", s("5"), (), False)], InvoiceTerms("USD", cap=s("-2")))
    assert settled.total == s("7") and settled.lines[0].discount == s("-2")


def test_no_lines_are_nothing() -> None:
    empty = settle([], InvoiceTerms("USD", coupons=(CouponLeft("p", s("10")),), grants=(GrantLeft("g", s("1")),)))
    assert empty == Settled((), 0, 0, 0, 0, 0, (), (), ())


@pytest.mark.parametrize(("currency", "total"), [("USD", "33.33"), ("JPY", "33"), ("KWD", "33.333")])
def test_a_share_is_rounded_to_the_minor_unit(currency: str, total: str) -> None:
    lines = [Line("a", s("100"))]
    off = settle(lines, InvoiceTerms(currency, coupons=(CouponLeft("p", s("33.3333")),)))
    assert off.discounts == s(total) and MINOR_DIGITS[currency] >= 0
