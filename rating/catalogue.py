"""Compiles the catalogue: documents in, columns out (`rating.compiled`). Refused whole, every fault with its path."""

from collections.abc import Iterable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from rating.aggregates import AGGREGATES
from rating.charges import check_bounds, check_discount, flat_amount, free_charge
from rating.compiled import (
    TIME_MAX,
    TIME_MIN,
    Commitment,
    Compiled,
    CompiledMeter,
    CompiledSubscription,
    Entry,
    FlatCharge,
    Level,
    Plan,
    Rate,
    Rebooking,
    Reduction,
    Shape,
    Tiers,
    nodes,
)
from rating.entitlements import check_entitlements
from rating.filters import read_condition
from rating.gauges import UNITS, Reading
from rating.meters import GAUGE, check_meter, read_convert, read_value
from rating.prices import read_price
from rating.prices.model import ByDimensions, ByTime, FlatPrice, UsagePrice, one_table
from rating.prices.tiers import NOTHING
from rating.settle import TaxRate
from rating.terms import OWN_LINES, check_book, compile_customers, compile_taxes, tax_rates
from rating.timelines import check_timeline, default_timeline, subscription_timeline
from schemas.catalogue import (
    Catalogue,
    CatalogueError,
    Charge,
    Discount,
    Meter,
    Minimum,
    Overrides,
    PriceBook,
    Prices,
    Tax,
    Terms,
    Threshold,
    read_catalogue,
)
from schemas.currency import MINOR_DIGITS
from schemas.faults import MISSING, Faults, join, read, unknown
from schemas.limits import CHARGES_MAX, DIMENSIONS_MAX, METERS_MAX, PATHS_MAX
from schemas.numbers import ONE, divide_half_up, parse_scaled
from schemas.paths import PathError, parse_path
from schemas.period import Calendar, PeriodError, load_zone, make_calendar
from schemas.times import from_datetime


def load_catalogue(text: str | bytes, rebookings: Iterable[Rebooking] = ()) -> Compiled:
    """The compiled catalogue of a YAML or JSON text. Raises: CatalogueError with every fault.

    `rebookings`: subscriptions that are wanted under another of its price books too.
    """
    documents, faults = read_catalogue(text)
    if documents is None:
        raise CatalogueError(faults)
    compiler = _Compiler(documents, faults)
    compiled = compiler.compile(rebookings)
    if faults:
        raise CatalogueError(faults)
    return compiled


class _Compiler:
    def __init__(self, documents: Catalogue, faults: Faults) -> None:
        self.documents = documents
        self.faults = faults
        self.meters: dict[str, CompiledMeter] = {}
        self.shapes: dict[str, Shape] = {}
        self.rates: dict[Rate, int] = {}
        self.rate_first: list[int] = []
        self.plans: list[Plan] = []
        self.plan_shapes: list[dict[int, int]] = []
        self.tax_rates = tax_rates(documents)
        self.variants: dict[tuple[str, str, bool], list[int]] = {}
        self.lenient = False

    def compile(self, rebookings: Iterable[Rebooking] = ()) -> Compiled:
        for name, meter in self.documents.meters.items():
            self._meter(name, meter)
        for name in self.documents.price_books:
            self.book(name)
        self._customers()
        subscriptions = self._subscriptions()
        defaults = self._defaults()
        rebooked, rebook_faults = self._rebooked(rebookings)
        check_entitlements(self.documents, self.faults)
        paths = {path for meter in self.meters.values() for path in self._paths(meter)} | self._extra_paths()
        if len(paths) > PATHS_MAX:
            self.faults.add("meters", f"found {len(paths)} different paths, expected at most {PATHS_MAX}")
        compiled = self._finish(subscriptions, defaults, tuple(sorted(paths)))
        compiled.rebooked, compiled.rebook_faults = rebooked, rebook_faults
        return compiled

    def _extra_paths(self) -> set[str]:
        splits = (leaf.split for rate in self.rates for leaf in rate.leaves)
        return {split.extra for split in splits if split is not None and split.extra is not None}

    @staticmethod
    def _paths(meter: CompiledMeter) -> list[str]:
        own = [path for path in (meter.value, meter.key) if path is not None]
        if meter.expression is not None:
            own += meter.expression.paths
        return [*own, *meter.dimensions.values(), *(condition.path for condition in meter.conditions)]

    def _meter(self, name: str, meter: Meter) -> None:
        where = join("meters", name)
        if len(self.documents.meters) > METERS_MAX:
            self.faults.add("meters", f"found {len(self.documents.meters)}, expected at most {METERS_MAX}")
        if len(meter.dimensions) > DIMENSIONS_MAX:
            self.faults.add(
                join(where, "dimensions"), f"found {len(meter.dimensions)}, expected at most {DIMENSIONS_MAX}"
            )
        named = {join(join(where, "dimensions"), key): path for key, path in meter.dimensions.items()}
        named |= {join(join(where, "where"), path): path for path in meter.where}
        for at, path in named.items():
            try:
                parse_path(path)
            except PathError as error:
                self.faults.add(at, str(error))
        found = [
            read_condition(path, value, join(join(where, "where"), path), self.faults)
            for path, value in meter.where.items()
        ]
        conditions = tuple(condition for condition in found if condition is not None)
        value, expression = read_value(meter, where, self.faults)
        check_meter(meter, where, self.faults)
        event, total = read_convert(meter, where, self.faults)
        self.meters[name] = CompiledMeter(
            name=name,
            event=meter.event,
            aggregate=AGGREGATES[meter.aggregate],
            value=value,
            conditions=conditions,
            dimensions=dict(meter.dimensions),
            expression=expression,
            convert_event=event,
            convert_total=total,
            key=meter.key,
            gauge=_reading(meter) if meter.aggregate == GAUGE else None,
            percentile=_scaled(meter.percentile or Decimal(0)),
        )

    # Price books -------------------------------------------------------------------------------------------------

    def book(
        self,
        name: str,
        trial: bool = False,
        customer: str | None = None,
        overrides: Overrides | None = None,
        where: str = "",
    ) -> list[tuple[int, int]]:
        """(effective from, plan) of each version of a price book with a customer's and a subscription's overrides.

        Faults of the book itself are noted once. `trial`: as it is while everything is free.
        """
        known = self.documents.customers.get(customer or "")
        layers = [(join(join("customers", customer or ""), "overrides"), known.overrides)] if known else []
        if overrides is not None:
            layers.append((where, overrides))
        layers = [(at, layer) for at, layer in layers if layer != Overrides()]
        key = (name, repr([layer for _, layer in layers]), trial)
        if key not in self.variants:
            self.variants[key] = self._versions(name, layers, trial)
        book = self.documents.price_books[name]
        starts = [TIME_MIN if p.effective_from is None else from_datetime(p.effective_from) for p in book.bodies()]
        return list(zip(starts, self.variants[key], strict=True))

    def _versions(self, name: str, layers: list[tuple[str, Overrides]], trial: bool) -> list[int]:
        book = self.documents.price_books[name]
        where = join("price_books", name)
        first = not layers and not trial
        if first:
            self._check_versions(book, where)
        plans = []
        for number, written in enumerate(book.bodies(), 1):
            body = written
            at = where if book.versions is None else join(join(where, "versions"), number - 1)
            ignored = Faults()
            for over, layer in layers:
                body = self._override(name, body, layer, over, self.lenient or len(book.bodies()) > 1)
                at = over
            if first or layers:
                plans.append(self._plan(name, number, body, at, trial))
            else:
                kept, self.faults = self.faults, ignored  # the book's own faults have been noted
                plans.append(self._plan(name, number, body, at, trial))
                self.faults = kept
        return plans

    def _check_versions(self, book: PriceBook, where: str) -> None:
        if book.versions is None:
            return
        plain = PriceBook(versions=book.versions, description=book.description, metadata=book.metadata)
        for field in PriceBook.__struct_fields__:
            if getattr(book, field) != getattr(plain, field):
                self.faults.add(join(where, field), "stands beside versions: each version says it for itself")
        if not book.versions:
            self.faults.add(join(where, "versions"), "found none, expected at least one")
        for i, (before, after) in enumerate(pairwise(book.versions), 1):
            at = join(join(where, "versions"), i)
            if after.effective_from is None:
                self.faults.add(join(at, "effective_from"), "missing: only the first version may be without")
            elif before.effective_from is not None and after.effective_from <= before.effective_from:
                message = f"found {after.effective_from}, expected a time after {before.effective_from}: versions rise"
                self.faults.add(join(at, "effective_from"), message)
            if after.currency != before.currency:
                message = f"found {after.currency}, expected {before.currency}: another currency is another price book"
                self.faults.add(join(at, "currency"), message)

    def _plan(self, name: str, version: int, book: Prices, where: str, trial: bool) -> int:
        if book.currency and book.currency not in MINOR_DIGITS:
            self.faults.add(join(where, "currency"), f"found {book.currency!r}, expected an ISO 4217 code such as USD")
        charges = book.charges
        if len(charges) > CHARGES_MAX:
            self.faults.add(join(where, "charges"), f"found {len(charges)}, expected at most {CHARGES_MAX}")
        flats: list[FlatCharge] = []
        rates: dict[str, int] = {}
        by_shape: dict[int, int] = {}
        for order, (key, charge) in enumerate(charges.items()):
            at = join(join(where, "charges"), key)
            if key in OWN_LINES:
                self.faults.add(at, f"the name `{key}` is kept for a line of the invoice")
            price = read_price(charge.price, join(at, "price"), self.faults)
            taxes = None if charge.taxes is None else self._taxes(charge.taxes, join(at, "taxes"))
            if isinstance(price, FlatPrice):
                self._check_flat(charge, price, at)
                if not trial:
                    flats.append(self._flat(key, order, charge, price, taxes))
            elif self._check_usage(charge, price, at):
                of = (free_charge(charge), one_table(NOTHING)) if trial else (charge, price)
                shape, rate = self._usage(key, order, *of, taxes)
                rates[key] = rate
                by_shape[shape] = rate
        levels = self._levels(book, where)
        commitment = self._minimum(book.minimum, where)
        check_book(book, where, self.faults)
        factor = None if book.overage_factor is None else _scaled(book.overage_factor)
        self.plans.append(
            Plan(
                price_book=name,
                price_version=version,
                currency=book.currency,
                rounding=book.rounding,
                tax_rounding=book.tax_rounding,
                flats=tuple(flats),
                rates=rates,
                levels=() if trial else levels,
                minimum=None if trial else commitment,
                maximum=None if book.maximum is None else _scaled(book.maximum),
                overage_factor=factor,
                carry_usage=book.carry_usage,
                corrections=book.corrections,
                trial=trial,
            )
        )
        self.plan_shapes.append(by_shape)
        return len(self.plans) - 1

    @staticmethod
    def _flat(key: str, order: int, charge: Charge, price: FlatPrice, taxes: tuple[TaxRate, ...] | None) -> FlatCharge:
        return FlatCharge(
            charge=key,
            order=order,
            amount=flat_amount(price.amount, charge),
            in_advance=charge.when == "in_advance",
            prorate=charge.prorate,
            description=charge.description or key,
            once=price.once,
            taxes=taxes,
        )

    def _taxes(self, taxes: list[Tax], where: str) -> tuple[TaxRate, ...]:
        return compile_taxes(taxes, self.tax_rates, where, self.faults)

    def _levels(self, book: Prices, where: str) -> tuple[Level, ...]:
        found = [Level(_scaled(t.spend), t.repeat, "threshold", _scaled(t.spend)) for t in book.thresholds]
        self._thresholds(book.thresholds, where)
        if book.budget is not None:
            amount = _scaled(book.budget.amount)
            shares = [divide_half_up(amount * _scaled(share), 100 * ONE) for share in book.budget.alerts]
            found.extend(Level(share, False, "budget", amount) for share in shares)
        return tuple(sorted(found))

    def _thresholds(self, thresholds: list[Threshold], where: str) -> list[Threshold]:
        seen: set[Decimal] = set()
        for i, threshold in enumerate(thresholds):
            at = join(join(join(where, "thresholds"), i), "spend")
            if threshold.spend <= 0:
                self.faults.add(at, f"found {threshold.spend}, expected more than nought")
            if threshold.spend in seen:
                self.faults.add(at, f"found {threshold.spend} twice")
            seen.add(threshold.spend)
        return thresholds

    def _minimum(self, minimum: Decimal | Minimum | None, where: str) -> Commitment | None:
        if minimum is None:
            return None
        full = minimum if isinstance(minimum, Minimum) else Minimum(amount=minimum)
        if full.amount < 0:
            self.faults.add(join(where, "minimum"), f"found {full.amount}, expected nought or more")
        return Commitment(_scaled(full.amount), full.prorate, full.true_up)

    def _check_flat(self, charge: Charge, price: FlatPrice, at: str) -> None:
        check_discount(charge.discount, at, self.faults)
        if charge.discount is not None and charge.discount.units is not None:
            self.faults.add(join(at, "discount.units"), "a flat charge has no units")
        check_bounds(charge, at, self.faults)
        if price.once and charge.prorate:
            self.faults.add(join(at, "prorate"), "found true, expected false: what is charged once is not prorated")
        wrong = {
            "meter": charge.meter is not None,
            "group_by": bool(charge.group_by),
            "free_units": charge.free_units != 0,
            "bill_zero_usage": charge.bill_zero_usage,
        }
        for key, found in wrong.items():
            if found:
                self.faults.add(join(at, key), "a flat charge asks for the period itself and reads no usage")

    def _check_usage(self, charge: Charge, price: Any, at: str) -> bool:
        before = len(self.faults)
        meter = self.documents.meters.get(charge.meter or "")
        if charge.meter is None:
            self.faults.add(
                join(at, "meter"), f"missing: {charge.price.get('model')} prices usage, so it needs a meter"
            )
        elif meter is None:
            self.faults.add(join(at, "meter"), f"no such meter: {unknown(charge.meter, list(self.documents.meters))}")
        else:
            for i, name in enumerate(charge.group_by):
                if name not in meter.dimensions:
                    found = unknown(name, list(meter.dimensions))
                    self.faults.add(join(join(at, "group_by"), i), f"no dimension of meter {charge.meter}: {found}")
            if isinstance(price, UsagePrice):
                self._check_price(charge, meter, price, at)
        check_discount(charge.discount, at, self.faults)
        check_bounds(charge, at, self.faults)
        if charge.when == "in_advance":
            self.faults.add(join(at, "when"), "found in_advance, expected in_arrears: usage is known only afterwards")
        if charge.prorate:
            self.faults.add(join(at, "prorate"), "found true, expected false: only a flat charge is prorated by time")
        return price is not MISSING and len(self.faults) == before

    def _check_price(self, charge: Charge, meter: Meter, price: UsagePrice, at: str) -> None:
        """What a price asks of the meter that it prices."""
        for node in nodes(price.choice):
            for i, name in enumerate(node.by if isinstance(node, ByDimensions) else ()):
                if name not in meter.dimensions:
                    found = unknown(name, list(meter.dimensions))
                    self.faults.add(join(join(at, "price.by"), i), f"no dimension of meter {charge.meter}: {found}")
        if meter.aggregate == GAUGE and any(isinstance(node, ByTime) for node in nodes(price.choice)):
            message = "found schedule with a time_weighted meter: a level holds over windows, so no window holds it"
            self.faults.add(join(at, "price.model"), message)
        if not any(leaf.split for leaf in price.leaves):
            return
        model = charge.price.get("model")
        extra = all(leaf.split is None or leaf.split.extra is not None for leaf in price.leaves)
        if meter.aggregate not in ("sum", "count") and not extra:
            message = f"found {model}, which asks something of each event's value: its meter must be a sum or a count"
            self.faults.add(join(at, "price.model"), message)
        if charge.free_units or (charge.discount is not None and charge.discount.units):
            key = "free_units" if charge.free_units else "discount.units"
            self.faults.add(
                join(at, key), f"found with {model}, which prices single events (see free_amount, free_events)"
            )

    def _usage(
        self, name: str, order: int, charge: Charge, price: UsagePrice, taxes: tuple[TaxRate, ...] | None
    ) -> tuple[int, int]:
        group_by = tuple(charge.group_by)
        meter = self.meters[str(charge.meter)]
        splits = tuple(leaf.split for leaf in price.leaves)
        channels = tuple(len(leaf.tables) for leaf in price.leaves)
        shape = Shape(len(self.shapes), name, meter.name, group_by, price.choice, splits, channels)
        shape = self.shapes.setdefault(shape.signature, shape)
        discount = charge.discount or Discount()
        reduction = None
        if discount.percent is not None or discount.amount is not None:
            reduction = Reduction(_scaled(discount.percent or Decimal(0)), _scaled(discount.amount or Decimal(0)))
        rate = Rate(
            charge=name,
            order=order,
            meter=meter.name,
            group_by=group_by,
            leaves=price.leaves,
            free_units=_scaled(charge.free_units) + _scaled(discount.units or Decimal(0)),
            reduction=reduction,
            minimum=None if charge.minimum is None else _scaled(charge.minimum),
            maximum=None if charge.maximum is None else _scaled(charge.maximum),
            bill_zero_usage=charge.bill_zero_usage,
            description=charge.description or name,
            convert=meter.convert_total,
            kept=meter.aggregate.kept,
            taxes=taxes,
        )
        return shape.index, self.rates.setdefault(rate, len(self.rates))

    # Customers and subscriptions ---------------------------------------------------------------------------------

    def _customers(self) -> None:
        claimed: dict[str, str] = {}
        for name, customer in self.documents.customers.items():
            where = join("customers", name)
            self._zone(customer.timezone, where)
            for i, subject in enumerate(customer.subjects):
                if subject in claimed:
                    self.faults.add(
                        join(join(where, "subjects"), i), f"found {subject!r}, which {claimed[subject]} owns already"
                    )
                claimed.setdefault(subject, name)

    def _zone(self, zone: str | None, where: str) -> bool:
        try:
            if zone is not None:
                load_zone(zone)
        except PeriodError as error:
            self.faults.add(join(where, "timezone"), str(error))
            return False
        return True

    def _terms(self, terms: Terms, customer: str | None, start: int | None, where: str) -> Calendar | None:
        known = self.documents.customers.get(customer or "")
        zone = terms.timezone or (known.timezone if known else None) or "UTC"
        if terms.price_book not in self.documents.price_books:
            found = unknown(terms.price_book, list(self.documents.price_books))
            self.faults.add(join(where, "price_book"), f"no such price book: {found}")
        if not self._zone(terms.timezone, where):
            return None
        try:
            load_zone(zone)
        except PeriodError:
            return None  # the customer's, where it is noted
        try:
            return make_calendar(terms.period, terms.anchor, zone, start)
        except PeriodError as error:
            self.faults.add(join(where, "anchor"), str(error))
            return None

    def _subscriptions(self) -> list[CompiledSubscription]:
        found: list[CompiledSubscription] = []
        for name, sub in self.documents.subscriptions.items():
            where = join("subscriptions", name)
            if name == "default":
                self.faults.add(where, "the id `default` is kept for customers with no subscription of their own")
            calendar = self._terms(sub, sub.customer, from_datetime(sub.start), where)
            timely = check_timeline(sub, self.documents.price_books, where, self.faults)
            if not timely and sub.price_book in self.documents.price_books:
                self.book(sub.price_book, False, sub.customer, sub.overrides, join(where, "overrides"))
            timeline = subscription_timeline(sub, self, where) if timely else ()
            if calendar is not None and timely:
                end = TIME_MAX if sub.end is None else from_datetime(sub.end)
                start = from_datetime(sub.start)
                found.append(CompiledSubscription(name, sub.customer, calendar, timeline, start, end))
        return found

    def _override(self, name: str, book: Prices, overrides: Overrides, where: str, lenient: bool) -> Prices:
        """`lenient`: a charge may be missing, since another version or price book has it."""
        charges = dict(book.charges)
        for key, changes in overrides.charges.items():
            at = join(join(where, "charges"), key)
            if key not in charges:
                if not lenient and not where.startswith("customers."):
                    self.faults.add(at, f"no such charge of {name}: {unknown(key, list(charges))}")
                continue
            plain: dict[str, Any] = {f: getattr(charges[key], f) for f in charges[key].__struct_fields__}
            fresh = read(Charge, {"price": plain["price"], **changes}, at, self.faults)
            if fresh is not MISSING:
                charges[key] = msgspec.structs.replace(charges[key], **{k: getattr(fresh, k) for k in changes})
        fields = ("minimum", "maximum", "overage_factor", "thresholds", "budget")
        given = {field: getattr(overrides, field) for field in fields if getattr(overrides, field) is not None}
        return msgspec.structs.replace(book, charges=charges, **given)

    def _defaults(self) -> dict[str | None, tuple[Entry, ...]]:
        """The timelines of customers that have no subscription of their own; under None that of all others."""
        terms = self.documents.default_subscription
        if terms is None:
            return {}
        self._terms(terms, None, None, "default_subscription")
        if terms.price_book not in self.documents.price_books:
            return {}
        found: dict[str | None, tuple[Entry, ...]] = {None: default_timeline(self.book(terms.price_book))}
        for name, customer in self.documents.customers.items():
            if customer.overrides != Overrides():
                found[name] = default_timeline(self.book(terms.price_book, customer=name))
        return found

    def _rebooked(
        self, rebookings: Iterable[Rebooking]
    ) -> tuple[dict[Rebooking, tuple[Entry, ...]], dict[Rebooking, Faults]]:
        """The timelines of subscriptions under other price books; made last, when all faults of documents are noted."""
        if self.faults:
            return {}, {}
        found, faults, kept = {}, {}, self.faults
        self.lenient = True
        for one in rebookings:
            self.faults, known = Faults(), dict(self.variants)
            found[one] = self._rebook(one, True)
            if self.faults:
                faults[one] = self.faults
                self.variants = known  # what has faults is compiled again where it is asked for again
                found[one] = self._rebook(one, False)
        self.lenient, self.faults = False, kept
        return found, faults

    def _rebook(self, one: Rebooking, overridden: bool) -> tuple[Entry, ...]:
        sub = self.documents.subscriptions.get(one.subscription) if one.own else None
        customer = one.customer if overridden else None
        if sub is None:
            return default_timeline(self.book(one.price_book, customer=customer))
        changes: dict[str, Any] = {} if overridden else {"overrides": Overrides()}
        phases = [msgspec.structs.replace(phase, price_book=None, **changes) for phase in sub.phases]
        other = msgspec.structs.replace(sub, price_book=one.price_book, phases=phases, **changes)
        if not overridden:
            other = msgspec.structs.replace(other, customer="")
        return subscription_timeline(other, self, join("subscriptions", one.subscription))

    def _finish(
        self,
        subscriptions: list[CompiledSubscription],
        defaults: dict[str | None, tuple[Entry, ...]],
        paths: tuple[str, ...],
    ) -> Compiled:
        shapes: dict[str, list[Shape]] = {}
        for shape in self.shapes.values():
            shapes.setdefault(shape.meter, []).append(shape)
        plan_rates = np.full((len(self.plans), len(self.shapes)), -1, dtype=np.int32)
        for plan, by_shape in enumerate(self.plan_shapes):
            for index, rate in by_shape.items():
                plan_rates[plan, index] = rate
        rates = list(self.rates)
        sizes = [len(rate.tables) for rate in rates]
        counted = [channel == 0 for rate in rates for leaf in rate.leaves for channel in range(len(leaf.tables))]
        return Compiled(
            documents=self.documents,
            meters=list(self.meters.values()),
            shapes=shapes,
            rates=rates,
            rate_table=np.cumsum([0, *sizes])[:-1].astype(np.int64),
            counted=np.array(counted, dtype=np.bool_),
            tiers=Tiers.of([table for rate in rates for table in rate.tables]),
            plans=self.plans,
            plan_rates=plan_rates,
            subscriptions=subscriptions,
            default_timelines=defaults,
            customer_terms=compile_customers(self.documents, self.faults),
            paths=paths,
        )


def _reading(meter: Meter) -> Reading:
    return Reading(UNITS[meter.unit or "hour"], meter.reads == "change", meter.align == "day")


def _scaled(value: Decimal) -> int:
    return parse_scaled(value)
