"""Invoices as the engine makes them: periods that sum up, accounts that go on, balances and alerts.

The figures of single invoices stand in `tests/golden/invoices`.
"""

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rating.due import balances
from rating.engine import RatingEngine
from schemas import topics
from schemas.numbers import parse_scaled
from streams.processor import Output
from tests.oracle.throws import throws
from tests.unit.rating.engines import Log, decoded, event, open_engine, plain_dump, run

THROWS = throws(25)
DECEMBER, JANUARY = "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"


def book(terms: str = "", customer: str = "", currency: str = "USD", when: str = "") -> str:
    return f"""
meters: {{units: {{event: use, aggregate: sum, value: $.n, dimensions: {{model: $.model}}}}}}
price_books:
  book:
    currency: {currency}
    charges: {{units: {{meter: units, group_by: [model], price: {{model: unit, unit_amount: "1"}}}}}}
    {terms}
customers: {{acme: {{timezone: UTC, {customer}}}}}
subscriptions: {{main: {{customer: acme, price_book: book, start: 2026-11-01T00:00:00Z, {when}}}}}
"""


def use(id: str, n: str, day: int = 5, **changes: Any) -> str:
    return event(id, f"2026-11-{day:02d}T00:00:00Z", f'{{"n": "{n}", "model": "m"}}', **changes)


def void(id: str) -> str:
    data = f'{{"source": "gate", "id": "{id}", "reason": "x"}}'
    return event(f"void-{id}", "2026-11-01T00:00:00Z", data, type="taximeter.void")


def invoices(outputs: list[Output]) -> list[dict[str, Any]]:
    return decoded(outputs, topics.INVOICES)


def alerts(outputs: list[Output]) -> list[dict[str, Any]]:
    return decoded(outputs, topics.ALERTS)


def left(engine: RatingEngine) -> dict[str, int]:
    return balances(engine.state, engine.state.customer("acme"))


# The invoices of a period sum to the period ---------------------------------------------------------------------------

TERMS = """minimum: "100"
    maximum: "150"
    overage_factor: "1.5"
    rounding: half_up
    thresholds: [{spend: "40", repeat: true}]"""
CUSTOMER = """coupons: [{id: tenth, percent: "10", duration: forever}],
  credit_grants: [{id: gift, amount: "75.5"}, {id: brief, amount: "20", priority: 1,
    effective_from: 2026-11-03T00:00:00Z, expires_at: 2026-11-06T00:00:00Z}], taxes: [{name: VAT, rate: "0.081"}]"""


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Usage, voids and closes, in any order."""
    found: list[tuple[str, str]] = []
    for number in range(draw(st.integers(1, 9))):
        step = draw(st.sampled_from(["use", "use", "use", "void", "tick"]))
        if step == "use":
            found.append(("use", draw(st.sampled_from(["0.005", "12.345", "40", "61", "99.995", "-30", "150"]))))
        else:
            found.append((step, str(draw(st.integers(0, number)))))
    return found


def told(history: list[tuple[str, str]], terms: str = TERMS, customer: str = CUSTOMER) -> Log:
    log = Log().catalogue(book(terms, customer))
    day = 1
    for number, (step, what) in enumerate(history):
        if step == "use":
            data = f'{{"n": "{what}", "model": "{"ab"[number % 2]}"}}'
            log.events([event(f"e{number}", f"2026-11-{1 + number:02d}T00:00:00Z", data)])
        elif step == "void":
            log.events([void(f"e{what}")])
        else:
            log.tick(f"2026-12-{day:02d}T00:00:00Z")
            day += 1
    return log.tick(f"2026-12-{day:02d}T00:00:00Z")


def cents(text: str) -> Fraction:
    """Rounded to the cent, half away from nought."""
    value = Fraction(text)
    size = (abs(value) * 100 + Fraction(1, 2)) // 1 / Fraction(100)
    return size if value >= 0 else -size


@THROWS
@given(histories())
def test_the_invoices_of_a_period_sum_to_the_period(history: list[tuple[str, str]]) -> None:
    outputs = run(told(history))
    november = [i for i in invoices(outputs) if i["period"]["start"].startswith("2026-11")]
    revised = {item["id"]: item for item in decoded(outputs, topics.LINE_ITEMS)}
    charges = sum((cents(item["amount"]) for item in revised.values()), Fraction(0))
    overage = cents(str(max(Fraction(0), charges - 100) / 2))
    capped = max(Fraction(0), charges + overage - 150)
    true_up = max(Fraction(0), 100 - (charges + overage - capped))
    assert sum(Fraction(i["subtotal"]) for i in november) == charges + overage
    assert sum(Fraction(i["minimum"]) for i in november) == true_up
    coupons = sum(Fraction(c["amount"]) for i in november for c in i.get("applied_coupons", []))
    assert sum(Fraction(i["discounts"]) for i in november) == capped + coupons
    for one in november:
        sums = {name: sum(Fraction(line[name]) for line in one["lines"]) for name in ("discount", "credit", "tax")}
        assert (sums["discount"], sums["credit"], sums["tax"]) == (
            Fraction(one["discounts"]), Fraction(one["credits"]), Fraction(one["taxes"]),
        )  # fmt: skip
        asked = Fraction(one["subtotal"]) + Fraction(one["minimum"]) + sums["tax"]
        assert Fraction(one["total"]) == asked - sums["discount"] - sums["credit"]
        assert one["lines"]


@THROWS
@given(histories())
def test_what_a_grant_has_paid_and_what_is_left_is_the_grant(history: list[tuple[str, str]]) -> None:
    engine = open_engine()
    made = invoices(run(told(history), engine))
    paid = {"gift": 0, "brief": 0}
    for credit in (credit for one in made for credit in one.get("applied_credits", [])):
        paid[credit["grant"]] += parse_scaled(credit["amount"])
    given = {"gift": parse_scaled("75.5"), "brief": parse_scaled("20")}
    assert left(engine) == {grant: given[grant] - paid[grant] for grant in given}
    assert all(0 <= paid[grant] <= given[grant] for grant in given)


@THROWS
@given(histories(), st.integers(0, 12))
def test_accounts_and_what_was_billed_survive_a_snapshot(history: list[tuple[str, str]], cut: int) -> None:
    log = told(history)
    whole, engine = open_engine(), open_engine()
    for number, entry in enumerate(log.entries):
        if number == cut:
            engine = open_engine(engine.snapshot())
        assert engine.process([entry]).outputs == whole.process([entry]).outputs
    assert plain_dump(engine.snapshot()) == plain_dump(whole.snapshot())


@THROWS
@given(histories())
def test_the_cut_of_the_input_changes_no_invoice(history: list[tuple[str, str]]) -> None:
    one, other = open_engine(), open_engine()
    log = told(history)
    found = [output for entry in log.entries for output in one.process([entry]).outputs]
    at_once = list(other.process(log.entries).outputs)
    assert invoices(at_once) == invoices(found)
    assert alerts(at_once) == alerts(found)


def test_lines_stand_by_segment_then_as_written_then_by_dimensions_and_the_own_lines_last() -> None:
    charge = '{meter: units, group_by: [model], price: {model: unit, unit_amount: "1"}}'
    body = f'currency: USD, minimum: "1", overage_factor: "2", charges: {{z: {charge}, a: {charge}}}'
    catalogue = f"""
meters: {{units: {{event: use, aggregate: sum, value: $.n, dimensions: {{model: $.model}}}}}}
price_books: {{book: {{versions: [{{{body}}}, {{effective_from: 2026-11-16T00:00:00Z, {body}}}]}}}}
default_subscription: {{price_book: book, period: month}}
"""
    days = [
        (20, '{"n": 1, "model": "x"}'),
        (5, '{"n": 1, "model": "y"}'),
        (20, '{"n": 1}'),
        (5, '{"n": 1, "model": "x"}'),
    ]
    log = (
        Log()
        .catalogue(catalogue)
        .events([event(f"e{n}", f"2026-11-{d:02d}T00:00:00Z", data) for n, (d, data) in enumerate(days)])
    )
    [made] = invoices(run(log.tick(DECEMBER)))
    segment = {item["id"]: item["period"]["start"][8:10] for item in decoded(run(log), topics.LINE_ITEMS)}
    assert [(segment.get(i["line_item"]), i["charge"], i["dimensions"].get("model")) for i in made["lines"]] == [
        ("01", "z", "x"), ("01", "z", "y"), ("01", "a", "x"), ("01", "a", "y"),
        ("16", "z", None), ("16", "z", "x"), ("16", "a", None), ("16", "a", "x"), (None, "overage", None),
    ]  # fmt: skip


# Corrections ----------------------------------------------------------------------------------------------------------


def test_a_correction_without_a_difference_is_not_written() -> None:
    log = Log().catalogue(book()).events([use("a", "10")]).tick(DECEMBER)
    log.events([use("b", "0.004")]).tick("2026-12-02T00:00:00Z")
    assert [i["kind"] for i in invoices(run(log))] == ["period"]


def test_each_correction_is_an_invoice_of_its_own() -> None:
    log = Log().catalogue(book('minimum: "20"')).events([use("a", "10")]).tick(DECEMBER)
    log.events([use("b", "5")]).tick("2026-12-02T00:00:00Z").events([use("c", "50")]).tick("2026-12-03T00:00:00Z")
    found = invoices(run(log))
    assert [(i["kind"], i["subtotal"], i["minimum"], i["total"]) for i in found] == [
        ("period", "10", "10", "20"), ("correction", "5", "-5", "0"), ("correction", "50", "-5", "45"),
    ]  # fmt: skip
    assert len({i["id"] for i in found}) == 3


def test_a_lower_maximum_waits_for_a_line_to_stand_on() -> None:
    log = Log().catalogue(book('maximum: "50"\n    thresholds: [{spend: "40"}]')).events([use("a", "45")])
    log.catalogue(book('maximum: "30"')).tick(DECEMBER).events([use("b", "1")]).tick("2026-12-02T00:00:00Z")
    found = invoices(run(log))
    assert [(i["kind"], i["subtotal"], i["discounts"], i["total"]) for i in found] == [
        ("threshold", "45", "0", "45"), ("correction", "1", "16", "-15"),
    ]  # fmt: skip


# Closing times --------------------------------------------------------------------------------------------------------


def test_a_level_that_a_void_reaches_is_paid_as_of_the_newest_event_of_the_period() -> None:
    grants = """credit_grants: [{id: early, amount: "5", effective_from: 2026-11-01T00:00:00Z,
      expires_at: 2026-11-09T00:00:00Z}, {id: later, amount: "5", effective_from: 2026-11-09T00:00:00Z}]"""
    log = Log().catalogue(book('thresholds: [{spend: "55"}]', grants))
    log.events([use("a", "-20", day=8), use("b", "30", day=7), use("c", "30", day=4)])
    [made] = invoices(run(log.events([void("a")])))
    assert (made["kind"], made["because"]["event"]["id"], made["applied_credits"]) == (
        "threshold", "void-a", [{"grant": "early", "amount": "5"}],
    )  # fmt: skip


# Balances -------------------------------------------------------------------------------------------------------------


def test_a_balance_is_what_would_remain_if_the_invoice_were_made_now() -> None:
    engine = open_engine()
    run(Log().catalogue(book('minimum: "50"', 'credit_grants: [{id: gift, amount: "100"}]')), engine)
    assert left(engine) == {"gift": parse_scaled("100")}
    run(Log().catalogue(book('minimum: "50"', 'credit_grants: [{id: gift, amount: "100"}]')).events(
        [use("a", "30")]
    ), engine)  # fmt: skip
    before = engine.snapshot()
    assert left(engine) == {"gift": parse_scaled("70")}, "the true-up is due at the close, and not before"
    assert engine.snapshot() == before
    run(Log().tick(DECEMBER), engine)
    assert left(engine) == {"gift": parse_scaled("50")}


def test_a_balance_counts_what_has_changed_since_a_close() -> None:
    engine = open_engine()
    catalogue = book("", 'credit_grants: [{id: gift, amount: "100"}]')
    run(Log().catalogue(catalogue).events([use("a", "30")]).tick(DECEMBER), engine)
    log = Log().catalogue(catalogue)
    log.entries.clear()
    run(log.events([use("b", "20")]), engine)
    assert left(engine) == {"gift": parse_scaled("50")}


# Alerts ---------------------------------------------------------------------------------------------------------------


def test_a_low_balance_is_told_once_and_again_after_a_top_up() -> None:
    def granted(amount: str) -> str:
        grant = f'credit_grants: [{{id: gift, amount: "{amount}", low_balance: "20"}}]'
        return book('thresholds: [{spend: "10", repeat: true}]', grant)

    log = Log().catalogue(granted("100")).events([use("a", "85"), use("b", "10")])
    log.catalogue(granted("200")).events([use("c", "90"), use("d", "10")])
    low = [a for a in alerts(run(log)) if a["kind"] == "low_balance"]
    assert [(a["grant"], a["because"]["threshold"], a["because"]["level"], a["spend"]) for a in low] == [
        ("gift", "20", "15", "85"), ("gift", "20", "15", "185"),
    ]  # fmt: skip
    assert [a["because"]["event"]["id"] for a in low] == ["a", "c"]
    assert len({a["id"] for a in low}) == 2
    assert all(a["invoice"] for a in low)


def test_credit_lapses_after_the_invoice_of_a_close_and_the_customer_hears_of_it() -> None:
    grant = 'credit_grants: [{id: plan, amount: "100", rollover: "15", low_balance: "15"}]'
    log = Log().catalogue(book("", grant)).events([use("a", "40")]).tick(DECEMBER)
    engine = open_engine()
    outputs = run(log, engine)
    [alert] = alerts(outputs)
    assert (alert["because"], alert["invoice"]) == ({"threshold": "15", "level": "15"}, invoices(outputs)[0]["id"])
    assert left(engine) == {"plan": parse_scaled("15")}


def test_a_period_that_is_never_billed_lets_no_credit_lapse() -> None:
    engine = open_engine()
    log = Log().catalogue(book("", 'credit_grants: [{id: plan, amount: "100", rollover: "15"}]'))
    assert run(log.tick(DECEMBER).tick(JANUARY), engine) == []
    assert left(engine) == {"plan": parse_scaled("100")}


def test_a_budget_is_no_invoice() -> None:
    log = Log().catalogue(book('budget: {amount: "50", alerts: ["50", "120"]}'))
    outputs = run(log.events([use("a", "24"), use("b", "1"), use("c", "40")]))
    assert [(a["kind"], a["because"]["threshold"], a["because"]["level"], a["spend"]) for a in alerts(outputs)] == [
        ("budget", "50", "25", "25"), ("budget", "50", "60", "65"),
    ]  # fmt: skip
    assert invoices(outputs) == []
    assert "grant" not in alerts(outputs)[0]
