"""Emit: line items and rejections as JSON. Each changed line once for each step, whatever happened to it within.

Most lines stand in one tier: their JSON is put together by columns out of parts that never change. The others are
written one by one from `line_item`. Both ways give the same bytes (a law in the tests).
"""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import repeat
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rating.billing import Biller
from rating.cells import Refusal
from rating.columns import Batch
from rating.compiled import Rate, Tiers
from rating.exact import int_of, literal, to_int128
from rating.kernel import count_blocks, find_tiers
from rating.lines import explain_line, leaf_of
from rating.naming import dimension_parts, sized
from rating.state import State
from schemas import topics
from schemas.entry import Rerate
from schemas.identity import IDENTITY_BYTES
from schemas.numbers import format_scaled
from schemas.output import LineItem, Through, TierAmount
from schemas.paths import DECIMAL
from schemas.rejection import Rejection, Where
from schemas.times import format_time
from streams.processor import Output

_ENCODE = msgspec.json.Encoder().encode
_BY_HAND_BELOW = 32
"""Fewer lines than this are not worth columns."""


def encode_line_items(state: State, biller: Biller, lines: NDArray[np.int64]) -> list[Output]:
    """Each line that has something to say: a nought one only where it takes an earlier one back."""
    table = state.lines
    quantity, amount = table["quantity"].take(lines, axis=0), table["amount"].take(lines, axis=0)
    nought = (quantity[:, 0] | quantity[:, 1] | amount[:, 0] | amount[:, 1]) == 0
    lines = lines[~nought | (table["written"][lines] == 1)]
    table["written"][lines] = 1
    if len(lines) < _BY_HAND_BELOW:
        return [_by_hand(state, biller, line) for line in lines.tolist()]
    hand = np.array([rate.by_hand or rate.bounded for rate in state.catalogue.rates] + [True], dtype=np.bool_)
    bill = table["bill"][lines]
    segmented = (state.bills["head"][bill] != bill) | (state.bills["next"][bill] >= 0)
    by_hand = hand[table["rate"][lines]] | (table["events"][lines] == 0) | segmented  # rate -1 reads the last one
    found = _by_columns(state, biller, lines[~by_hand])
    return [*found, *(_by_hand(state, biller, line) for line in lines[by_hand].tolist())]


def _by_hand(state: State, biller: Biller, line: int) -> Output:
    item = line_item(state, biller, line)
    return Output(topics.LINE_ITEMS, item.id.encode(), _ENCODE(item))


# By columns ----------------------------------------------------------------------------------------------------------


def _by_columns(state: State, biller: Biller, lines: NDArray[np.int64]) -> list[Output]:
    if not len(lines):
        return []
    if state.heads is None:
        state.heads = Heads(state)
    keys, starts, heads = state.heads.of(biller, lines)
    table = state.lines
    frame = pl.DataFrame(
        {
            "start": pl.Series(starts),
            "revision": table["revision"][lines],
            "head": pl.Series(heads),
            "quantity": _texts_of(to_int128(table["quantity"].take(lines, axis=0))),
            "amount": _texts_of(to_int128(table["amount"].take(lines, axis=0))),
            "book": state.heads.books.gather(state.bills["plan"][table["bill"][lines]]),
            "tiers": _tier_lists(state, lines),
            "events": table["events"][lines],
            "first": _times(table["first"][lines]),
            "last": _times(table["last"][lines]),
            "through": table["through"][lines],
        }
    )
    parts: Sequence[Any] = [
        *("start", "revision", "head", "quantity", pl.lit('","amount":"'), "amount", "book", "tiers"),
        *(pl.lit('],"events":'), "events", pl.lit(',"first_event":"'), "first", pl.lit('Z","last_event":"'), "last"),
        *(pl.lit(f'Z","through":{{"partition":{state.partition},"offset":'), "through", pl.lit("}}")),
    ]
    texts = frame.select(json=pl.concat_str(parts).cast(pl.Binary))["json"]
    return list(map(Output, repeat(topics.LINE_ITEMS), keys, texts.to_list()))


class Heads:
    """The parts of each line's JSON that do not change under one catalogue, made when they are first asked for."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._known = np.zeros(0, dtype=np.bool_)
        self._keys: list[bytes] = []
        self._starts: list[str] = []
        self._heads: list[str] = []
        self._bills: dict[int, tuple[bytes, str, str]] = {}
        self._groups: dict[tuple[int, int, int], tuple[bytes, str]] = {}
        books = [
            f'","price_book":"{plan.price_book}","price_version":{plan.price_version},"tiers":['
            for plan in state.catalogue.plans
        ]
        self.books = pl.Series(books, dtype=pl.String)
        """For each plan what stands between the amount and the tiers."""

    def of(self, biller: Biller, lines: NDArray[np.int64]) -> tuple[Sequence[bytes], Sequence[str], Sequence[str]]:
        """For each line: its id, what stands before its revision, and between that and its quantity."""
        grown = self._state.lines.size - len(self._known)
        if grown:
            self._known = np.concatenate([self._known, np.zeros(grown, dtype=np.bool_)])
            self._keys.extend(repeat(b"", grown))
            self._starts.extend(repeat("", grown))
            self._heads.extend(repeat("", grown))
        self._make(biller, lines[~self._known[lines]])
        at = lines.tolist()
        pick = itemgetter(*at, at[0])  # of one place alone it would give no tuple
        return pick(self._keys)[:-1], pick(self._starts)[:-1], pick(self._heads)[:-1]

    def _make(self, biller: Biller, lines: NDArray[np.int64]) -> None:
        table = self._state.lines
        bill, rate, combo = table["bill"][lines], table["rate"][lines], table["combo"][lines]
        plan = self._state.bills["plan"][bill]
        columns = (lines, bill, plan, rate, combo)
        for line, of, *group in zip(*(column.tolist() for column in columns), strict=True):
            id_head, who, period = self._bills.get(of) or self._bill(biller, of)
            id_tail, what = self._groups.get(tuple(group)) or self._group(biller, line, *group)
            id = "li_" + blake2b(id_head + id_tail, digest_size=IDENTITY_BYTES).hexdigest()
            self._keys[line] = id.encode()
            self._starts[line] = f'{{"id":"{id}","revision":'
            self._heads[line] = f"{who}{what}{period}"
        self._known[lines] = True

    def _bill(self, biller: Biller, bill: int) -> tuple[bytes, str, str]:
        _, tenant, customer, subscription = biller.who(bill)
        span = biller.span(bill)
        who = _members({"tenant": tenant, "customer": customer, "subscription": subscription})
        period = _members({"period": span})
        id_head = sized(tenant, customer, subscription, span.start)
        found = self._bills[bill] = (id_head, f",{who},", f',{period},"quantity":"')
        return found

    def _group(self, biller: Biller, line: int, plan: int, rate: int, combo: int) -> tuple[bytes, str]:
        of, dimensions = self._state.catalogue.rates[rate], biller.dimensions(line)
        currency = self._state.catalogue.plans[plan].currency
        what = {"charge": of.charge, "meter": of.meter, "dimensions": dimensions, "currency": currency}
        id_tail = sized(of.charge, *dimension_parts(dimensions))
        found = self._groups[plan, rate, combo] = (id_tail, _members(what))
        return found


def _members(of: dict[str, Any]) -> str:
    """An object's JSON without its braces."""
    return _ENCODE(of).decode()[1:-1]


def _tier_lists(state: State, lines: NDArray[np.int64]) -> pl.Series:
    """For each line the JSON of its tiers, joined by commas: those of its cells, in the order of the price book."""
    ats, cells = [], []
    at, cell = np.arange(len(lines)), state.lines["cell"][lines]
    while len(at):
        ats.append(at)
        cells.append(cell)
        following = state.cells["next"][cell]
        more = np.flatnonzero(following >= 0)
        at, cell = at[more], following[more]
    at, cell = np.concatenate(ats), np.concatenate(cells)
    order = np.argsort(at, kind="stable")
    at, cell = at[order], cell[order]
    texts = _cell_texts(state, cell, state.cells["number"][cell], state.lines["rate"][lines[at]].astype(np.int64))
    if len(at) == len(lines):
        return texts
    shown = (texts != "").to_numpy()
    ends = np.cumsum(np.bincount(at[shown], minlength=len(lines)))
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), texts.filter(shown).to_arrow())
    return pl.Series(pc.binary_join(lists, pa.scalar(",", pa.large_string())))


def _cell_texts(state: State, cell: NDArray[np.int64], number: NDArray[np.int32], rate: NDArray[np.int64]) -> pl.Series:
    """The JSON of each cell's tiers: by columns where it stands in one tier, else from its breakdown."""
    compiled = state.catalogue
    tiers = compiled.tiers
    table = compiled.rate_table[rate] + number
    free = pl.Series([r.free_units for r in compiled.rates], dtype=pl.Int128).gather(rate)
    frame = pl.DataFrame({"q": to_int128(state.cells["quantity"].take(cell, axis=0)), "free": free})
    left = pl.max_horizontal(pl.col("q") - pl.col("free"), literal(0))
    billed = frame.select(pl.when(pl.col("q") > 0).then(left).otherwise(pl.col("q")))["q"]
    tier = find_tiers(tiers, table, billed)
    one = ((tier == tiers.first[table]) | tiers.whole[table]) & (billed > 0).to_numpy()
    heads, middles, tails, ends = _tier_texts(state)
    parts = pl.DataFrame(
        {
            "head": heads.gather(tier),
            "quantity": _texts_of(billed),
            "middle": middles.gather(tier),
            "amount": _texts_of(to_int128(state.cells["amount"].take(cell, axis=0))),
            "tail": tails.gather(tier),
            "packages": _packages(tiers, table, tier, billed),
            "end": ends.gather(tier),
        }
    )
    text = pl.concat_str(pl.all())
    if any(of.spread for of in compiled.rates):  # what only counts shows nothing
        text = pl.when(pl.col("head") != "").then(text).otherwise(pl.lit(""))
    texts = parts.select(text=text)["text"]
    rest = np.flatnonzero(~one)
    if not len(rest):
        return texts
    keys = list(zip(rate[rest].tolist(), number[rest].tolist(), billed.gather(rest).to_list(), strict=True))
    by_hand = {key: "" for key in keys}  # most are nought, what the free units leave: the same text
    for at, nth, quantity in by_hand:
        of = compiled.rates[at]
        shown = _shown(of, nth, quantity)
        by_hand[at, nth, quantity] = _ENCODE(shown).decode()[1:-1]
    return texts.scatter(rest, [by_hand[key] for key in keys])


def _packages(tiers: Tiers, table: NDArray[np.int64], tier: NDArray[np.int64], billed: pl.Series) -> pl.Series:
    """How many packages each quantity is, as text; empty where its tier has none."""
    if not tiers.has_blocks:
        return pl.repeat("", len(tier), eager=True)
    frame = pl.DataFrame({"q": billed, "block": tiers.block.gather(tier)})
    count = count_blocks("q", pl.Series(tiers.blocks_down[table])).cast(pl.String)
    return frame.select(pl.when(pl.col("block") > 0).then(count).otherwise(pl.lit(""))).to_series()


def _texts_of(scaled: pl.Series) -> pl.Series:
    """The shortest plain decimal texts of scaled numbers."""
    wide = scaled.cast(pl.Decimal(38, 0)).rechunk().to_arrow()
    decimals = pa.Array.from_buffers(DECIMAL, len(wide), wide.buffers(), offset=wide.offset)
    return pl.Series(decimals).cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")


def _times(micros: NDArray[np.int64]) -> pl.Series:
    """ISO 8601 texts without the closing Z."""
    stamps = pl.Series(micros).cast(pl.Datetime("us"))
    return stamps.dt.to_string("%Y-%m-%dT%H:%M:%S%.6f").str.strip_chars_end("0").str.strip_chars_end(".")


def _tier_texts(state: State) -> tuple[pl.Series, ...]:
    """The constant parts of each tier's JSON: before its quantity, its amount, its packages, and the end."""
    if state.catalogue.tier_texts is None:
        parts: list[list[str]] = []
        for rate in state.catalogue.rates:
            for number, table in enumerate(rate.tables):
                leaf, channel = leaf_of(rate, number)
                for tier in table.tiers:
                    if _silent(rate, number):
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
                    found = _ENCODE(shown).decode().split("\\u0000")
                    parts.append(found if len(found) == 4 else [*found, ""])
        state.catalogue.tier_texts = tuple(pl.Series(column) for column in zip(*parts, strict=True))
    return state.catalogue.tier_texts


# One by one ----------------------------------------------------------------------------------------------------------


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


def _shown(rate: Rate, number: int, quantity: int) -> list[TierAmount]:
    """What one cell shows of its quantity, after free units."""
    leaf, channel = leaf_of(rate, number)
    if _silent(rate, number):
        return []
    return rate.tables[number].breakdown(quantity, rate.bill_zero_usage, leaf.label, leaf.names[channel])


def _silent(rate: Rate, number: int) -> bool:
    """Whether a cell only counts: what its events cost is in the further channels of its leaf."""
    leaf, channel = leaf_of(rate, number)
    return leaf.split is not None and channel == 0


def _tiers(state: State, line: int, rate: Rate) -> list[TierAmount]:
    """Every step from the line's quantities to its amount."""
    if not state.cells_of(line):
        return rate.leaves[-1].tables[0].breakdown(0, rate.bill_zero_usage, rate.leaves[-1].label)
    explained = explain_line(state, line)
    shown = [tier for number, billed in explained.billed for tier in _shown(rate, number, billed)]
    for step, amount in explained.steps:
        text = format_scaled(amount)
        shown.append(TierAmount(start="0", quantity="0", unit_amount="0", flat_amount=text, amount=text, channel=step))
    return shown


def _flat_tier(state: State, line: int) -> list[TierAmount]:
    amount = format_scaled(int_of(state.lines["amount"][line]))
    return [TierAmount(start="0", quantity="1", unit_amount="0", flat_amount=amount, amount=amount)]


def encode_refusal(asked: Rerate, message: str, where: Where) -> Output:
    """The record of a re-rating that changed nothing."""
    refused = Rejection(event=asked, code="rerate_refused", message=message, where=where, tenant=asked.tenant)
    return Output(topics.REJECTIONS, asked.tenant.encode(), _ENCODE(refused))


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
