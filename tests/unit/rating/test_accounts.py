"""Accounts: what is left of coupons and grants from bill to bill, told like a diary."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.accounts import Account, Accounts, Draft
from rating.settle import Line, Settled
from rating.terms import ALWAYS, NEVER, ONCE, CouponTerms, CustomerTerms, GrantTerms
from schemas.numbers import parse_scaled as s


def grant(id: str, amount: str, **changes: object) -> GrantTerms:
    plain = GrantTerms(id, s(amount), None, 100, ALWAYS, NEVER, frozenset(), None, None)
    return plain._replace(**changes)


def granted(*grants: GrantTerms) -> CustomerTerms:
    return CustomerTerms(grants=tuple(sorted(grants, key=GrantTerms.turn)))


def draft(bill: int, amount: str, charge: str = "tokens", **changes: object) -> Draft:
    return Draft(0, bill, 1000 * (bill + 1), [Line(charge, s(amount))], "USD")._replace(**changes)


# Coupons --------------------------------------------------------------------------------------------------------------


def discounts(customer: CustomerTerms, *drafts: Draft) -> list[int]:
    account = Account()
    found = []
    for one in drafts:
        found.append(account.issue(customer, one).discounts)
        account = Account.load(account.dump())
    return found


def test_a_percentage_once_holds_for_all_invoices_of_one_bill() -> None:
    customer = CustomerTerms(coupons=(CouponTerms("half", s("50"), None, ONCE),))
    bills = [draft(0, "10"), draft(0, "4"), draft(1, "10"), draft(0, "-2")]
    assert discounts(customer, *bills) == [s("5"), s("2"), 0, s("-1")]


def test_once_is_once_for_all_subscriptions_and_a_number_of_periods_counts_for_each() -> None:
    other = draft(1, "10", subscription=1)
    once = CustomerTerms(coupons=(CouponTerms("c", s("10"), None, ONCE),))
    two = CustomerTerms(coupons=(CouponTerms("c", s("10"), None, 2),))
    assert discounts(once, draft(0, "10"), other) == [s("1"), 0]
    assert discounts(two, draft(0, "10"), other, draft(2, "10"), draft(3, "10")) == [s("1"), s("1"), s("1"), 0]


@pytest.mark.parametrize(
    ("periods", "found"),
    [
        (ONCE, ["3", "2", "0", "0"]),
        (1, ["3", "2", "0", "0"]),
        (2, ["3", "2", "0", "5"]),
        (None, ["3", "2", "0", "5"]),
    ],
)
def test_an_amount_is_one_for_each_bill_and_what_was_used_stays_used(periods: int | None, found: list[str]) -> None:
    customer = CustomerTerms(coupons=(CouponTerms("five", None, s("5"), periods),))
    bills = [draft(0, "3"), draft(0, "10"), draft(0, "-8"), draft(1, "20")]
    assert discounts(customer, *bills) == [s(text) for text in found]


def test_a_period_without_anything_to_take_off_does_not_count() -> None:
    customer = CustomerTerms(coupons=(CouponTerms("half", s("50"), None, ONCE),))
    assert discounts(customer, draft(0, "-10"), draft(1, "10")) == [0, s("5")]


def test_a_period_of_which_others_left_nothing_counts() -> None:
    coupons = (CouponTerms("all", s("100"), None, 1), CouponTerms("half", s("50"), None, ONCE))
    assert discounts(CustomerTerms(coupons=coupons), draft(0, "10"), draft(1, "10")) == [s("10"), 0]


def test_a_coupon_that_came_later_gives_nothing_back_of_an_earlier_bill() -> None:
    account = Account()
    account.issue(CustomerTerms(), draft(0, "10"))
    customer = CustomerTerms(coupons=(CouponTerms("half", s("50"), None, None),))
    assert account.issue(customer, draft(0, "-4")).total == s("-4")


# Grants ---------------------------------------------------------------------------------------------------------------


def test_grants_are_drawn_by_priority_then_expiry_then_age_then_id() -> None:
    customer = granted(
        grant("b", "1"),
        grant("a", "1"),
        grant("old", "1", effective_from=5),
        grant("older", "1", effective_from=4),
        grant("soon", "1", expires_at=10**6),
        grant("first", "1", priority=1),
        grant("last", "1", priority=101, expires_at=10**6),
    )
    settled = Account().issue(customer, draft(0, "10"))
    assert [id for id, _ in settled.applied_credits] == ["first", "soon", "a", "b", "older", "old", "last"]


@pytest.mark.parametrize(
    ("start", "end", "drawn"), [(1000, 2000, "1"), (1001, 2000, "0"), (0, 1000, "0"), (0, 1001, "1")]
)
def test_a_grant_is_in_force_from_its_time_of_effect_until_before_its_expiry(start: int, end: int, drawn: str) -> None:
    customer = granted(grant("g", "1", effective_from=start, expires_at=end))
    assert Account().issue(customer, draft(0, "10", closing=1000)).credits == s(drawn)


def test_a_grant_in_another_currency_is_passed_over_and_one_without_takes_that_of_its_first_draw() -> None:
    customer = granted(grant("eur", "5", currency="EUR"), grant("any", "5"))
    account = Account()
    assert account.issue(customer, draft(0, "2")).applied_credits == (("any", s("2")),)
    settled = account.issue(customer, draft(1, "20", currency="EUR"))
    assert settled.applied_credits == (("eur", s("5")),)


def test_a_higher_amount_in_the_document_is_a_top_up() -> None:
    account = Account()
    account.issue(granted(grant("g", "10")), draft(0, "8"))
    assert account.balance(grant("g", "10")) == s("2")
    assert account.balance(grant("g", "15")) == s("7")
    assert account.balance(grant("g", "5")) == 0


def test_a_correction_gives_back_and_the_grant_pays_again() -> None:
    customer = granted(grant("a", "5", priority=1), grant("b", "10"))
    account = Account()
    account.issue(customer, draft(0, "8"))
    assert account.issue(customer, draft(1, "1")).applied_credits == (("b", s("1")),)
    back = account.issue(customer, draft(0, "-4"))
    assert back.applied_credits == (("b", s("-3")), ("a", s("-1"))) and back.total == 0
    assert (account.balance(customer.grants[0]), account.balance(customer.grants[1])) == (s("1"), s("9"))
    assert account.issue(customer, draft(0, "-10")).total == s("-6")
    assert 0 not in account.draws


def test_rollover_leaves_no_more_than_it_says_of_grants_that_were_in_force() -> None:
    kept, later = grant("kept", "10", rollover=s("3")), grant("later", "10", rollover=s("3"), effective_from=1000)
    account = Account()
    account.issue(granted(kept, later), draft(0, "2"))
    account.roll_over([kept, later], 1000)
    account.roll_over([kept, later], 1000)
    assert (account.balance(kept), account.balance(later)) == (s("3"), s("10"))
    assert account.balance(kept._replace(amount=s("12"))) == s("5")


def test_a_low_balance_is_told_once_and_again_after_a_top_up() -> None:
    low = grant("g", "10", low_balance=s("4"))
    account = Account()
    told = []
    for bill, (terms, amount) in enumerate([(low, "5"), (low, "1"), (low, "1"), (low._replace(amount=s("20")), "12")]):
        account.issue(granted(terms), draft(bill, amount))
        told.append([balance for _, balance in account.low_balances([terms], 1)])
        account = Account.load(account.dump())
    assert told == [[], [s("4")], [], [s("1")]]


def test_a_small_grant_that_nobody_used_is_not_low() -> None:
    assert Account().low_balances([grant("g", "1", low_balance=s("5"))], 1) == []


def test_balances_are_what_would_remain_and_change_nothing() -> None:
    customer = granted(grant("a", "5", priority=1), grant("b", "10"))
    account = Account()
    account.issue(customer, draft(0, "1"))
    before = account.dump()
    assert account.balances(customer, [draft(1, "6"), draft(2, "1")]) == {"a": 0, "b": s("7")}
    assert account.balances(customer, []) == {"a": s("4"), "b": s("10")}
    assert account.dump() == before


# Laws -----------------------------------------------------------------------------------------------------------------

STEPS = st.lists(st.tuples(st.integers(0, 3), st.integers(-3000, 5000)), max_size=12)


@given(STEPS, st.booleans())
def test_a_balance_is_the_amount_less_what_the_invoices_list_and_never_below_nought(
    steps: list[tuple[int, int]], reload: bool
) -> None:
    customer = granted(grant("a", "20", charges=frozenset({"tokens"})), grant("b", "15"))
    account = Account()
    listed = dict.fromkeys(("a", "b"), 0)
    for bill, cents in steps:
        charge = "tokens" if cents % 2 else "storage"
        settled: Settled = account.issue(customer, draft(bill, f"{cents}e-2", charge))
        for id, amount in settled.applied_credits:
            listed[id] += amount
        if reload:
            account = Account.load(msgspec.msgpack.decode(msgspec.msgpack.encode(account.dump())))
        for one in customer.grants:
            assert account.balance(one) == one.amount - listed[one.id] >= 0
            drawn = sum(amount for draws in account.draws.values() for id, amount in draws if id == one.id)
            assert drawn == listed[one.id]


def test_accounts_are_kept_by_customer_and_survive_a_snapshot() -> None:
    accounts = Accounts()
    assert accounts.of(7).grants == {} and not accounts.known
    accounts.change(7).issue(granted(grant("g", "10")), draft(0, "4"))
    again = Accounts.load(msgspec.msgpack.decode(msgspec.msgpack.encode(accounts.dump())))
    assert again.known == accounts.known
    assert again.of(7).balance(grant("g", "10")) == s("6")
