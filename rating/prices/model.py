"""What a price model is: a document that reads its own parameters, checks them and compiles itself.

A price of usage compiles to *leaves* (what prices one kind of usage inside a line item) and a *choice* (which leaf
prices an event, by its dimensions and its time). A leaf has one or more *channels*: totals of their own, each with a
table of tiers. Channel 0 is the meter's own total, the line's quantity; a model that asks something of each single
event (percentage, dynamic) splits what an event brings over further channels, which are sums.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from rating.prices.tiers import TierTable
from schemas.faults import MISSING, Faults
from schemas.numbers import parse_scaled

Match = tuple[tuple[str, tuple[str, ...]], ...]
"""For each dimension that is asked for, the texts of which one must be its value."""


class Brought(NamedTuple):
    """What a batch's events bring to one further channel: the positions of those that bring something, and what."""

    at: NDArray[np.int64]
    value: pl.Series


class Split:
    """How single events are spread over a leaf's further channels. Frozen and comparable by value (a dataclass).

    `extra`: a path whose number each event must have (dynamic), else None.
    `ordered`: what an event brings depends on those before it, in order of time and then arrival (allowances).
    """

    extra: str | None = None
    ordered: bool = False

    def spread(self, value: pl.Series, extra: pl.Series | None) -> list[Brought]:
        """One for each further channel, of scaled Int128 values. Only where not `ordered`."""
        raise NotImplementedError

    def start(self) -> tuple[int, ...]:
        """Only where `ordered`: the running numbers before the first event."""
        raise NotImplementedError

    def feed(self, running: tuple[int, ...], values: Iterable[int]) -> tuple[int, ...]:
        """Only where `ordered`: the running numbers after further scaled values, in their order."""
        raise NotImplementedError

    def totals(self, running: tuple[int, ...]) -> list[int]:
        """Only where `ordered`: what each further channel holds (scaled) at these running numbers."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Leaf:
    """One table for each channel. `names`: what a breakdown calls them; the first is None.

    `label`: how a breakdown names the leaf: its place in the matrix or schedule, -1 for `otherwise`, else None.
    """

    tables: tuple[TierTable, ...]
    names: tuple[str | None, ...] = (None,)
    split: Split | None = None
    label: int | None = None


@dataclass(frozen=True, slots=True)
class ByDimensions:
    """The cell with the most matching dimensions, the first written if several; else `otherwise`."""

    by: tuple[str, ...]
    cells: "tuple[tuple[Match, Choice], ...]"
    otherwise: "Choice"


class Window(NamedTuple):
    """Days (1 is Monday) and a half-open stretch of the local day in minutes (`end` at most 1440)."""

    days: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ByTime:
    """The first window that holds the event's local time; else `otherwise`."""

    zone: str
    windows: "tuple[tuple[tuple[Window, ...], Choice], ...]"
    otherwise: "Choice"


Choice = int | ByDimensions | ByTime
"""Which leaf: its number, or what it depends on."""


@dataclass(frozen=True, slots=True)
class UsagePrice:
    """A compiled price of usage."""

    leaves: tuple[Leaf, ...]
    choice: Choice = 0


@dataclass(frozen=True, slots=True)
class FlatPrice:
    """A compiled price of the period itself; `amount` is scaled. `once`: only in the subscription's first period."""

    amount: int
    once: bool = False


CompiledPrice = UsagePrice | FlatPrice


class PriceModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of one model as a price book writes them. One file for each model."""

    name: ClassVar[str]
    description: ClassVar[str]
    of_usage: ClassVar[bool] = True
    """Whether it prices usage, not the period itself: then it may stand inside another price."""

    def check(self, path: str, faults: Faults) -> None:
        """Notes what is wrong beyond the types of the parameters."""

    def compile(self) -> CompiledPrice:
        """The compiled price. Only called where `check` noted nothing."""
        raise NotImplementedError

    def build(self, path: str, faults: Faults, depth: int) -> CompiledPrice | Any:
        """Checks and compiles at once, or `schemas.faults.MISSING`. `depth`: how many prices stand around this one."""
        before = len(faults)
        self.check(path, faults)
        return self.compile() if len(faults) == before else MISSING


def choose(choice: Choice, dimensions: dict[str, str | None], window: Callable[[ByTime], int | None]) -> int:
    """The leaf's number. `window`: the place of the window that holds the event's time (None: none does)."""
    while not isinstance(choice, int):
        if isinstance(choice, ByTime):
            at = window(choice)
            choice = choice.otherwise if at is None else choice.windows[at][1]
            continue
        best, score = choice.otherwise, 0
        for match, inside in choice.cells:
            if len(match) > score and all(dimensions.get(name) in texts for name, texts in match):
                best, score = inside, len(match)
        choice = best
    return choice


def one_table(table: TierTable) -> UsagePrice:
    """The price of a model that knows no dimensions and no single events."""
    return UsagePrice((Leaf((table,)),))


def scaled(value: Decimal) -> int:
    """The scaled number of a document's decimal (its reader has made sure that it fits)."""
    return parse_scaled(value)


def check_not_negative(value: Any, path: str, faults: Faults) -> None:
    """Notes a decimal that is below nought."""
    if value < 0:
        faults.add(path, f"found {value}, expected nought or more")
