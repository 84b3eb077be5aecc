"""A line item by hand: what it says, and how its tiers are written. The reference for what is written by many at once.

Owns the JSON of one line: `line_item`, encoded, is what each line's bytes are by any way. It only reads the state.
"""

from typing import Any, Final

import msgspec

from rating.billing import Biller
from rating.compiled import Compiled, Rate
from rating.exact import int_of
from rating.lines import explain_line, leaf_of
from rating.state import State
from schemas import topics
from schemas.numbers import format_scaled
from schemas.output import LineItem, Through, TierAmount
from schemas.times import format_time
from streams.processor import Output

encode: Final = msgspec.json.Encoder().encode


def encode_by_hand(state: State, biller: Biller, line: int) -> Output:
    """One line as it is written."""
    item = line_item(state, biller, line)
    return Output(topics.LINE_ITEMS, item.id.encode(), encode(item))


def line_item(state: State, biller: Biller, line: int) -> LineItem:
    """A line as it stands."""
    lines = state.lines
    bill = int(lines["bill"][line])
    plan, tenant, customer, subscription = biller.who(bill)
    rate_number = int(lines["rate"][line])
    rate = state.catalogue.rates[rate_number] if rate_number >= 0 else None
    events = int(lines["events"][line])
    through = int(lines["through"][line])
    return LineItem(
        id=biller.line_id(line),
        revision=int(lines["revision"][line]),
        tenant=tenant,
        customer=customer,
        subscription=subscription,
        charge=state.charges.values[lines["charge"][line]],
        meter=None if rate is None else rate.meter,
        dimensions=biller.dimensions(line),
        currency=plan.currency,
        period=biller.span(bill),
        quantity=format_scaled(int_of(lines["quantity"][line])),
        amount=format_scaled(int_of(lines["amount"][line])),
        price_book=plan.price_book,
        price_version=plan.price_version,
        tiers=_flat_tier(state, line) if rate is None else _tiers(state, line, rate),
        events=events,
        first_event=format_time(int(lines["first"][line])) if events else None,
        last_event=format_time(int(lines["last"][line])) if events else None,
        through=Through(state.partition, through) if through >= 0 else None,
    )


def shown_tiers(rate: Rate, number: int, quantity: int) -> list[TierAmount]:
    """What one cell shows of its quantity, after free units."""
    leaf, channel = leaf_of(rate, number)
    if is_silent(rate, number):
        return []
    return rate.tables[number].breakdown(quantity, rate.bill_zero_usage, leaf.label, leaf.names[channel])


def is_silent(rate: Rate, number: int) -> bool:
    """Whether a cell only counts: what its events cost is in the further channels of its leaf."""
    leaf, channel = leaf_of(rate, number)
    return leaf.split is not None and channel == 0


def _tiers(state: State, line: int, rate: Rate) -> list[TierAmount]:
    """Every step from the line's quantities to its amount."""
    if not state.cells_of(line):
        return rate.leaves[-1].tables[0].breakdown(0, rate.bill_zero_usage, rate.leaves[-1].label)
    explained = explain_line(state, line)
    shown = [tier for number, billed in explained.billed for tier in shown_tiers(rate, number, billed)]
    for step, amount in explained.steps:
        text = format_scaled(amount)
        shown.append(TierAmount(start="0", quantity="0", unit_amount="0", flat_amount=text, amount=text, channel=step))
    return shown


def _flat_tier(state: State, line: int) -> list[TierAmount]:
    amount = format_scaled(int_of(state.lines["amount"][line]))
    return [TierAmount(start="0", quantity="1", unit_amount="0", flat_amount=amount, amount=amount)]


# Parts that do not change --------------------------------------------------------------------------------------------


def members(of: dict[str, Any]) -> str:
    """An object's JSON without its braces."""
    return encode(of).decode()[1:-1]


def tier_texts(compiled: Compiled) -> list[list[str]]:
    """The constant parts of each tier's JSON: before its quantity, its amount, its packages, and the end.

    Empty where nothing is shown; without packages there is no end."""
    parts: list[list[str]] = []
    for rate in compiled.rates:
        for number, table in enumerate(rate.tables):
            leaf, channel = leaf_of(rate, number)
            for tier in table.tiers:
                if is_silent(rate, number):
                    parts.append(["", "", "", ""])
                    continue
                shown = TierAmount(
                    start=format_scaled(tier.start),
                    up_to=None if tier.up_to is None else format_scaled(tier.up_to),
                    quantity="\x00",
                    unit_amount=format_scaled(tier.unit_amount),
                    flat_amount=format_scaled(tier.flat_amount),
                    amount="\x00",
                    package_size=format_scaled(tier.block) if tier.block else None,
                    packages="\x00" if tier.block else None,
                    cell=leaf.label,
                    channel=leaf.names[channel],
                )
                found = encode(shown).decode().split("\\u0000")
                parts.append(found if len(found) == 4 else [*found, ""])
    return parts
