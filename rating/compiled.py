"""What a catalogue is once it is compiled: columns, and what many subscriptions share. Made by `rating.catalogue`.

What many subscriptions share is compiled once. A *shape* is how a charge reads usage (its meter, its `group_by`, the
dimensions and matches of its cells); a *rate* is what it asks (tables, free units, bounds). A plan is a price book
with one subscription's overrides; `plan_rates[plan, shape]` is the rate, or -1. So a thousand hyper-personalised
price books cost a thousand rates, and the work for an event stays the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from rating.aggregates import Aggregate
from rating.convert import Conversion
from rating.expressions import Expression
from rating.filters import Condition
from rating.gauges import Reading
from rating.prices.model import ByDimensions, ByTime, Choice, Leaf, Split
from rating.prices.tiers import TierTable
from rating.settle import TaxRate, TaxRounding
from rating.terms import CustomerTerms
from schemas.catalogue import Catalogue, Terms
from schemas.currency import Rounding
from schemas.faults import Faults
from schemas.numbers import ONE
from schemas.period import Calendar, make_calendar

TIME_MIN = -(2**62)
TIME_MAX = 2**62


@dataclass(frozen=True, slots=True)
class CompiledMeter:
    """A meter ready to read a batch.

    `value` is a plain path, `expression` any other value; `convert_event` comes after either, `convert_total` after the
    aggregation. `key` is a path; `percentile` is scaled.
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
    gauge: Reading | None = None
    percentile: int = 0


@dataclass(frozen=True, slots=True)
class Shape:
    """How a charge reads usage. Charges of many plans share one shape; `signature` identifies it for ever.

    The cells of a line are numbered through the channels of its leaves: leaf i has the numbers from `first[i]`.
    """

    index: int
    charge: str
    meter: str
    group_by: tuple[str, ...]
    choice: Choice
    splits: tuple[Split | None, ...]
    channels: tuple[int, ...]

    @property
    def signature(self) -> str:
        """A text that is equal where cells mean the same."""
        how = [repr(self.choice), repr(self.splits), self.channels]
        return msgspec.json.encode([self.charge, self.meter, self.group_by, how]).decode()

    @property
    def by(self) -> tuple[str, ...]:
        """The dimensions that the choice of a leaf depends on."""
        found = (node.by for node in nodes(self.choice) if isinstance(node, ByDimensions))
        return tuple(dict.fromkeys(name for by in found for name in by))

    @property
    def schedules(self) -> tuple[ByTime, ...]:
        """The schedules that the choice of a leaf depends on."""
        return tuple(dict.fromkeys(node for node in nodes(self.choice) if isinstance(node, ByTime)))

    @property
    def first(self) -> tuple[int, ...]:
        """The number of each leaf's first cell."""
        return tuple(sum(self.channels[:leaf]) for leaf in range(len(self.channels)))


def nodes(choice: Choice) -> Iterator[ByDimensions | ByTime]:
    """Every node of a choice, the outer ones first."""
    if isinstance(choice, int):
        return
    yield choice
    for _, inside in choice.cells if isinstance(choice, ByDimensions) else choice.windows:
        yield from nodes(inside)
    yield from nodes(choice.otherwise)


@dataclass(frozen=True, slots=True)
class Reduction:
    """A charge's discount: a percentage of its price, or an amount; scaled."""

    percent: int = 0
    amount: int = 0


@dataclass(frozen=True)
class Rate:
    """What a charge of usage asks. Amounts and units are scaled. `free_units` include a discount's units."""

    charge: str
    order: int
    meter: str
    group_by: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    free_units: int
    reduction: Reduction | None
    minimum: int | None
    maximum: int | None
    bill_zero_usage: bool
    description: str
    convert: Any
    kept: bool
    """Whether its aggregation needs every event of a total (`rating.kept`)."""
    taxes: tuple[TaxRate, ...] | None = None

    @cached_property
    def tables(self) -> tuple[TierTable, ...]:
        """The table of each cell."""
        return tuple(table for leaf in self.leaves for table in leaf.tables)

    @cached_property
    def counted(self) -> tuple[bool, ...]:
        """For each cell whether its quantity is the line's: channel 0 of a leaf."""
        return tuple(channel == 0 for leaf in self.leaves for channel in range(len(leaf.tables)))

    @cached_property
    def ordered(self) -> bool:
        """Whether what an event brings depends on those before it."""
        return any(leaf.split is not None and leaf.split.ordered for leaf in self.leaves)

    @cached_property
    def spread(self) -> bool:
        """Whether some of its prices ask something of each single event."""
        return any(leaf.split is not None for leaf in self.leaves)

    @cached_property
    def by_hand(self) -> bool:
        """Whether its lines are not simply the sum of what their cells cost, each looked up in its table."""
        changed = self.reduction is not None or self.convert is not None
        return bool(self.free_units and len(self.leaves) > 1) or self.ordered or changed or self.kept

    @property
    def bounded(self) -> bool:
        """Whether it has a maximum or a minimum of its own."""
        return self.minimum is not None or self.maximum is not None

    @cached_property
    def monotone(self) -> bool:
        """Whether the amount never falls as usage rises."""
        return not self.kept and not self.ordered and all(table.monotone for table in self.tables)

    @cached_property
    def reach(self) -> tuple[float, float]:
        """By how much at most an amount, or a quantity, rises with the values that are counted, and what it may be
        beside that (scaled). Upper estimates, for bounds."""
        times = 1.0 if self.convert is None else max(1.0, self.convert.multiply / self.convert.divide)
        unit = 0.0 if self.convert is None else float(self.convert.unit)
        slope, fixed = 1.0, float(max(abs(self.minimum or 0), abs(self.maximum or 0)))
        for table in self.tables:
            fixed = max(fixed, abs(table.zero_amount) / ONE)
            for tier in table.tiers:
                each = abs(tier.unit_amount)
                slope = max(slope, each / ONE, each / tier.block if tier.block else 0.0)
                fixed = max(fixed, abs(tier.base) / ONE + (each if tier.block else 0))
        return slope * times, fixed + slope * unit

    @property
    def due_unused(self) -> bool:
        """Whether a period without any usage is billed."""
        return self.bill_zero_usage or bool(self.minimum)


@dataclass(frozen=True, slots=True)
class FlatCharge:
    """A charge for the period itself; `once`: for the first one under its price book."""

    charge: str
    order: int
    amount: int
    in_advance: bool
    prorate: bool
    description: str
    once: bool = False
    taxes: tuple[TaxRate, ...] | None = None


@dataclass(frozen=True, slots=True)
class Commitment:
    """The least that a period comes to; scaled."""

    amount: int
    prorate: bool
    true_up: bool


class Level(NamedTuple):
    """Spend at which something happens: an invoice and alert (`threshold`) or an alert (`budget`)."""

    spend: int
    repeat: bool
    kind: Literal["threshold", "budget"]
    of: int
    """What the alert names: the threshold's spend, or the budget's amount."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One version of a price book as one subscription has it. `trial`: everything is metered and costs nothing."""

    price_book: str
    price_version: int
    currency: str
    rounding: Rounding
    tax_rounding: TaxRounding
    flats: tuple[FlatCharge, ...]
    rates: dict[str, int]
    levels: tuple[Level, ...]
    minimum: Commitment | None
    maximum: int | None
    overage_factor: int | None
    carry_usage: bool
    corrections: str
    trial: bool

    @property
    def periodic(self) -> bool:
        """Whether periods without usage matter (set apart by the compiler where rates say so)."""
        return bool(self.flats) or self.minimum is not None


class Entry(NamedTuple):
    """From `start` on a subscription stands under `plan` (-1: under none), until the next entry of its timeline.

    `opens`: the price book takes force for the subscription here for the first time."""

    start: int
    plan: int
    opens: bool


class Rebooking(NamedTuple):
    """A subscription (`own`: not the default one) as it would be under another price book."""

    price_book: str
    customer: str
    subscription: str
    own: bool


@dataclass(frozen=True, slots=True)
class CompiledSubscription:
    """A subscription's own cut of time and its timeline: entries rising by start, the first one at `TIME_MIN`."""

    id: str
    customer: str
    calendar: Calendar
    timeline: tuple[Entry, ...]
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
            up_to=column([table.last(tier) or 0 for table in tables for tier in table.tiers]),
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
    counted: NDArray[np.bool_]
    """For each table whether its quantity is the line's (channel 0 of its leaf)."""
    tiers: Tiers
    plans: list[Plan]
    plan_rates: NDArray[np.int32]
    subscriptions: list[CompiledSubscription]
    default_timelines: dict[str | None, tuple[Entry, ...]]
    """The timeline of a customer without a subscription of its own; under None that of all who are not named."""
    customer_terms: dict[str, CustomerTerms]
    paths: tuple[str, ...]
    rebooked: dict[Rebooking, tuple[Entry, ...]] = field(default_factory=dict)
    """The timelines that were asked for beside those of the documents."""
    rebook_faults: dict[Rebooking, Faults] = field(default_factory=dict)
    """What of a subscription's overrides does not fit the other price book: its timeline is without overrides."""
    meters_by_name: dict[str, CompiledMeter] | None = None
    columns: Any = None
    """The rates as columns, made by the first fold that needs them."""
    tier_texts: tuple[pl.Series, ...] | None = None
    """The constant parts of each tier's JSON, made by the first emission by columns."""

    def meter(self, name: str) -> CompiledMeter:
        """The meter of that name."""
        if self.meters_by_name is None:
            self.meters_by_name = {meter.name: meter for meter in self.meters}
        return self.meters_by_name[name]

    def shape_of(self, signature: str) -> Shape | None:
        """The shape of that signature, if any plan has it."""
        return next((s for shapes in self.shapes.values() for s in shapes if s.signature == signature), None)

    def default_timeline(self, customer: str | None) -> tuple[Entry, ...]:
        """The timeline of a customer that has no subscription of its own (None: of one that no document names); empty
        where there is no default."""
        return self.default_timelines.get(customer, self.default_timelines.get(None, ()))

    def default_calendar(self, customer: str | None) -> Calendar:
        """The calendar of a customer that has no subscription of its own (None: of one that no document names)."""
        terms = self.documents.default_subscription
        assert terms is not None
        return make_calendar(terms.period, terms.anchor, self._zone(terms, customer), None)

    def _zone(self, terms: Terms, customer: str | None) -> str:
        known = None if customer is None else self.documents.customers.get(customer)
        return terms.timezone or (known.timezone if known else None) or "UTC"
