"""Emit: line items and rejections as JSON. Each changed line once for each step, whatever happened to it within."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rating.billing import Biller, cells_in_order, rate_cells
from rating.catalogue import Rate
from rating.columns import Batch
from rating.exact import int_of
from rating.metering import Refusal
from rating.state import State
from schemas import topics
from schemas.numbers import format_scaled
from schemas.output import LineItem, Through, TierAmount
from schemas.rejection import Rejection, Where
from schemas.times import format_time
from streams.processor import Output

_ENCODE = msgspec.json.Encoder().encode


def encode_line_items(state: State, biller: Biller, lines: NDArray[np.int64]) -> list[tuple[str, bytes]]:
    """(id, JSON) of each line that has something to say: a nought one only where it takes an earlier one back."""
    found: list[tuple[str, bytes]] = []
    for line in lines.tolist():
        item = line_item(state, biller, line)
        if item.quantity == "0" and item.amount == "0" and not state.lines["written"][line]:
            continue
        state.lines["written"][line] = 1
        found.append((item.id, _ENCODE(item)))
    return found


def line_item(state: State, biller: Biller, line: int) -> LineItem:
    """A line as it stands."""
    lines = state.lines
    bill = int(lines["bill"][line])
    plan = state.plan_of(bill)
    _, tenant, customer, subscription = biller._who(bill)
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


def _tiers(state: State, line: int, rate: Rate) -> list[TierAmount]:
    several = len(rate.tables) > 1
    shown: list[TierAmount] = []
    for cell, (billed, _) in zip(cells_in_order(state, line), rate_cells(state, rate, line), strict=True):
        number = int(state.cells["number"][cell])
        label = None if not several else -1 if number == len(rate.tables) - 1 else number
        shown.extend(rate.tables[number].breakdown(billed, rate.bill_zero_usage, label))
    return shown


def _flat_tier(state: State, line: int) -> list[TierAmount]:
    amount = format_scaled(int_of(state.lines["amount"][line]))
    return [TierAmount(start="0", quantity="1", unit_amount="0", flat_amount=amount, amount=amount)]


def encode_rejection(batch: Batch, refusal: Refusal, where: Where) -> Output:
    """The record of an event that was not counted."""
    tenant = batch.tenant_of(refusal.row)
    event: dict[str, Any] = batch.event(refusal.row)
    event["time"] = format_time(event["time"])
    rejection = Rejection(
        event=event,
        code=refusal.code,
        message=refusal.message,
        where=where,
        tenant=tenant,
        meter=refusal.meter or None,
        path=refusal.path,
    )
    return Output(topics.REJECTIONS, tenant.encode(), _ENCODE(rejection))
