"""What a catalogue is once it is compiled: columns, and what many subscriptions share. Made by `rating.catalogue`.

What many subscriptions share is compiled once. A *shape* is how a charge reads usage (its meter, its `group_by`, the
dimensions and matches of its cells); a *rate* is what it asks (tables, free units, bounds). A plan is a price book
with one subscription's overrides; `plan_rates[plan, shape]` is the rate, or -1. So a thousand hyper-personalised
price books cost a thousand rates, and the work for an event stays the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from rating.aggregates import Aggregate
from rating.convert import Conversion
from rating.expressions import Expression
from rating.filters import Condition
from rating.prices.tiers import TierTable
from schemas.catalogue import (
    Catalogue,
    Terms,
)
from schemas.currency import Rounding
from schemas.period import Calendar, make_calendar

TIME_MIN = -(2**62)
TIME_MAX = 2**62
TENANT = "default"


@dataclass(frozen=True, slots=True)
class CompiledMeter:
    """A meter ready to read a batch.

    `value` is a plain path, `expression` any other value; `convert_event` comes after either, `convert_total` after the
    aggregation. For gauges: `key` is a path, `unit`, `reads` and `align` are the document's; `percentile` is scaled.
    """

    name: str
    event: str
    aggregate: Aggregate
    value: str | None
    conditions: tuple[Condition, ...]
    dimensions: dict[str, str]
    expression: Expression | None = None
    convert_event: Conversion | None = None
    convert_total: Conversion | None = None
    key: str | None = None
    unit: str = "hour"
    reads: str = "level"
    align: str | None = None
    percentile: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """How a charge reads usage. Charges of many plans share one shape; `signature` identifies it for ever."""

    index: int
    charge: str
    meter: str
    group_by: tuple[str, ...]
    by: tuple[str, ...]
    matches: tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]

    @property
    def signature(self) -> str:
        """A text that is equal where cells mean the same."""
        return msgspec.json.encode([self.charge, self.meter, self.group_by, self.by, self.matches]).decode()

    def cell_of(self, values: Sequence[str | None]) -> int:
        """The number of the cell that holds usage with these values of `by`: most matches, then first written."""
        found = dict(zip(self.by, values, strict=True))
        best, score = len(self.matches) - 1, 0
        for i, match in enumerate(self.matches[:-1]):
            if len(match) > score and all(found[name] in texts for name, texts in match):
                best, score = i, len(match)
        return best


@dataclass(frozen=True, slots=True)
class Rate:
    """What a charge of usage asks. Amounts and units are scaled."""

    charge: str
    order: int
    meter: str
    group_by: tuple[str, ...]
    tables: tuple[TierTable, ...]
    free_units: int
    minimum: int | None
    maximum: int | None
    bill_zero_usage: bool
    description: str

    @property
    def coupled(self) -> bool:
        """Whether its cells' amounts depend on each other: free units come off several totals."""
        return bool(self.free_units) and len(self.tables) > 1

    @property
    def monotone(self) -> bool:
        """Whether the amount never falls as usage rises."""
        return all(table.monotone for table in self.tables)

    @property
    def due_unused(self) -> bool:
        """Whether a period without any usage is billed."""
        return self.bill_zero_usage or bool(self.minimum)


@dataclass(frozen=True, slots=True)
class FlatCharge:
    """A charge for the period itself."""

    charge: str
    order: int
    amount: int
    in_advance: bool
    prorate: bool
    description: str


@dataclass(frozen=True, slots=True)
class Commitment:
    """The least that a period comes to; scaled."""

    amount: int
    prorate: bool
    true_up: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A price book as one subscription has it."""

    price_book: str
    price_version: int
    currency: str
    rounding: Rounding
    effective_from: int
    flats: tuple[FlatCharge, ...]
    rates: dict[str, int]
    thresholds: tuple[tuple[int, bool], ...]
    minimum: Commitment | None

    @property
    def periodic(self) -> bool:
        """Whether periods without usage matter (set apart by the compiler where rates say so)."""
        return bool(self.flats) or self.minimum is not None


@dataclass(frozen=True, slots=True)
class CompiledSubscription:
    """A subscription's own cut of time and its plan."""

    id: str
    customer: str
    plan: int
    calendar: Calendar
    start: int
    end: int


@dataclass(slots=True)
class Tiers:
    """All tables of all rates as columns: table t holds the tiers `first[t]` to `first[t] + count[t]`."""

    tables: list[TierTable] = field(default_factory=list)
    first: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    count: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    columnar: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    below_unit: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    blocks_down: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    start: pl.Series = field(default_factory=pl.Series)
    up_to: pl.Series = field(default_factory=pl.Series)
    base: pl.Series = field(default_factory=pl.Series)
    unit: pl.Series = field(default_factory=pl.Series)
    block: pl.Series = field(default_factory=pl.Series)
    peak: pl.Series = field(default_factory=pl.Series)
    """The greatest amount of any quantity in the tiers before each one (scaled)."""
    monotone: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    falling: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    """Whether more usage costs less than nought, so that spend rises where usage falls."""
    whole: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    has_blocks: bool = False

    @classmethod
    def of(cls, tables: list[TierTable]) -> "Tiers":
        """The columns of these tables."""
        flat = [tier for table in tables for tier in table.tiers]
        count = np.array([len(table.tiers) for table in tables], dtype=np.int64)
        fits = np.array([table.columnar for table in tables], dtype=np.bool_)

        def column(values: list[int]) -> pl.Series:
            return pl.Series(values, dtype=pl.Int128)

        return cls(
            tables=tables,
            first=np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64) if len(count) else count,
            count=count,
            columnar=fits,
            below_unit=np.array([table.below_nought == "unit" for table in tables], dtype=np.bool_),
            blocks_down=np.array([table.blocks_down for table in tables], dtype=np.bool_),
            start=column([tier.start for tier in flat]),
            up_to=column([tier.up_to or 0 for tier in flat]),
            base=column([tier.base if table.columnar else 0 for table in tables for tier in table.tiers]),
            unit=column([tier.unit_amount for tier in flat]),
            block=column([tier.block for tier in flat]),
            peak=column([peak for table in tables for peak in table.peaks]),
            monotone=np.array([table.monotone for table in tables], dtype=np.bool_),
            falling=np.array([any(tier.unit_amount < 0 for tier in table.tiers) for table in tables], dtype=np.bool_),
            whole=np.array([table.whole for table in tables], dtype=np.bool_),
            has_blocks=any(tier.block for tier in flat),
        )


@dataclass(slots=True)
class Compiled:
    """A whole catalogue, compiled."""

    documents: Catalogue
    meters: list[CompiledMeter]
    shapes: dict[str, list[Shape]]
    rates: list[Rate]
    rate_table: NDArray[np.int64]
    tiers: Tiers
    plans: list[Plan]
    plan_rates: NDArray[np.int32]
    subscriptions: list[CompiledSubscription]
    default_plan: int
    paths: tuple[str, ...]
    columns: Any = None
    """The rates as columns, made by the first fold that needs them."""
    tier_texts: tuple[pl.Series, ...] | None = None
    """The constant parts of each tier's JSON, made by the first emission that needs them."""

    def default_calendar(self, customer: str) -> Calendar:
        """The calendar of a customer that has no subscription of its own."""
        terms = self.documents.default_subscription
        assert terms is not None
        return make_calendar(terms.period, terms.anchor, self._zone(terms, customer), None)

    def _zone(self, terms: Terms, customer: str) -> str:
        known = self.documents.customers.get(customer)
        return terms.timezone or (known.timezone if known else None) or "UTC"
