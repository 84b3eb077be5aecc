"""Line items by columns: the JSON of many lines at once, where the library is not there to write it (see `native`).

Most lines stand in one tier: their JSON is put together out of parts that never change, tiers of other lines come from
their breakdown. The same bytes as by hand, and as `rating.emit_native` writes (laws in the tests).
"""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import repeat
from operator import itemgetter
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rating.billing import Biller
from rating.compiled import Compiled, Tiers
from rating.exact import literal, to_int128
from rating.items import encode, members, shown_tiers, tier_texts
from rating.kernel import count_blocks, find_tiers
from rating.naming import dimension_parts, sized
from rating.state import State
from schemas import topics
from schemas.identity import IDENTITY_BYTES
from schemas.paths import DECIMAL
from streams.processor import Output


def encode_by_columns(state: State, biller: Biller, lines: NDArray[np.int64]) -> list[Output]:
    """The lines as they are written, in their order. Each has an event, a rate and a segment that is a whole period."""
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
            "quantity": _texts_of(to_int128(table["quantity"][lines])),
            "amount": _texts_of(to_int128(table["amount"][lines])),
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
        who = members({"tenant": tenant, "customer": customer, "subscription": subscription})
        period = members({"period": span})
        id_head = sized(tenant, customer, subscription, span.start)
        found = self._bills[bill] = (id_head, f",{who},", f',{period},"quantity":"')
        return found

    def _group(self, biller: Biller, line: int, plan: int, rate: int, combo: int) -> tuple[bytes, str]:
        of, dimensions = self._state.catalogue.rates[rate], biller.dimensions(line)
        currency = self._state.catalogue.plans[plan].currency
        what = {"charge": of.charge, "meter": of.meter, "dimensions": dimensions, "currency": currency}
        id_tail = sized(of.charge, *dimension_parts(dimensions))
        found = self._groups[plan, rate, combo] = (id_tail, members(what))
        return found


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
    frame = pl.DataFrame({"q": to_int128(state.cells["quantity"][cell]), "free": free})
    left = pl.max_horizontal(pl.col("q") - pl.col("free"), literal(0))
    billed = frame.select(pl.when(pl.col("q") > 0).then(left).otherwise(pl.col("q")))["q"]
    tier = find_tiers(tiers, table, billed)
    one = ((tier == tiers.first[table]) | tiers.whole[table]) & (billed > 0).to_numpy()
    heads, middles, tails, ends = _tier_texts(state.catalogue)
    parts = pl.DataFrame(
        {
            "head": heads.gather(tier),
            "quantity": _texts_of(billed),
            "middle": middles.gather(tier),
            "amount": _texts_of(to_int128(state.cells["amount"][cell])),
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
        shown = shown_tiers(of, nth, quantity)
        by_hand[at, nth, quantity] = encode(shown).decode()[1:-1]
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


def _tier_texts(compiled: Compiled) -> tuple[pl.Series, ...]:
    """`tier_texts`, each part as a column."""
    if compiled.tier_texts is None:
        compiled.tier_texts = tuple(pl.Series(column) for column in zip(*tier_texts(compiled), strict=True))
    return compiled.tier_texts
