"""Lago's charge models and ours, both ways: one function reads `properties`, one says them.

What a model of theirs says and none of ours can is refused by field. Amounts are decimal texts on both sides; Lago's
rates are percents, ours shares.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NamedTuple

from ingest.compat.lago.answers import INVALID, MANDATORY
from ingest.compat.lago.documents import Fields, Members
from ingest.compat.lago.events import AMOUNT
from schemas.faults import Number
from schemas.numbers import format_scaled, parse_scaled

Price = dict[str, Any]
"""A price as our price books write it."""


class Priced(NamedTuple):
    """A price, and the free units that our documents keep beside it."""

    price: Price
    free_units: Decimal = Decimal(0)


class Model(NamedTuple):
    """One of Lago's charge models."""

    read: Callable[[Fields], Priced]
    say: Callable[[Price, Decimal], Members]
    ours: str


def _text(value: Decimal | None) -> str:
    return format_scaled(parse_scaled(value)) if value is not None else "0"


def _amount(fields: Fields, name: str = "amount") -> str:
    value = fields.decimal(name)
    if value is None and fields.members.get(name) is None:
        fields.wrong(name, MANDATORY)
    return _text(value)


def _said(value: Any) -> str:
    """A decimal of one of our prices, as a text."""
    return value.text if isinstance(value, Number) else str(value)


def _share(fields: Fields, name: str) -> str:
    """2.9 percent are 0.029. Nought where it is absent or wrong."""
    share, rest = divmod(parse_scaled(fields.decimal(name) or 0), 100)
    if rest:
        fields.wrong(name, INVALID, "expected at most 10 digits after the point")
    return format_scaled(share)


def percent_of(share: str) -> str:
    """0.029 is 2.9 percent."""
    return format_scaled(100 * parse_scaled(share))


# One amount for each unit -------------------------------------------------------------------------


def _read_standard(fields: Fields) -> Priced:
    return Priced({"model": "unit", "unit_amount": _amount(fields)})


def _say_standard(price: Price, free: Decimal) -> Members:
    return {"amount": _said(price["unit_amount"])}


# Packages -----------------------------------------------------------------------------------------


def _read_package(fields: Fields) -> Priced:
    size = fields.decimal("package_size", least=1)
    if size is None and fields.members.get("package_size") is None:
        fields.wrong("package_size", MANDATORY)
    price = {"model": "package", "package_size": _text(size), "package_amount": _amount(fields)}
    return Priced(price, fields.decimal("free_units") or Decimal(0))


def _say_package(price: Price, free: Decimal) -> Members:
    size = Decimal(_said(price["package_size"]))
    whole = int(size) if size == int(size) else _text(size)
    return {"amount": _said(price["package_amount"]), "package_size": whole, "free_units": _whole(free)}


# Ranges -------------------------------------------------------------------------------------------


def _ranges(fields: Fields, name: str, amount: str, ours: str, share: bool = False) -> list[Price]:
    """Lago's ranges as tiers: each one up to and with `to_value`, the last one without. `amount`: its name there."""
    ranges = fields.objects(name)
    if not ranges:
        fields.wrong(name, "missing_ranges")
    tiers: list[Price] = []
    for i, members in enumerate(ranges):
        one = Fields(members, fields.errors, f"{fields.place}{name}.{i}.")
        value = _share(one, amount) if share else _text(one.decimal(amount))
        tier = {ours: value, "flat_amount": _text(one.decimal("flat_amount"))}
        up_to = one.decimal("to_value")
        _check_range(one, i, up_to, last=i == len(ranges) - 1, before=tiers[-1].get("up_to") if tiers else None)
        tiers.append(tier if up_to is None else {"up_to": _text(up_to), **tier})
    return tiers


def _check_range(one: Fields, at: int, up_to: Decimal | None, last: bool, before: str | None) -> None:
    """A range begins where the one before it ends, or one unit later, as Lago's own screens write it."""
    first = one.decimal("from_value")
    least = Decimal(0) if at == 0 else Decimal(before or 0)
    if first is not None and first not in (least, least + 1):
        one.wrong("from_value", "invalid_ranges", f"found {first}, expected {least} or {least + 1}")
    if (up_to is None) != last:
        one.wrong("to_value", "invalid_ranges", "expected a value in every range but the last one")


def _say_ranges(tiers: list[Price], amount: str, ours: str, share: bool = False) -> list[Members]:
    found: list[Members] = []
    first: Decimal | None = None
    for tier in tiers:
        up_to = Decimal(_said(tier["up_to"])) if tier.get("up_to") is not None else None
        value = _said(tier.get(ours, "0"))
        found.append(
            {
                "from_value": 0 if first is None else _whole(first + 1),
                "to_value": None if up_to is None else _whole(up_to),
                "flat_amount": _said(tier.get("flat_amount", "0")),
                amount: percent_of(value) if share else value,
            }
        )
        first = up_to
    return found


def _whole(value: Decimal) -> int | str:
    return int(value) if value == int(value) else _text(value)


def _ranged(ours: str, name: str, amount: str, key: str, share: bool = False) -> Model:
    return Model(
        read=lambda fields: Priced({"model": ours, "tiers": _ranges(fields, name, amount, key, share)}),
        say=lambda price, free: {name: _say_ranges(price["tiers"], amount, key, share)},
        ours=ours,
    )


# Of each event's value ----------------------------------------------------------------------------

_PERCENTAGE: Final = {
    "fixed_amount": "fixed_amount",
    "free_units_per_total_aggregation": "free_amount",
    "per_transaction_min_amount": "min_amount",
    "per_transaction_max_amount": "max_amount",
}


def _read_percentage(fields: Fields) -> Priced:
    if fields.members.get("rate") is None:
        fields.wrong("rate", MANDATORY)
    price: Price = {"model": "percentage", "rate": _share(fields, "rate")}
    for theirs, ours in _PERCENTAGE.items():
        value = fields.decimal(theirs) if fields.members.get(theirs) != "" else None
        if value is not None and (value or ours == "max_amount"):
            price[ours] = _text(value)
    events = fields.whole("free_units_per_events")
    if events:
        price["free_events"] = Number(str(events))
    if "min_amount" in price or "max_amount" in price:
        price["free_rule"] = "amount_governs"  # with a least or greatest amount, Lago lets the free amount alone decide
    return Priced(price)


def _say_percentage(price: Price, free: Decimal) -> Members:
    found: Members = {"rate": percent_of(_said(price["rate"]))}
    found |= {theirs: _said(price[ours]) for theirs, ours in _PERCENTAGE.items() if ours in price}
    if "free_events" in price:
        found["free_units_per_events"] = int(_said(price["free_events"]))
    return found


def _read_dynamic(fields: Fields) -> Priced:
    return Priced({"model": "dynamic", "amount": f"$.{AMOUNT}", "multiplier": "0.01"})


MODELS: Final = {
    "standard": Model(_read_standard, _say_standard, "unit"),
    "graduated": _ranged("graduated", "graduated_ranges", "per_unit_amount", "unit_amount"),
    "volume": _ranged("volume", "volume_ranges", "per_unit_amount", "unit_amount"),
    "package": Model(_read_package, _say_package, "package"),
    "percentage": Model(_read_percentage, _say_percentage, "percentage"),
    "graduated_percentage": _ranged("graduated_percentage", "graduated_percentage_ranges", "rate", "rate", share=True),
    "dynamic": Model(_read_dynamic, lambda price, free: {}, "dynamic"),
}
"""Lago's charge models by name. Its `custom` is none of them."""

_BACK: Final = {model.ours: theirs for theirs, model in MODELS.items()}


def read_price(model: str, members: Any, fields: Fields, place: str = "properties") -> Priced:
    """The price that `properties` say; faults are noted under `place`."""
    if members is not None and not isinstance(members, dict):
        fields.wrong(place, INVALID, "expected an object")
        members = {}
    return MODELS[model].read(Fields(members or {}, fields.errors, f"{fields.place}{place}."))


def say_price(price: Price, free: Decimal) -> tuple[str, Members]:
    """Lago's model and properties of a price; our own word, and nothing more, where Lago has none."""
    theirs = _BACK.get(str(price.get("model")))
    if theirs is None:
        return str(price.get("model")), {}
    return theirs, MODELS[theirs].say(price, free)
