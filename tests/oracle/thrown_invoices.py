"""Invoices by the dice: what a customer pays with, what a price book asks beyond its charges, and taxes."""

from typing import Any

from hypothesis import strategies as st

from tests.oracle.generate import Thrown
from tests.oracle.thrown import CLOSINGS, SUM, TIMES, frame, streams, text_of
from tests.oracle.thrown_prices import Document, totals, unit

PERCENTS = ["10", "50", "33.3", "100"]
AMOUNTS = ["0.01", "3", "5.005", "20"]
MOMENTS = ["2026-11-05T10:00:00Z", "2026-11-22T21:30:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"]
TAXES = [
    {"name": "VAT", "rate": "0.081"},
    {"name": "levy", "rate": "0.015"},
    {"name": "VAT", "rate": "0.2", "inclusive": True},
    {"name": "duty", "rate": "0.07", "inclusive": True},
]
IN_TIME = [time for time in TIMES if time >= "2026-11"]


def taxes() -> st.SearchStrategy[list[Document]]:
    """Some taxes, in the prices and on top."""
    return st.lists(st.sampled_from(TAXES), max_size=3, unique_by=str)


@st.composite
def coupons(draw: Any) -> list[Document]:
    """Coupons of every kind and duration."""
    found: list[Document] = []
    for at in range(draw(st.integers(0, 2))):
        off = draw(
            st.one_of(
                st.fixed_dictionaries({"percent": st.sampled_from(PERCENTS)}),
                st.fixed_dictionaries({"amount": st.sampled_from(AMOUNTS)}),
            )
        )
        found.append({"id": f"k{at}", **off, "duration": draw(st.sampled_from(["once", 1, 2, "forever"]))})
    return found


@st.composite
def grants(draw: Any, charges: list[str]) -> list[Document]:
    """Credit grants with their times, for all charges or for some."""
    optional = {
        "priority": st.sampled_from([1, 100]),
        "effective_from": st.sampled_from(MOMENTS),
        "expires_at": st.sampled_from(MOMENTS),
        "charges": st.sampled_from([["c"], [charges[-1], "overage"], ["minimum"]]),
        "low_balance": st.sampled_from(["0", "2", "10"]),
        "rollover": st.sampled_from(["0", "4"]),
    }
    found = []
    for at in range(draw(st.integers(0, 2))):
        base = {"id": st.just(f"g{at}"), "amount": st.sampled_from(["0.005", "4", "10", "30.505"])}
        found.append(draw(st.fixed_dictionaries(base, optional=optional)))
        if found[-1].get("expires_at", "9") <= found[-1].get("effective_from", ""):
            del found[-1]["expires_at"]
    return found


def discounts() -> st.SearchStrategy[Document]:
    """A charge's discount."""
    some = [{"percent": "10"}, {"amount": "2"}, {"units": "1.5"}]
    return st.sampled_from([{}, {}, *({"discount": one} for one in some)])


@st.composite
def terms(draw: Any) -> Document:
    """What a price book asks of the whole bill.

    Known differences, so not thrown: `corrections: next` where no later period is open, and over whose lines a maximum
    is spread that such a correction brings along."""
    optional: Document = {
        "minimum": st.sampled_from(["10", "25", {"amount": "20", "prorate": True}, {"amount": "10", "true_up": False}]),
        "maximum": st.sampled_from(["8", "20.005", "30"]),
        "thresholds": st.sampled_from(
            [[{"spend": "7"}], [{"spend": "5"}, {"spend": "20"}], [{"spend": "10", "repeat": True}]]
        ),
        "budget": st.sampled_from([{"amount": "20"}, {"amount": "15", "alerts": ["50"]}]),
        "tax_rounding": st.just("per_line"),
        "rounding": st.just("half_even"),
    }
    chosen = draw(st.sets(st.sampled_from(list(optional)), max_size=3))
    found = {name: draw(how) for name, how in optional.items() if name in chosen}
    if "minimum" in found and "maximum" in found:
        found["maximum"] = "30"  # never below the minimum
    if "minimum" in found and draw(st.booleans()):
        found["overage_factor"] = draw(st.sampled_from(["1.5", "2", "1.005"]))
    return found


@st.composite
def settled(draw: Any) -> Thrown:
    """(f) Whole invoices: commitment, overage, cap, coupons, grants, taxes, levels, with voids and late events."""
    charges: Document = {"c": {"meter": "m", "price": draw(st.one_of(unit(), totals())), **draw(discounts())}}
    if draw(st.booleans()):
        charges["d"] = {"meter": "m", "price": draw(unit()), **draw(discounts())}
        if draw(st.booleans()):
            charges["d"]["taxes"] = draw(taxes())
    if draw(st.booleans()):
        charges["c"]["group_by"] = ["model"]
    if draw(st.integers(0, 3)) == 0:
        charges["f"] = {"price": {"model": "flat", "amount": draw(st.sampled_from(["5", "0.015"]))}}
        charges["f"]["when"] = draw(st.sampled_from(["in_advance", "in_arrears"]))
    book = frame(charges, {"m": SUM}, **draw(terms()))
    book.pop("default_subscription", None)
    who = {"coupons": draw(coupons()), "credit_grants": draw(grants(list(charges))), "taxes": draw(taxes())}
    book["customers"]["acme"] |= {name: some for name, some in who.items() if some}
    if draw(st.integers(0, 3)) == 0:
        # Another price book, so that the order of the two on one event says little.
        book["price_books"]["other"] = {"currency": "USD", "charges": {"c": {"meter": "m", "price": draw(unit())}}}
        book["subscriptions"]["t"] = {"customer": "acme", "price_book": "other", "start": "2026-11-01T00:00:00Z"}
        book["subscriptions"]["t"]["timezone"] = "UTC"
    inputs = draw(streams(size=10, least=2, voids=True, ticks=True, faulty=False, subjects=["team-a"], times=IN_TIME))
    return Thrown(text_of(book), inputs, draw(st.sampled_from([*CLOSINGS, "2027-02-01T00:00:00Z"])))
