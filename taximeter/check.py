"""`taximeter check`: a catalogue in words and tables, for somebody who answers for prices and reads no YAML.

Each charge in sentences, and what 0, 1, the edges of its tiers, just above them and a million cost: by the engine's own
tables, its free units, discount and bounds included.
"""

from collections.abc import Iterator
from decimal import Decimal, localcontext

import polars as pl

from rating.compiled import Compiled, Plan, Rate
from rating.lines import price, unused_amount
from rating.prices import read_price
from rating.prices.model import ByTime, Choice, Leaf, UsagePrice
from rating.prices.tiers import TierTable
from schemas.catalogue import Charge, Overrides, PriceBook, Prices, Subscription
from schemas.faults import Faults
from schemas.numbers import ONE, NumberError, format_scaled
from taximeter.documents import zone_of
from taximeter.text import WIDTH_MAX, about, heading, listed, moment, number, paragraph, plural, table
from taximeter.words import (
    Said,
    book_words,
    charge_words,
    coupon_words,
    grant_words,
    meter_words,
    tax_words,
    where_words,
)

_MILLION = 1_000_000 * ONE
_LISTED_MAX = 40
"""Customers and subscriptions that are shown one by one."""
_LEAVES_MAX = 24
"""Cells of one charge whose costs are shown."""
_LABEL_MAX = 32
_EVENT_VALUES = tuple(value * ONE for value in (1, 10, 100, 1_000, 10_000, 1_000_000))


def explain(compiled: Compiled, width: int = WIDTH_MAX) -> str:
    """The whole catalogue."""
    return "\n".join(line.rstrip() for line in _Explanation(compiled, min(width, WIDTH_MAX)).lines()) + "\n"


class _Explanation:
    def __init__(self, compiled: Compiled, width: int) -> None:
        self.compiled = compiled
        self.documents = compiled.documents
        self.width = max(width, 60)

    def lines(self) -> Iterator[str]:
        yield from self._summary()
        yield from self._meters()
        for name, book in self.documents.price_books.items():
            yield from self._book(name, book)
        yield from self._discounts()
        yield from self._customers()
        yield from self._subscriptions()

    def _summary(self) -> Iterator[str]:
        kinds = {"meters": "meter", "price_books": "price book", "customers": "customer",
                 "subscriptions": "subscription", "coupons": "coupon", "credit_grants": "credit grant",
                 "tax_rates": "tax rate", "features": "feature", "entitlements": "entitlement"}  # fmt: skip
        counts = [(len(getattr(self.documents, kind)), word) for kind, word in kinds.items()]
        said = [plural(count, word) for count, word in counts if count]
        yield from self._say(f"No faults in {listed(said) or 'nothing'}.")

    def _say(self, text: str, indent: int = 0, hang: int = 0) -> list[str]:
        return paragraph(text, indent, self.width, hang)

    # Meters -------------------------------------------------------------------------------------

    def _meters(self) -> Iterator[str]:
        if not self.documents.meters:
            return
        yield ""
        yield from heading("Meters", width=self.width)
        rows = []
        for name, meter in self.documents.meters.items():
            where = where_words(meter)
            by = f"; by {listed(list(meter.dimensions))}" if meter.dimensions else ""
            rows.append((name, f"{meter_words(meter)}{f', where {where}' if where else ''}{by}"))
        yield from table(("", ""), rows, ("left", "left"), width=self.width)

    # Price books --------------------------------------------------------------------------------

    def _book(self, name: str, book: PriceBook) -> Iterator[str]:
        bodies = book.bodies()
        for version, prices in enumerate(bodies, 1):
            yield ""
            title = f"Price book {name}" + (f", version {version} of {len(bodies)}" if len(bodies) > 1 else "")
            yield from heading(title, f"in {prices.currency}", self.width)
            after = bodies[version].effective_from if version < len(bodies) else None
            yield from self._force(prices, after)
            if book.description and version == 1:
                yield from self._say(book.description)
            if prices.description:
                yield from self._say(prices.description)
            yield from self._version(name, version, prices, bodies[version - 2] if version > 1 else None)

    def _force(self, prices: Prices, after: object) -> Iterator[str]:
        parts = []
        if prices.effective_from is not None:
            parts.append(f"from {moment(prices.effective_from)}")
        if after is not None:
            parts.append(f"until {moment(after)}")  # type: ignore[arg-type]  # a time
        if parts:
            yield from self._say(f"In force {' '.join(parts)}.")

    def _version(self, name: str, version: int, prices: Prices, before: Prices | None) -> Iterator[str]:
        plan = next(
            p for p in self.compiled.plans if (p.price_book, p.price_version, p.trial) == (name, version, False)
        )
        same = [] if before is None else [key for key, one in prices.charges.items() if before.charges.get(key) == one]
        for key, charge in prices.charges.items():
            if key not in same:
                yield ""
                yield from self._charge(key, charge, plan)
        said = []
        if same:
            said.append(f"As before: {listed(same)}.")
        if before is not None and (gone := [key for key in before.charges if key not in prices.charges]):
            said.append(f"No longer asked: {listed(gone)}.")
        said += book_words(prices)
        if said:
            yield ""
            yield "  For the whole period"
            for sentence in said:
                yield from self._say(sentence, 4, 2)

    def _charge(self, name: str, charge: Charge, plan: Plan) -> Iterator[str]:
        yield f"  {name}"
        if charge.description:
            yield from self._say(charge.description, 4)
        for said in charge_words(charge, self.documents, plan.currency):
            yield from self._said(said, 4)
        number_of_rate = plan.rates.get(name)
        if number_of_rate is not None:
            yield from self._costs(charge, self.compiled.rates[number_of_rate], plan.currency)

    def _said(self, said: Said, indent: int) -> Iterator[str]:
        yield from self._say(said.sentence, indent)
        if said.rows:
            yield from table(("", ""), said.rows, ("left", "left"), indent + 4, self.width)
        for label, inside in said.inside:
            if inside.rows or inside.inside:
                yield from self._say(f"{label}:", indent + 2)
                yield from self._said(inside, indent + 4)
            else:
                yield from self._say(f"{label}: {inside.sentence}", indent + 2, 2)

    # What it costs ------------------------------------------------------------------------------

    def _costs(self, charge: Charge, rate: Rate, currency: str) -> Iterator[str]:
        compiled = read_price(charge.price, "", Faults())
        assert isinstance(compiled, UsagePrice)
        labels = _labels(compiled.choice, len(rate.leaves))
        firsts = [sum(len(leaf.tables) for leaf in rate.leaves[:i]) for i in range(len(rate.leaves))]
        by_samples: dict[tuple[int, ...], list[int]] = {}
        shown = [i for i in range(len(rate.leaves)) if not _is_free(rate.leaves[i])]
        for i in shown[:_LEAVES_MAX]:
            if rate.leaves[i].split is None:
                by_samples.setdefault(_samples(rate.leaves[i].tables[0], rate.free_units), []).append(i)
        for samples, leaves in by_samples.items():
            yield ""
            yield from self._cost_tables(rate, samples, leaves, labels, firsts, currency)
        for i in shown[:_LEAVES_MAX]:
            if rate.leaves[i].split is not None:
                yield ""
                yield from _event_costs(rate.leaves[i], labels[i], currency, self.width)
        if len(shown) > _LEAVES_MAX:
            yield from self._say(f"and {len(shown) - _LEAVES_MAX} more cells", 8)

    def _cost_tables(
        self,
        rate: Rate,
        samples: tuple[int, ...],
        leaves: list[int],
        labels: list[str],
        firsts: list[int],
        currency: str,
    ) -> Iterator[str]:
        """One table, or several where the columns of many cells do not fit beside each other."""
        at_once = 1
        while at_once < len(leaves) and at_once < 8:
            wide = sum(max(len(labels[i]), 12) + 3 for i in leaves[: at_once + 1])
            if wide > self.width - 24:
                break
            at_once += 1
        for start in range(0, len(leaves), at_once):
            part = leaves[start : start + at_once]
            costs = [[_cost(rate, firsts[i], quantity, len(rate.leaves)) for quantity in samples] for i in part]
            rows = [[number(format_scaled(q)), *row] for q, *row in zip(samples, *costs, strict=True)]
            alone = len(rate.leaves) == 1
            header = ["units", *((currency,) if alone else [labels[i] for i in part])]
            if alone:
                header.append("each, about")
                for row, quantity in zip(rows, samples, strict=True):
                    row.append(_each(row[1], quantity))
            yield from table(header, rows, ["number"] * len(header), 8, self.width)
            if start + at_once < len(leaves):
                yield ""

    # Discounts, customers, subscriptions ----------------------------------------------------------

    def _discounts(self) -> Iterator[str]:
        documents = self.documents
        rows = [(id, "coupon", coupon_words(coupon, documents)) for id, coupon in documents.coupons.items()]
        rows += [(id, "tax", tax_words(tax, documents)) for id, tax in documents.tax_rates.items()]
        for id, grant in documents.credit_grants.items():
            owner = f"for {grant.customer}: " if grant.customer else ""
            rows.append((id, "credit", owner + grant_words(grant)))
        if rows:
            yield ""
            yield from heading("Coupons, credits and taxes", width=self.width)
            yield from table(("", "", ""), rows, ("left", "left", "left"), width=self.width)

    def _customers(self) -> Iterator[str]:
        customers = self.documents.customers
        if not customers:
            return
        yield ""
        yield from heading("Customers", width=self.width)
        rows = []
        for id, customer in list(customers.items())[:_LISTED_MAX]:
            said = [customer.name] if customer.name else []
            if customer.subjects:
                said.append(
                    f"pays for {listed(customer.subjects[:8])}" + (" and more" if customer.subjects[8:] else "")
                )
            if customer.timezone:
                said.append(f"days are those of {customer.timezone}")
            if customer.taxes:
                said.append("taxed by " + listed([tax_words(tax, self.documents) for tax in customer.taxes]))
            said += [f"coupon: {coupon_words(coupon, self.documents)}" for coupon in customer.coupons]
            said += [f"credit: {grant_words(grant)}" for grant in customer.credit_grants]
            if customer.overrides != Overrides():
                said.append(_overridden(customer.overrides))
            rows.append((id, "; ".join(said) or "-"))
        yield from table(("", ""), rows, ("left", "left"), width=self.width)
        if len(customers) > _LISTED_MAX:
            yield f"and {plural(len(customers) - _LISTED_MAX, 'more customer', 'more customers')}"

    def _subscriptions(self) -> Iterator[str]:
        subscriptions, default = self.documents.subscriptions, self.documents.default_subscription
        yield ""
        yield from heading("Subscriptions", width=self.width)
        for id, sub in list(subscriptions.items())[:_LISTED_MAX]:
            yield from self._subscription(id, sub)
        if len(subscriptions) > _LISTED_MAX:
            yield f"and {plural(len(subscriptions) - _LISTED_MAX, 'more subscription', 'more subscriptions')}"
        if default is None:
            yield from self._say(
                "Customers without a subscription of their own are not billed: what they use is rejected."
            )
        else:
            zone = f" in {default.timezone}" if default.timezone else ""
            yield from self._say(
                f"Customers without a subscription of their own: {default.price_book}, by the {default.period}{zone}."
            )

    def _subscription(self, id: str, sub: Subscription) -> Iterator[str]:
        zone = zone_of(self.documents, sub.customer, id)
        anchor = f", anchored at {sub.anchor}" if sub.anchor is not None else ""
        yield from self._say(f"{id}: {sub.customer} by {sub.price_book}, billed by the {sub.period}{anchor}, in {zone}")
        rows: list[tuple[str, str]] = []
        first = f"{sub.price_book}" + (f"; {_overridden(sub.overrides)}" if sub.overrides != Overrides() else "")
        if sub.trial_end is not None:
            rows.append((f"from {moment(sub.start, zone)}", "free trial"))
            rows.append((f"from {moment(sub.trial_end, zone)}", first))
        else:
            rows.append((f"from {moment(sub.start, zone)}", first))
        for phase in sub.phases:
            what = "free trial" if phase.trial else phase.price_book or sub.price_book
            own = f"; {_overridden(phase.overrides)}" if phase.overrides != Overrides() else ""
            rows.append((f"from {moment(phase.start, zone)}", what + own))
        for pause in sub.pauses:
            until = f"until {moment(pause.end, zone)}" if pause.end is not None else "until further notice"
            rows.append((f"from {moment(pause.start, zone)}", f"paused {until}"))
        if sub.end is not None:
            rows.append((f"on {moment(sub.end, zone)}", "it ends"))
        yield from table(("", ""), rows, ("left", "left"), 4, self.width)


def _overridden(overrides: Overrides) -> str:
    """What differs, by name."""
    said = [f"{charge} ({listed(list(changes))})" for charge, changes in overrides.charges.items()]
    said += [name.replace("_", " ") for name in ("minimum", "maximum", "overage_factor", "thresholds", "budget")
             if getattr(overrides, name) is not None]  # fmt: skip
    return f"its own {listed(said)}"


def _labels(choice: Choice, count: int) -> list[str]:
    """How each leaf is called, by the way that leads to it."""
    found = [""] * count

    def walk(node: Choice, way: tuple[str, ...]) -> None:
        if isinstance(node, int):
            label = ", ".join(way)
            found[node] = label if len(label) <= _LABEL_MAX else label[: _LABEL_MAX - 3] + "..."
            return
        if isinstance(node, ByTime):
            for windows, inside in node.windows:
                walk(inside, (*way, " ".join(f"{_days(w.days)} {_clock(w.start)}-{_clock(w.end)}" for w in windows)))
        else:
            for match, inside in node.cells:
                texts = {name: "/".join(values) for name, values in match}
                walk(inside, (*way, " ".join(texts[name] for name in node.by if name in texts)))
        walk(node.otherwise, (*way, "all else"))

    walk(choice, ())
    return found


def _days(days: tuple[int, ...]) -> str:
    names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    if len(days) > 1 and days == tuple(range(days[0], days[-1] + 1)):
        return f"{names[days[0] - 1]}-{names[days[-1] - 1]}"
    return ",".join(names[day - 1] for day in days)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _is_free(leaf: Leaf) -> bool:
    return all(not (tier.base or tier.unit_amount) for one in leaf.tables for tier in one.tiers)


def _samples(prices: TierTable, free: int) -> tuple[int, ...]:
    """0, 1, what is free, the edges of tiers and blocks, just above them, a million.

    Where a bound belongs to the tier above it, what stands just below the edge takes the place of what is above."""
    found = {0, ONE, _MILLION}
    if free:
        found |= {free, free + ONE}
    for tier in prices.tiers:
        edges = [edge for edge in (tier.up_to, tier.block or None) if edge is not None]
        for edge in edges:
            beside = edge - _step(edge) if prices.lower_bounds else edge + _step(edge)
            found |= {edge + free, beside + free}
    return tuple(sorted(found))


def _step(edge: int) -> int:
    """A unit, or a part of it where the edge itself stands inside one."""
    step = ONE
    while step > 1 and edge % step:
        step //= 10
    return step


def _cost(rate: Rate, first: int, quantity: int, leaves: int) -> str:
    try:
        if quantity == 0 and leaves == 1:
            return number(format_scaled(unused_amount(rate) if rate.due_unused else 0))
        return number(format_scaled(price(rate, {first: quantity})))
    except NumberError as error:
        return str(error)


def _each(amount: str, quantity: int) -> str:
    try:
        with localcontext(prec=60):
            return about(Decimal(amount.replace(",", "")) / (Decimal(quantity) / ONE)) if quantity else ""
    except ArithmeticError:
        return ""


def _event_costs(leaf: Leaf, label: str, currency: str, width: int) -> list[str]:
    """What one event costs, by its value: the first of a period, and, where some are free, one after those."""
    split = leaf.split
    assert split is not None
    what = "the event's own amount" if split.extra is not None else "an event's value"
    header = [f"{what} ({label})" if label else what, currency]
    if split.ordered:
        header = [header[0], f"{currency} at first", f"{currency} later on"]
    rows = []
    for value in _EVENT_VALUES:
        row = [number(format_scaled(value)), _one_event(leaf, value, False)]
        rows.append([*row, _one_event(leaf, value, True)] if split.ordered else row)
    return table(header, rows, ["number"] * len(header), 8, width)


def _one_event(leaf: Leaf, value: int, later: bool) -> str:
    split = leaf.split
    assert split is not None
    if split.ordered:
        running = split.start()
        if later:
            amount, events = getattr(split, "free_amount", None), getattr(split, "free_events", None)
            running = split.feed(running, [amount] if amount is not None else [0] * (events or 0))
        before, after = split.totals(running), split.totals(split.feed(running, [value]))
        brought = [now - was for was, now in zip(before, after, strict=True)]
    else:
        one = pl.Series([value], dtype=pl.Int128)
        brought = [int(found.value.sum() or 0) for found in split.spread(one, one if split.extra is not None else None)]
    return number(format_scaled(sum(t.amount(q) for t, q in zip(leaf.tables[1:], brought, strict=True))))
