"""A catalogue's documents in words that an account manager understands: what is counted, what is asked for it."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from rating.prices import MODELS
from schemas.catalogue import Catalogue, Charge, Convert, Coupon, CreditGrant, Discount, Meter, Prices, Tax
from schemas.faults import Faults, Number, read
from taximeter.text import listed, moment, number, percent, plural

_DAY_NAMES: Final = {
    "mon": "Monday",
    "tue": "Tuesday",
    "wed": "Wednesday",
    "thu": "Thursday",
    "fri": "Friday",
    "sat": "Saturday",
    "sun": "Sunday",
}
_WEEK: Final = list(_DAY_NAMES)


class Said(NamedTuple):
    """A sentence; rows of a small table below it; and what stands inside, each under its own heading."""

    sentence: str
    rows: Sequence[tuple[str, str]] = ()
    inside: "Sequence[tuple[str, Said]]" = ()


# Meters -------------------------------------------------------------------------------------------


def meter_words(meter: Meter) -> str:
    """What a meter counts, without its conditions."""
    value, events = meter.value or "", f"{meter.event} events"
    of = f"{value} over {events}"
    plain = {
        "count": f"the number of {events}",
        "sum": f"the sum of {of}",
        "min": f"the least {of}",
        "max": f"the greatest {of}",
        "avg": f"the mean {of}",
        "latest": f"the last {value} of {events}",
        "unique_count": f"how many different {value} there are in {events}",
        "percentile": f"the {number(meter.percentile or 0)}th percentile of {of}",
        "time_weighted": _gauge(meter, value, events),
    }
    return plain[meter.aggregate] + (f", {_converted(meter.convert)}" if meter.convert else "")


def _gauge(meter: Meter, value: str, events: str) -> str:
    times = {None: "hours", "hour": "hours", "day": "days", "second": "seconds"}
    unit = "as a share of the billing period" if meter.unit == "period" else f"in {times[meter.unit]}"
    level = f"the changes {value}" if meter.reads == "change" else f"the level {value}"
    each = f", for each {meter.key} apart" if meter.key else ""
    return f"{level} that {events} report, times how long it holds {unit}{each}"


def _converted(convert: Convert) -> str:
    by = f"divided by {number(convert.divide)}" if convert.divide is not None else ""
    by = by or (f"times {number(convert.multiply)}" if convert.multiply is not None else "")
    ways = {"up": "rounded up", "down": "rounded down", "half_up": "rounded"}
    whole = {0: " to whole units"}.get(convert.digits, f" to {plural(convert.digits, 'digit')}")
    rounded = f"{ways[convert.round]}{whole}" if convert.round else ""
    each = "each event's value" if convert.per == "event" else "the total"
    return f"{each} {listed([part for part in (by, rounded) if part])}"


def where_words(meter: Meter) -> str:
    """The conditions of a meter; nothing where it has none."""
    return listed([f"{path} {_condition(value)}" for path, value in meter.where.items()])


def _condition(value: Any) -> str:
    if not isinstance(value, dict):
        return f"is {_values(value)}"
    names = {"gt": "above", "gte": "at least", "lt": "below", "lte": "at most"}
    said = []
    for key, bound in value.items():
        if key == "exists":
            said.append("is there" if bound is True or str(bound).lower() == "true" else "is absent")
        elif key == "not":
            said.append(f"is not {_values(bound)}")
        else:
            said.append(f"is {names.get(key, key)} {_values(bound)}")
    return listed(said)


def _values(value: Any) -> str:
    values = value if isinstance(value, list) else [value]
    return listed([_value(one) for one in values], "or")


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "nothing" if value is None else str(value)


# Charges ------------------------------------------------------------------------------------------


def charge_words(charge: Charge, catalogue: Catalogue, currency: str) -> list[Said]:
    """What a charge asks, sentence by sentence, in the order in which it is worked out."""
    said: list[Said] = []
    meter = catalogue.meters.get(charge.meter or "")
    if meter is not None:
        said.append(Said(f"Counts {charge.meter}: {meter_words(meter)}."))
    if charge.group_by:
        said.append(Said(f"One line, rated apart, for each {listed(charge.group_by)}."))
    if charge.free_units:
        said.append(Said(f"The first {number(charge.free_units)} units of a period are free."))
    if charge.discount is not None and charge.discount.units is not None:
        said.append(Said(f"Another {number(charge.discount.units)} units come off as a discount."))
    said.append(price_words(charge.price, currency, charge))
    said += [Said(text) for text in _afterwards(charge, catalogue, currency)]
    return said


def _afterwards(charge: Charge, catalogue: Catalogue, currency: str) -> list[str]:
    said = []
    discount = discount_words(charge.discount, currency)
    if discount:
        said.append(f"Then {discount} off.")
    line = "a line" if charge.group_by else "a period"
    bounds = [
        f"at {word} {number(amount)} {currency}"
        for word, amount in (("most", charge.maximum), ("least", charge.minimum))
        if amount is not None
    ]
    if bounds:
        said.append(f"{listed(bounds).capitalize()} {line}.".replace(currency.lower(), currency))
    if charge.bill_zero_usage or charge.minimum:
        said.append("A period without any usage is billed too.")
    if charge.taxes is not None:
        taxes = listed([tax_words(tax, catalogue) for tax in charge.taxes])
        said.append(f"Taxed by {taxes}, in place of the customer's taxes." if taxes else "Not taxed.")
    return said


def discount_words(discount: Discount | None, currency: str) -> str:
    """What comes off a charge's price; nothing where it is units, or none."""
    if discount is None:
        return ""
    if discount.percent is not None:
        return f"{number(discount.percent)} %"
    return "" if discount.amount is None else f"{number(discount.amount)} {currency}"


def price_words(price: dict[str, Any], currency: str, charge: Charge | None = None) -> Said:
    """What a price asks. A model that is not known here says what it says of itself."""
    model = MODELS[price["model"]]
    read_in = read(model, {key: value for key, value in price.items() if key != "model"}, "", Faults())
    say = _MODELS.get(price["model"])
    if say is not None:
        return say(read_in, currency, charge)
    rows = [(key, str(value)) for key, value in price.items() if key != "model"]
    return Said(f"{model.description.capitalize()}.", rows)


def _flat(price: Any, currency: str, charge: Charge | None) -> Said:
    when = "in advance" if charge is not None and charge.when == "in_advance" else "in arrears"
    part = "; a part of a period pays its share of the time" if charge is not None and charge.prorate else ""
    return Said(f"{number(price.amount)} {currency} a period, {when}, whatever is used{part}.")


def _one_time(price: Any, currency: str, _: Charge | None) -> Said:
    return Said(f"{number(price.amount)} {currency}, once, when the price book first takes force.")


def _unit(price: Any, currency: str, _: Charge | None) -> Said:
    return Said(f"{number(price.unit_amount)} {currency} for each unit.")


def _graduated(price: Any, currency: str, _: Charge | None) -> Said:
    rows = [(label, _tier(tier, currency)) for label, tier in zip(_parts(price.tiers), price.tiers, strict=True)]
    return Said("Each unit at the price of its own tier:", rows)


def _volume(price: Any, currency: str, _: Charge | None) -> Said:
    labels = _holding(price.tiers, price.bounds)
    rows = [(label, _tier(tier, currency)) for label, tier in zip(labels, price.tiers, strict=True)]
    return Said("All units at the price of the tier that holds the total:", rows)


def _stairstep(price: Any, currency: str, _: Charge | None) -> Said:
    labels = _holding(price.tiers, price.bounds)
    rows = [(label, f"{number(tier.flat_amount)} {currency}") for label, tier in zip(labels, price.tiers, strict=True)]
    if price.method == "graduated":
        return Said("The amounts of all steps that the total has entered, added up:", rows)
    return Said("One amount, by the step that holds the total:", rows)


def _package(price: Any, currency: str, _: Charge | None) -> Said:
    begun = "a begun package counts whole" if price.round == "up" else "only full packages count"
    return Said(f"{number(price.package_amount)} {currency} for each package of {number(price.package_size)}; {begun}.")


def _percentage(price: Any, currency: str, _: Charge | None) -> Said:
    fixed = f" and {number(price.fixed_amount)} {currency}" if price.fixed_amount else ""
    bounds = [
        f"at {word} {number(amount)} {currency}"
        for word, amount in (("least", price.min_amount), ("most", price.max_amount))
        if amount is not None
    ]
    between = f", {listed(bounds)}" if bounds else ""
    free = []
    if price.free_events is not None:
        free.append(plural(price.free_events, "event"))
    if price.free_amount is not None:
        free.append(f"{number(price.free_amount)} {currency}")
    first = ""
    if free:
        both = ", whichever is used up first," if len(free) == 2 and price.free_rule == "first_limit" else ""
        one = len(free) == 1 and (price.free_events == 1 or price.free_amount is not None)
        first = f" The first {listed(free, 'or')}{both} of a period {'is' if one else 'are'} free."
    return Said(f"{percent(price.rate)} of each event's value{fixed}{between}.{first}")


def _graduated_percentage(price: Any, currency: str, _: Charge | None) -> Said:
    rows = []
    for label, tier in zip(_parts(price.tiers), price.tiers, strict=True):
        flat = f", and {number(tier.flat_amount)} {currency} once it is entered" if tier.flat_amount else ""
        rows.append((label, percent(tier.rate) + flat))
    return Said("Each part of the total at the rate of its own tier:", rows)


def _dynamic(price: Any, currency: str, _: Charge | None) -> Said:
    times = "" if price.multiplier == 1 else f", times {number(price.multiplier)}"
    return Said(f"What each event itself says that it costs ({price.amount}){times}, in {currency}.")


def _matrix(price: Any, currency: str, _: Charge | None) -> Said:
    inside = [(cell_words(cell.match), price_words(cell.price, currency)) for cell in price.cells]
    return Said(
        f"By {listed(price.by)}; where several fit, the one that names the most:", [], inside + _rest(price, currency)
    )


def _schedule(price: Any, currency: str, _: Charge | None) -> Said:
    inside = [(window_words(window), price_words(window.price, currency)) for window in price.windows]
    return Said(
        f"By the time of each event in {price.timezone}; the first that fits:", [], inside + _rest(price, currency)
    )


def _rest(price: Any, currency: str) -> list[tuple[str, Said]]:
    return [("all else", price_words(price.otherwise, currency) if price.otherwise else Said("Free."))]


_MODELS: Final[dict[str, Callable[[Any, str, Charge | None], Said]]] = {
    "flat": _flat,
    "one_time": _one_time,
    "unit": _unit,
    "graduated": _graduated,
    "volume": _volume,
    "stairstep": _stairstep,
    "package": _package,
    "percentage": _percentage,
    "graduated_percentage": _graduated_percentage,
    "dynamic": _dynamic,
    "matrix": _matrix,
    "schedule": _schedule,
}


def cell_words(match: dict[str, Any]) -> str:
    """What a cell of a matrix holds."""
    return ", ".join(f"{name} {_values(value)}" for name, value in match.items())


def window_words(window: Any) -> str:
    """What a window of a schedule holds: `Monday to Friday, 08:00 to 20:00`."""
    hours = "" if window.hours == "00:00-24:00" else window.hours.replace("-", " to ")
    days = sorted(_WEEK.index(day) for day in window.days)
    run = days == list(range(days[0], days[-1] + 1)) if days else False
    names = [_DAY_NAMES[_WEEK[day]] for day in days]
    if len(days) == len(_WEEK):
        return f"every day, {hours}" if hours else "every day"
    said = f"{names[0]} to {names[-1]}" if run and len(days) > 2 else listed(names)
    return f"{said}, {hours}" if hours else said


def _parts(tiers: list[Any]) -> list[str]:
    """What each tier holds of the total, where each unit stands in its own."""
    if len(tiers) == 1:
        return ["every unit"]
    first, *middle, _ = tiers
    labels = [f"the first {number(first.up_to)}"]
    labels += [f"then up to {number(tier.up_to)}" for tier in middle]
    return [*labels, f"above {number(tiers[-2].up_to)}"]


def _holding(tiers: list[Any], bounds: str) -> list[str]:
    """Which totals each tier holds, where all units stand in one."""
    if len(tiers) == 1:
        return ["any total"]
    below, above = ("below", "from") if bounds == "from" else ("up to", "above")
    return [*(f"{below} {number(tier.up_to)}" for tier in tiers[:-1]), f"{above} {number(tiers[-2].up_to)}"]


def _tier(tier: Any, currency: str) -> str:
    flat = f"{number(tier.flat_amount)} {currency} once it is entered" if tier.flat_amount else ""
    each = f"{number(tier.unit_amount)} {currency} each" if tier.unit_amount or not flat else ""
    most = getattr(tier, "maximum_amount", None)
    capped = "" if most is None else f", at most {number(most)} {currency} in all"
    return ", and ".join(filter(None, (each, flat))) + capped


# Around the charges -------------------------------------------------------------------------------


def book_words(prices: Prices) -> list[str]:
    """What a price book says of a whole period."""
    currency, said = prices.currency, []
    minimum = prices.minimum
    if minimum is not None:
        amount, prorate, true_up = (
            (minimum, False, True)
            if isinstance(minimum, Decimal)
            else (minimum.amount, minimum.prorate, minimum.true_up)
        )
        short = "what is missing is billed by a line of its own" if true_up else "what is missing is not billed"
        part = "; a part of a period commits to its share of the time" if prorate else ""
        said.append(f"At least {number(amount)} {currency} a period: {short}{part}.")
    if prices.overage_factor is not None:
        said.append(f"What is above the commitment is multiplied by {number(prices.overage_factor)}.")
    if prices.maximum is not None:
        said.append(f"At most {number(prices.maximum)} {currency} a period: what is above it comes off as a discount.")
    for threshold in prices.thresholds:
        again = f", and at every further {number(threshold.spend)}" if threshold.repeat else ""
        said.append(f"An invoice at once when spend reaches {number(threshold.spend)} {currency}{again}.")
    if prices.budget is not None:
        shares = listed([f"{number(share)} %" for share in prices.budget.alerts])
        said.append(f"An alert, and no invoice, at {shares} of a budget of {number(prices.budget.amount)} {currency}.")
    if prices.rounding == "half_even":
        said.append("Half a minor unit is rounded to the even one.")
    if prices.tax_rounding == "per_line":
        said.append("Taxes are rounded line by line.")
    if not prices.carry_usage:
        said.append("Tiers and free units begin anew when this version takes force.")
    if prices.corrections == "next":
        said.append("Usage that comes after a period's close is billed on the next invoice.")
    return said


def tax_words(tax: Tax, catalogue: Catalogue) -> str:
    """A tax, looked up where it only names one."""
    known = catalogue.tax_rates.get(tax.id or "") if tax.rate is None else tax
    if known is None or known.rate is None:
        return tax.id or tax.name
    held = ", which the prices hold already" if known.inclusive else ""
    return f"{known.name or tax.id} {percent(known.rate)}{held}"


def coupon_words(coupon: Coupon, catalogue: Catalogue) -> str:
    """A coupon, looked up where it only names one."""
    empty = coupon.percent is None and coupon.amount is None
    known = catalogue.coupons.get(coupon.id or "", coupon) if empty else coupon
    off = f"{number(known.percent)} %" if known.percent is not None else number(known.amount or 0)
    lasts = {"once": "once", "forever": "for ever"}.get(str(known.duration), f"for {known.duration} periods")
    return f"{off} off, {lasts}"


def grant_words(grant: CreditGrant) -> str:
    """A credit grant: what of it may be drawn, when and for what."""
    said = [f"{number(grant.amount)} {grant.currency or ''}".strip(), f"priority {grant.priority}"]
    if grant.effective_from is not None:
        said.append(f"from {moment(grant.effective_from)}")
    if grant.expires_at is not None:
        said.append(f"until {moment(grant.expires_at)}")
    if grant.charges:
        said.append(f"only for {listed(grant.charges)}")
    if grant.low_balance is not None:
        said.append(f"an alert when {number(grant.low_balance)} is left")
    if grant.rollover is not None:
        said.append(f"at most {number(grant.rollover)} goes on into the next period")
    return ", ".join(said)


def plain(value: Any) -> str:
    """A value of a document, as a difference shows it."""
    return str(value) if isinstance(value, Number) else _value(value)
