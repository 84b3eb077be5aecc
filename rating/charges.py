"""What a charge's document says beside its price: its discount and its bounds. Checked, and taken into flat amounts."""

from decimal import Decimal

from schemas.catalogue import Charge, Discount
from schemas.faults import Faults, join
from schemas.numbers import ONE, divide_half_up, parse_scaled


def check_discount(discount: Discount | None, at: str, faults: Faults) -> None:
    """Notes a discount that is not one of its three, or out of bounds."""
    if discount is None:
        return
    given = {name: getattr(discount, name) for name in ("percent", "amount", "units")}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) != 1:
        found = " and ".join(given) or "none"
        faults.add(join(at, "discount"), f"found {found}, expected one of percent, amount, units")
    for name, value in given.items():
        if value < 0 or (name == "percent" and value > 100):
            expected = "from 0 to 100" if name == "percent" else "nought or more"
            faults.add(join(join(at, "discount"), name), f"found {value}, expected {expected}")


def check_bounds(charge: Charge, at: str, faults: Faults) -> None:
    """Notes bounds below nought, and a minimum above the maximum."""
    for key in ("free_units", "minimum", "maximum"):
        value = getattr(charge, key)
        if value is not None and value < 0:
            faults.add(join(at, key), f"found {value}, expected nought or more")
    if charge.minimum is not None and charge.maximum is not None and charge.minimum > charge.maximum:
        faults.add(join(at, "minimum"), f"found {charge.minimum}, expected at most the maximum {charge.maximum}")


def flat_amount(amount: int, charge: Charge) -> int:
    """What a flat charge asks of a whole period: less its discount, between its maximum and minimum."""
    return _bounded(_reduced(amount, charge.discount), charge)


def _reduced(amount: int, discount: Discount | None) -> int:
    """A flat amount less its discount."""
    if discount is None:
        return amount
    if discount.percent is not None:
        return amount - divide_half_up(amount * parse_scaled(discount.percent), 100 * ONE)
    return max(amount - parse_scaled(discount.amount or Decimal(0)), 0)


def _bounded(amount: int, charge: Charge) -> int:
    """A flat amount between its charge's maximum and minimum."""
    if charge.maximum is not None:
        amount = min(amount, parse_scaled(charge.maximum))
    return amount if charge.minimum is None else max(amount, parse_scaled(charge.minimum))


def free_charge(charge: Charge) -> Charge:
    """A charge that counts and asks nothing."""
    return Charge(price={}, meter=charge.meter, group_by=charge.group_by, description=charge.description)
