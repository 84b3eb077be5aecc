"""Emit: line items and rejections as JSON. Each changed line once for each step, whatever happened to it within.

Most lines are the sum of what their cells cost: they are written many at once, by the library or by columns. The others
are written one by one from `line_item`. All ways give the same bytes (laws in the tests).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rating.billing import Biller
from rating.cells import Refusal
from rating.columns import Batch
from rating.emit_columns import encode_by_columns
from rating.emit_native import WRITE, choose_by_library, encode_by_library
from rating.items import encode, encode_by_hand
from rating.state import State
from schemas import topics
from schemas.entry import Rerate
from schemas.rejection import Rejection, Where
from schemas.times import format_time
from streams.processor import Output, Outputs

_BY_HAND_BELOW = 32
"""Fewer lines than this are not worth columns."""


def encode_line_items(state: State, biller: Biller, lines: NDArray[np.int64]) -> Outputs:
    """Each line that has something to say: a nought one only where it takes an earlier one back."""
    if WRITE is not None:
        return encode_by_library(state, biller, choose_by_library(state, lines)) if len(lines) else Outputs()
    table = state.lines
    quantity, amount = table["quantity"][lines], table["amount"][lines]
    nought = (quantity[:, 0] | quantity[:, 1] | amount[:, 0] | amount[:, 1]) == 0
    lines = lines[~nought | (table["written"][lines] == 1)]
    table["written"][lines] = 1
    if len(lines) < _BY_HAND_BELOW:
        return Outputs(encode_by_hand(state, biller, line) for line in lines.tolist())
    hand = np.array([rate.by_hand or rate.bounded for rate in state.catalogue.rates] + [True], dtype=np.bool_)
    bill = table["bill"][lines]
    segmented = (state.bills["head"][bill] != bill) | (state.bills["next"][bill] >= 0)
    by_hand = hand[table["rate"][lines]] | (table["events"][lines] == 0) | segmented  # rate -1 reads the last one
    found = encode_by_columns(state, biller, lines[~by_hand])
    return Outputs([*found, *(encode_by_hand(state, biller, line) for line in lines[by_hand].tolist())])


def encode_refusal(asked: Rerate, message: str, where: Where) -> Output:
    """The record of a re-rating that changed nothing."""
    refused = Rejection(event=asked, code="rerate_refused", message=message, where=where, tenant=asked.tenant)
    return Output(topics.REJECTIONS, asked.tenant.encode(), encode(refused))


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
    return Output(topics.REJECTIONS, tenant.encode(), encode(rejection))
