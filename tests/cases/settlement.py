"""What an invoice does after its lines: coupons, credits, taxes, and how they are spread; and rounding."""

from fractions import Fraction
from typing import Any

from schemas.catalogue import CatalogueError
from tests.cases.agreement import Agreement, Rated
from tests.cases.prices import CHARGE, flat, rounding, tax, unit
from tests.cases.reading import Case, Money
from tests.oracle.calendars import iso, moment

Found = dict[str, Any]


def coupons(case: Case) -> Found:
    """Coupons on an invoice whose lines are fees."""
    price = case["price"]
    listed = price["coupons"]
    if price["order"] == "percent_first":
        listed = sorted(listed, key=lambda coupon: coupon["kind"] != "percent")
    documents = [_coupon(Money(case), coupon) for coupon in listed]
    return _taken_off(case, case["usage"]["lines"], [coupon for coupon in documents if coupon])


def allocation(case: Case) -> Found:
    """A total spread over weights: a coupon of so much on fees of these amounts. Keys give the order of the lines."""
    usage = case["usage"]
    coupon = {"amount": Money(case).read(usage["total"])}
    found = _taken_off(case, usage["weights"], [coupon], usage.get("keys"))
    return found | {"net": [Fraction(w) - off for w, off in zip(usage["weights"], found["allocated"], strict=True)]}


def _coupon(money: Money, coupon: dict[str, Any]) -> dict[str, Any]:
    """The coupon's document; empty for one of nought, which the catalogue refuses: it is no coupon."""
    if not Fraction(coupon[coupon["kind"].replace("fixed", "amount")]):
        return {}
    return {"percent": coupon["percent"]} if coupon["kind"] == "percent" else {"amount": money.read(coupon["amount"])}


def _taken_off(case: Case, lines: list[str], listed: list[dict[str, Any]], keys: list[str] | None = None) -> Found:
    money = Money(case)
    agreement = Agreement(money.currency)
    names = keys or [f"line-{i}" for i in range(len(lines))]
    for name, amount in sorted(zip(names, lines, strict=True)) if keys else zip(names, lines, strict=True):
        agreement.charges[name] = flat(money.read(amount))
    agreement.customer["coupons"] = [
        {"id": f"coupon-{i}", "duration": "forever", **coupon} for i, coupon in enumerate(listed)
    ]
    invoice = agreement.rate().closing
    return {
        "amount": money.own(invoice.figure("discounts")),
        "net": money.own(invoice.figure("total")),
        "allocated": [money.own(invoice.line(name, "discount")) for name in names],
    }


def credit_cap(case: Case) -> Found:
    """A credit against what was charged: a coupon after one for what was credited already. The catalogue refuses one
    below nought, so such a credit is none."""
    usage = case["usage"]
    listed = [{"amount": usage["already_credited"]}, {"amount": usage["potential"]}]
    try:
        taken = _taken_off(case, [usage["original"]], listed)["amount"]
    except CatalogueError as error:
        assert "[1].amount" in str(error), error
        assert Fraction(usage["potential"]) < 0
        return {"amount": Fraction(0)}
    return {"amount": taken - _taken_off(case, [usage["original"]], listed[:1])["amount"]}


def wallets(case: Case) -> Found:
    """Wallets that pay an invoice's fees: credit grants, the older the earlier in the list."""
    money, fees = Money(case), case["usage"]["fees"]
    agreement = Agreement(money.currency)
    names = [f"{fee['kind']}-{i}" for i, fee in enumerate(fees)]
    for name, fee in zip(names, fees, strict=True):
        agreement.charges[name] = flat(money.read(fee["amount"]))
    granted = moment(agreement.start)
    grants = []
    for age, wallet in enumerate(case["price"]["wallets"]):
        grant = {"id": wallet["id"], "amount": money.read(wallet["balance"]), "priority": int(wallet["priority"])}
        grant |= {"effective_from": iso(granted + age), "currency": wallet.get("currency", money.currency)}
        if "only" in wallet:
            # A limit to a kind of fee that the invoice lacks is one to a charge that asks nothing.
            limited = [name for name, fee in zip(names, fees, strict=True) if fee["kind"] in wallet["only"]]
            if not limited:
                limited = [f"no-{kind}" for kind in wallet["only"]]
                agreement.charges |= {name: flat("0") for name in limited}
            grant["charges"] = limited
        grants.append(grant)
    agreement.customer["credit_grants"] = grants
    invoice = agreement.rate().closing
    drawn = {row["grant"]: money.own(Fraction(row["amount"])) for row in drawn_of(invoice.row)}
    asked = {wallet["id"]: drawn.get(wallet["id"], Fraction(0)) for wallet in case["price"]["wallets"]}
    return {
        "amount": money.own(invoice.figure("credits")),
        "drawn": asked,
        "due": money.own(invoice.figure("total")),
    }


def drawn_of(invoice: dict[str, Any]) -> list[dict[str, Any]]:
    """What each grant paid of an invoice."""
    return list(invoice.get("applied_credits", ()))


def grants(case: Case) -> Found:
    """Grants that usage draws on when it happens: a unit costs one, and every event makes an invoice at once.

    A balance is what a grant still pays at the end, of an event that would take everything.
    """
    price, usage = case["price"], case["usage"]
    agreement = Agreement(start=usage["from"], terms={"period": "year"})
    agreement.meters["usage"] = {"event": "use", "aggregate": "sum", "value": "$.value"}
    agreement.charges[CHARGE] = unit("1")
    agreement.book["thresholds"] = [{"spend": "1", "repeat": True}]
    resets = sorted(price.get("resets", []))
    if resets:
        hour, rest = divmod(moment(resets[0]) // 60_000_000, 60)
        assert not rest
        agreement.terms = {"period": "day", "timezone": f"Etc/GMT+{hour % 24}"}
    listed = [one for grant in price["grants"] for one in _granted(grant, price["start_balances"], usage["to"])]
    agreement.customer["credit_grants"] = [one for _, one in listed]
    for event in usage["events"]:
        while resets and moment(resets[0]) <= moment(event["time"]):
            agreement.tick(resets.pop(0))
        agreement.use(event["quantity"], time=event["time"])
    for reset in resets:
        agreement.tick(reset)
    everything = sum((Fraction(one["amount"]) for _, one in listed), Fraction(1))
    agreement.use(everything, time=usage["to"])
    found = agreement.rate(None)
    *earlier, last = found.all
    left = {row["grant"]: Fraction(row["amount"]) for row in drawn_of(last.row)}
    balances = {grant["id"]: Fraction(0) for grant in price["grants"]}
    for name, one in listed:
        balances[name] += left.get(one["id"], 0)
    due = sum((invoice.figure("total") for invoice in earlier), Fraction(0))
    return {"amount": due, "overage": due, "balances": balances}


def _granted(grant: dict[str, Any], balances: dict[str, str], until: str) -> list[tuple[str, dict[str, Any]]]:
    """The grant, and again at each recurrence, where the one before ends."""
    expires = min(moment(grant["expires_at"]), moment(grant.get("deleted_at", grant["expires_at"])))
    starts = [moment(grant["effective_at"])]
    if "recurrence" in grant:
        step = {"week": 7 * 86_400_000_000}[grant["recurrence"]["interval"]]
        at = moment(grant["recurrence"]["anchor"])
        while at < min(expires, moment(until)):
            starts += [at] if at > starts[0] else []
            at += step
    found = []
    for i, (start, end) in enumerate(zip(starts, [*starts[1:], expires], strict=True)):
        one = {"id": f"{grant['id']}-{i}", "priority": int(grant["priority"])}
        one |= {"amount": grant["amount"] if i else balances[grant["id"]]}
        one |= {"effective_from": iso(start), "expires_at": iso(end)}
        if "max_rollover" in grant:
            one["rollover"] = grant["max_rollover"]
        found.append((grant["id"], one))
    return found


_TAX_ROUNDING = {"per_line_per_rate": "per_line", "once_on_invoice": "per_invoice"}


def taxes(case: Case) -> Found:
    """Taxes on an invoice whose lines are fees, each with its own rates."""
    money = Money(case)
    lines: list[str] = []
    agreement = Agreement(money.currency)
    agreement.book["tax_rounding"] = _TAX_ROUNDING[case["price"]["tax_rounding"]]
    for line in case["usage"]["lines"]:
        for _ in range(int(line.get("repeat", "1"))):
            lines.append(f"line-{len(lines)}")
            rates = [tax(rate) for rate in line["rates_percent"]]
            agreement.charges[lines[-1]] = flat(money.read(line["net"]), taxes=rates)
    found = agreement.rate()
    invoice = found.closing
    return {
        "amount": money.own(invoice.figure("taxes")),
        "total": money.own(invoice.figure("total")),
        "line_taxes": [money.own(invoice.line(name, "tax")) for name in lines],
        "rate_taxes": [money.own(Fraction(row["amount"])) for row in invoice.row.get("tax_lines", ())],
    }


def rounded(case: Case) -> Found:
    """Rounding to a currency happens on an invoice's lines, to so many digits in a meter's conversion."""
    usage, how = case["usage"], case["rounding"]
    money = Money(case)
    agreement = Agreement(money.currency)
    agreement.meters["usage"] = {"event": "use", "aggregate": "sum", "value": "$.value"}
    agreement.charges[CHARGE] = unit("1")
    if "values" in usage:
        assert case["price"]["sum"] == "round_each_then_add"
        agreement.meters["usage"]["dimensions"] = {"line": "$.line"}
        agreement.charges[CHARGE]["group_by"] = ["line"]
        for i, value in enumerate(usage["values"]):
            agreement.use(value, line=f"line-{i}")
        return {"amount": agreement.rate().closing.figure("subtotal")}
    agreement.use(usage["value"])
    if "currency" not in how:
        agreement.meters["usage"]["convert"] = {
            "multiply": "1", **rounding(how["mode"], how["digits"], usage["value"])
        }  # fmt: skip
        return {"amount": _quantity(agreement.rate())}
    amount = agreement.rate().closing.net
    return {"amount": amount, "amount_minor": money.minor(amount)}


def _quantity(found: Rated) -> Fraction:
    (item,) = found.of(CHARGE)
    return Fraction(item["quantity"])
