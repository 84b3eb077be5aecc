"""The one form to which every price of a quantity compiles: a table of tiers.

A tier holds the quantities in `(start, up_to]` and asks `base + unit_amount * (q - start)`, or with a block size
`base + unit_amount * blocks(q - start)`. `base` is what all the units up to `start` come to, and what entering the
tier costs; it is kept with 24 digits after the point, so that the amount is rounded once, at the end. A table whose
tiers begin at their lower bounds holds `[start, up_to)` instead.
"""

from dataclasses import dataclass
from typing import Final, Literal

from schemas.numbers import ONE, SCALED_MAX, check_scaled, divide_half_up, format_scaled
from schemas.output import TierAmount

COLUMN_BASE_MAX: Final = 2**126
"""A base above this cannot stand in an Int128 column: its table is rated number by number."""


@dataclass(frozen=True, slots=True)
class Tier:
    """`start`, `up_to`, `unit_amount`, `flat_amount`, `block` are scaled; `base` has 24 digits after the point.

    `up_to` None: open. `block` 0: no blocks; else `unit_amount` is the price of a block, counted up or down.
    """

    start: int
    up_to: int | None
    base: int
    unit_amount: int
    flat_amount: int = 0
    block: int = 0


@dataclass(frozen=True, slots=True)
class TierTable:
    """Tiers that follow each other without a gap from nought.

    `below_nought`: what a total below nought comes to: the first tier's unit amount times it, or nothing.
    `zero_amount`: what entering the first tier at nought costs, for `bill_zero_usage` (24 digits);
    `zero_blocks`: how many blocks that is.
    `whole`: all units stand in the tier that holds the total (volume); else each in its own.
    `lower_bounds`: a bound belongs to the tier above it.
    """

    tiers: tuple[Tier, ...]
    below_nought: Literal["unit", "nought"] = "nought"
    zero_amount: int = 0
    whole: bool = False
    blocks_down: bool = False
    lower_bounds: bool = False
    zero_blocks: int = 0

    def last(self, tier: Tier) -> int | None:
        """The greatest quantity that the tier holds (the least below its bound, where that belongs to the next)."""
        return tier.up_to if tier.up_to is None else tier.up_to - self.lower_bounds

    @property
    def monotone(self) -> bool:
        """Whether the amount never falls as the quantity rises from nought."""
        reached = self._above_first
        for tier in self.tiers:
            if tier.unit_amount < 0 or tier.base < reached:
                return False
            last = self.last(tier)
            if last is not None:
                reached = self._exact(tier, last)
        return True

    @property
    def peaks(self) -> list[int]:
        """For each tier the greatest amount of any quantity from nought to its start, scaled (capped at 38 digits)."""
        found, reached = [], divide_half_up(self._above_first, ONE)
        for tier in self.tiers:
            found.append(min(reached, SCALED_MAX))
            last = self.last(tier)
            if last is not None:
                reached = max(reached, divide_half_up(self._exact(tier, last), ONE))
        return found

    @property
    def _above_first(self) -> int:
        """What nought may cost (24 digits) where that is more than the least trace above it, else nought."""
        return self.zero_amount if self.zero_amount > self.exact(1) else 0

    @property
    def columnar(self) -> bool:
        """Whether the table fits Int128 columns."""
        return all(abs(tier.base) < COLUMN_BASE_MAX for tier in self.tiers)

    def amount(self, quantity: int, enter_at_nought: bool = False) -> int:
        """The scaled amount of a scaled quantity, rounded half up at the 12th digit, once.

        Raises: NumberError where it has more than 26 digits before the point.
        """
        return check_scaled(divide_half_up(self.exact(quantity, enter_at_nought), ONE))

    def exact(self, quantity: int, enter_at_nought: bool = False) -> int:
        """The amount of a scaled quantity with 24 digits after the point, not rounded."""
        if quantity == 0:
            return self.zero_amount if enter_at_nought else 0
        if quantity < 0:
            return self.tiers[0].unit_amount * quantity if self.below_nought == "unit" else 0
        return self._exact(self._holding(quantity), quantity)

    def breakdown(
        self, quantity: int, enter_at_nought: bool = False, cell: int | None = None, channel: str | None = None
    ) -> list[TierAmount]:
        """What each tier contributes to `amount(quantity)`, so that a person can follow it.

        `cell`, `channel`: how the leaf and its channel are named.
        """
        if quantity <= 0:
            first = self.tiers[0]
            amount = self.amount(quantity, enter_at_nought)
            entered = amount != 0 or (quantity == 0 and enter_at_nought)
            return [self._show(first, quantity, amount, cell, channel)] if entered else []
        if self.whole:
            tier = self._holding(quantity)
            return [self._show(tier, quantity, self.amount(quantity), cell, channel)]
        shown: list[TierAmount] = []
        before = 0
        for tier in self.tiers:
            if quantity < tier.start + (not self.lower_bounds):
                break
            within = min(quantity, tier.up_to) if tier.up_to is not None else quantity
            after = check_scaled(divide_half_up(self._exact(tier, within), ONE))
            shown.append(self._show(tier, within - tier.start, after - before, cell, channel))
            before = after
        return shown

    def _holding(self, quantity: int) -> Tier:
        for tier in self.tiers:
            last = self.last(tier)
            if last is None or quantity <= last:
                return tier
        raise AssertionError(f"no tier holds {quantity}: {self}")

    def _exact(self, tier: Tier, quantity: int) -> int:
        inside = quantity - tier.start
        if tier.block:
            return tier.base + tier.unit_amount * self._blocks(tier, inside) * ONE
        return tier.base + tier.unit_amount * inside

    def _blocks(self, tier: Tier, inside: int) -> int:
        return inside // tier.block if self.blocks_down else -(-inside // tier.block)

    def _show(self, tier: Tier, quantity: int, amount: int, cell: int | None, channel: str | None) -> TierAmount:
        packages = self._blocks(tier, quantity) if tier.block and quantity > 0 else 0
        if quantity == 0 and amount:
            packages = self.zero_blocks
        return TierAmount(
            start=format_scaled(tier.start),
            up_to=None if tier.up_to is None else format_scaled(tier.up_to),
            quantity=format_scaled(quantity),
            unit_amount=format_scaled(tier.unit_amount),
            flat_amount=format_scaled(tier.flat_amount),
            amount=format_scaled(amount),
            package_size=format_scaled(tier.block) if tier.block else None,
            packages=str(packages) if tier.block else None,
            cell=cell,
            channel=channel,
        )


NOTHING: Final = TierTable((Tier(0, None, 0, 0),))
"""Asks nothing for any quantity."""
