"""Prices of usage: the case's quantities are metered and rated, its figures stand on line items and invoices."""

from fractions import Fraction
from typing import Any

from tests.cases.agreement import DAY, Agreement, Invoice, Rated, Row
from tests.cases.prices import CHARGE, lay, steps
from tests.cases.reading import Case, Money
from tests.oracle.calendars import iso, moment

Found = dict[str, Any]


def rated(case: Case) -> Found:
    """The figures of a price of usage, by the form of the usage."""
    return _by_form(case, lay(case))


def stepped(case: Case) -> Found:
    """A stairstep whose further tiers have unit prices: as its tiers, and as the model `stairstep` of its steps."""
    whole = _by_form(case, lay(case))
    agreement = lay(case)
    agreement.charges[CHARGE] = {"meter": "usage", **steps(case["price"])}
    alone = _by_form(case, agreement)
    assert alone["amount"] == whole["amount"], f"as tiers {whole}, as steps {alone}"
    return whole


def _by_form(case: Case, agreement: Agreement) -> Found:
    usage = case["usage"]
    if isinstance(usage, str):
        return _plain(case, agreement, [usage])
    if isinstance(usage, list):
        return _plain(case, agreement, usage)
    for form, translate in _FORMS.items():
        if form in usage:
            return translate(case, agreement, usage)
    raise AssertionError(f"no translation for this form of usage: {usage}")


def _plain(case: Case, agreement: Agreement, quantities: list[Any]) -> Found:
    """One event for each quantity; properties are dimensions."""
    for quantity in quantities:
        if isinstance(quantity, str):
            _use(agreement, Fraction(quantity))
        else:
            _group(agreement, list(quantity["properties"]))
            agreement.use(quantity["quantity"], **quantity["properties"])
    return _figures(case, agreement, agreement.rate())


def _own_amounts(case: Case, agreement: Agreement, usage: Row) -> Found:
    """Each event brings its own price, beside what it counts; the quantity is that of the first."""
    for i, amount in enumerate(usage["event_amounts_minor"]):
        major = Fraction(amount) / 10 ** Money(case).digits
        agreement.use(usage["quantity"] if i == 0 else "0", amount=major)
    return _figures(case, agreement, agreement.rate())


def _phases(case: Case, agreement: Agreement, usage: Row) -> Found:
    """Running totals, each billed as the difference to before: an invoice after each but the last, and the period's."""
    before = Fraction(0)
    for i, total in enumerate(map(Fraction, usage["phases"])):
        if i:
            agreement.bill()
        _use(agreement, total - before)
        before = total
    found = agreement.rate()
    phases = [invoice.net for invoice in (*found.bills, found.closing)]
    return {"phases": phases, "amount": sum(phases)}


def _buckets(case: Case, agreement: Agreement, usage: Row) -> Found:
    """Rated apart, then added: a billing period of a day for each."""
    agreement.terms["period"] = "day"
    start = moment(agreement.start)
    for i, quantity in enumerate(usage["buckets"]):
        agreement.use(quantity, time=iso(start + i * DAY))
    found = agreement.rate(iso(start + len(usage["buckets"]) * DAY))
    return {"amount": found.amount()}


def _groups(case: Case, agreement: Agreement, usage: Row) -> Found:
    """The same by group: a line item for each."""
    _group(agreement, ["group"])
    agreement.charges[CHARGE]["group_by"] = ["group"]
    for i, quantity in enumerate(usage["groups"]):
        agreement.use(quantity, group=f"g{i}")
    return {"amount": agreement.rate().amount()}


def _windows(case: Case, agreement: Agreement, usage: Row) -> Found:
    """A commitment for each window: a billing period of a day for each, on invoices."""
    price = case["price"]
    assert not Fraction(price["extra"])
    agreement.terms["period"] = "day"
    agreement.book["minimum"] = {"amount": price["commitment_amount"], "true_up": price["true_up"]}
    agreement.book["overage_factor"] = price["overage_factor"]
    start = moment(agreement.start)
    for i, quantity in enumerate(usage["windows"]):
        agreement.use(quantity, time=iso(start + i * DAY))
    found = agreement.rate(iso(start + len(usage["windows"]) * DAY))
    return {"amount": sum(invoice.figure("total") for invoice in found.all)}


def _position(case: Case, agreement: Agreement, usage: Row) -> Found:
    """A line that invoices inside the period split: `first` and `mid` are on such an invoice, `last` and `single` on
    the period's; what was metered on earlier lines was billed before."""
    earlier, quantity = _earlier(case, usage), Fraction(usage["quantity"])
    split, inside = usage["position"] in ("mid", "last"), usage["position"] in ("first", "mid")
    if "discount" in case["expected"]:
        return _discounted(agreement, usage, earlier, quantity)
    if split:
        _use(agreement, earlier)
        agreement.bill()
        before = agreement.rate(None)
    if agreement.charges[CHARGE]["price"]["model"] != "flat":
        _use(agreement, quantity)
    if inside:
        agreement.bill()
    found = agreement.rate()
    invoice: Invoice = found.bills[-1] if inside else found.closing
    if split and "previously_billed" in usage:
        billed = sum(bill.net for bill in found.bills[:1])
        assert billed == Fraction(usage["previously_billed"]), f"billed before: {billed}"
    figures = {"amount": invoice.net, "units": _billed_units(found) - (_billed_units(before) if split else 0)}
    return figures | ({} if split else _tiers(found))


def _earlier(case: Case, usage: Row) -> Fraction:
    """What was metered before, or what must have been for what was billed."""
    if "pre_line_quantity" in usage:
        return Fraction(usage["pre_line_quantity"])
    return Fraction(usage.get("previously_billed", 0)) / Fraction(case["price"]["base"].get("unit_price", 1))


def _discounted(agreement: Agreement, usage: Row, earlier: Fraction, quantity: Fraction) -> Found:
    """The invoice before is made at what was billed on it; the one after says what the maximum took off."""
    agreement.book["thresholds"] = [{"spend": usage["previously_billed"]}]
    _use(agreement, earlier)
    _use(agreement, quantity)
    found = agreement.rate()
    assert len(found.bills) == 1
    line, discount = (found.closing.line(CHARGE, figure) for figure in ("amount", "discount"))
    return {"amount": line - discount, "discount": discount}


_FORMS = {
    "event_amounts_minor": _own_amounts,
    "phases": _phases,
    "buckets": _buckets,
    "groups": _groups,
    "windows": _windows,
    "position": _position,
}


def _use(agreement: Agreement, quantity: Fraction) -> None:
    if quantity:
        agreement.use(quantity)


def _group(agreement: Agreement, names: list[str]) -> None:
    """Dimensions of the meter; where the price does not depend on them, they split the line."""
    charge = agreement.charges[CHARGE]
    by = charge["price"].get("by", [])
    dimensions = agreement.meters["usage"].setdefault("dimensions", {})
    dimensions.update({name: f"$.{name}" for name in [*by, *names]})
    if not by:
        charge["group_by"] = sorted(dimensions)


def _figures(case: Case, agreement: Agreement, found: Rated) -> Found:
    """What one period's line items say, and its invoice."""
    money, invoice = Money(case), found.closing
    free = Fraction(agreement.charges[CHARGE].get("free_units", 0))
    paid = sum((Fraction(item["quantity"]) for item in found.of(CHARGE)), Fraction(0)) - free
    figures: Found = {
        "amount": invoice.net if case.get("rounding") else found.amount(CHARGE),
        "amount_minor": money.minor(invoice.net),
        "total_minor": money.minor(invoice.figure("total")),
        "units": _billed_units(found),
        **_tiers(found),
    }
    if paid > 0:
        figures["unit_amount"] = found.amount(CHARGE) / paid
    if "credits" in case["price"]:
        figures["amount"] = invoice.figure("total")
    if "only_tier" in case["price"]:
        tier = figures["tiers"][int(case["price"]["only_tier"])]
        figures |= {"amount": tier["amount"], "units": tier["units"]}
    return figures


def _tiers(found: Rated) -> Found:
    tiers = [tier for item in found.of(CHARGE) for tier in item["tiers"]]
    return {
        "tiers": [{"units": Fraction(tier["quantity"]), "amount": Fraction(tier["amount"])} for tier in tiers],
        "packages": sum((Fraction(tier.get("packages", 0)) for tier in tiers), Fraction(0)),
    }


def _billed_units(found: Rated) -> Fraction:
    """The units that tiers were asked for, begun packages whole."""
    units = Fraction(0)
    for item in found.of(CHARGE):
        for tier in item["tiers"]:
            packages = Fraction(tier.get("packages") or 0) * Fraction(tier.get("package_size") or 0)
            units += packages or Fraction(tier["quantity"])
    return units
