"""Compiles the catalogue: documents in, columns out (`rating.compiled`). Refused whole, every fault with its path."""

from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from rating.aggregates import AGGREGATES
from rating.compiled import (
    TIME_MAX,
    TIME_MIN,
    Commitment,
    Compiled,
    CompiledMeter,
    CompiledSubscription,
    FlatCharge,
    Plan,
    Rate,
    Shape,
    Tiers,
)
from rating.filters import read_condition
from rating.meters import check_meter, read_convert, read_value
from rating.prices import read_price
from rating.prices.model import FlatPrice, UsagePrice
from rating.prices.tiers import TierTable
from schemas.catalogue import (
    Catalogue,
    CatalogueError,
    Charge,
    Meter,
    Minimum,
    Overrides,
    PriceBook,
    Terms,
    Threshold,
    read_catalogue,
)
from schemas.currency import MINOR_DIGITS
from schemas.faults import MISSING, Faults, join, read, unknown
from schemas.limits import CHARGES_MAX, DIMENSIONS_MAX, METERS_MAX, PATHS_MAX
from schemas.numbers import parse_scaled
from schemas.paths import PathError, parse_path
from schemas.period import Calendar, PeriodError, load_zone, make_calendar
from schemas.times import from_datetime


def load_catalogue(text: str | bytes) -> Compiled:
    """The compiled catalogue of a YAML or JSON text. Raises: CatalogueError with every fault."""
    documents, faults = read_catalogue(text)
    if documents is None:
        raise CatalogueError(faults)
    compiler = _Compiler(documents, faults)
    compiled = compiler.compile()
    if faults:
        raise CatalogueError(faults)
    return compiled


def check_change(before: Compiled, after: Compiled) -> None:
    """Prices may change under open periods; how a charge reads usage may not: totals already counted would have no
    meaning under the new reading. Raises: CatalogueError that names each such charge.
    """
    faults = Faults()
    old = {sub.id: sub.plan for sub in before.subscriptions}
    pairs = [(f"subscriptions.{sub.id}", old[sub.id], sub.plan) for sub in after.subscriptions if sub.id in old]
    if before.default_plan >= 0 and after.default_plan >= 0:
        pairs.append(("default_subscription", before.default_plan, after.default_plan))
    for where, earlier, later in pairs:
        was, now = _readings(before, earlier), _readings(after, later)
        for charge in was.keys() & now.keys():
            if was[charge] != now[charge]:
                faults.add(
                    join(where, charge),
                    f"found another reading of usage than the one in force (was: {was[charge]}; now: {now[charge]}); "
                    "only prices may change, so give the charge a new name",
                )
    if faults:
        raise CatalogueError(Faults(sorted(faults)))


def _readings(compiled: Compiled, plan: int) -> dict[str, str]:
    """Charge -> what it reads: its aggregate and the signature of its shape, or that it is flat."""
    aggregates = {meter.name: meter.aggregate.name for meter in compiled.meters}
    found = {flat.charge: "flat" for flat in compiled.plans[plan].flats}
    for shapes in compiled.shapes.values():
        for shape in shapes:
            if compiled.plan_rates[plan, shape.index] >= 0:
                found[shape.charge] = f"{aggregates[shape.meter]} {shape.signature}"
    return found


class _Compiler:
    def __init__(self, documents: Catalogue, faults: Faults) -> None:
        self.documents = documents
        self.faults = faults
        self.meters: dict[str, CompiledMeter] = {}
        self.shapes: dict[str, Shape] = {}
        self.rates: dict[Rate, int] = {}
        self.tables: dict[TierTable, int] = {}
        self.rate_first: list[int] = []
        self.plans: list[Plan] = []
        self.plan_shapes: list[dict[int, int]] = []

    def compile(self) -> Compiled:
        for name, meter in self.documents.meters.items():
            self._meter(name, meter)
        books = {name: self._plan(name, book, join("price_books", name)) for name, book in self._books()}
        self._customers()
        subscriptions = self._subscriptions(books)
        default_plan = self._default(books)
        paths = {path for meter in self.meters.values() for path in self._paths(meter)}
        if len(paths) > PATHS_MAX:
            self.faults.add("meters", f"found {len(paths)} different paths, expected at most {PATHS_MAX}")
        return self._finish(subscriptions, default_plan, tuple(sorted(paths)))

    def _books(self) -> list[tuple[str, PriceBook]]:
        return list(self.documents.price_books.items())

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
            unit=meter.unit or "hour",
            reads=meter.reads,
            align=meter.align,
            percentile=0 if meter.percentile is None else _scaled(meter.percentile),
        )

    def _plan(self, name: str, book: PriceBook, where: str) -> int:
        if book.currency not in MINOR_DIGITS:
            self.faults.add(join(where, "currency"), f"found {book.currency!r}, expected an ISO 4217 code such as USD")
        if len(book.charges) > CHARGES_MAX:
            self.faults.add(join(where, "charges"), f"found {len(book.charges)}, expected at most {CHARGES_MAX}")
        flats: list[FlatCharge] = []
        rates: dict[str, int] = {}
        by_shape: dict[int, int] = {}
        for order, (key, charge) in enumerate(book.charges.items()):
            at = join(join(where, "charges"), key)
            if key == "minimum":
                self.faults.add(at, "the name `minimum` is kept for the commitment's line")
            price = read_price(charge.price, join(at, "price"), self.faults)
            if isinstance(price, FlatPrice):
                self._check_flat(charge, at)
                advance = charge.when == "in_advance"
                flats.append(FlatCharge(key, order, price.amount, advance, charge.prorate, charge.description or key))
            elif self._check_usage(charge, price, at):
                shape, rate = self._usage(key, order, charge, price)
                rates[key] = rate
                by_shape[shape] = rate
        thresholds = tuple(sorted((_scaled(t.spend), t.repeat) for t in self._thresholds(book.thresholds, where)))
        start = TIME_MIN if book.effective_from is None else from_datetime(book.effective_from)
        commitment = self._minimum(book.minimum, where)
        self.plans.append(
            Plan(name, 1, book.currency, book.rounding, start, tuple(flats), rates, thresholds, commitment)
        )
        self.plan_shapes.append(by_shape)
        return len(self.plans) - 1

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

    def _check_flat(self, charge: Charge, at: str) -> None:
        wrong = {
            "meter": charge.meter is not None,
            "group_by": bool(charge.group_by),
            "free_units": charge.free_units != 0,
            "minimum": charge.minimum is not None,
            "maximum": charge.maximum is not None,
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
                for i, name in enumerate(price.by):
                    if name not in meter.dimensions:
                        found = unknown(name, list(meter.dimensions))
                        self.faults.add(join(join(at, "price.by"), i), f"no dimension of meter {charge.meter}: {found}")
        for key in ("free_units", "minimum", "maximum"):
            value = getattr(charge, key)
            if value is not None and value < 0:
                self.faults.add(join(at, key), f"found {value}, expected nought or more")
        if charge.minimum is not None and charge.maximum is not None and charge.minimum > charge.maximum:
            self.faults.add(
                join(at, "minimum"), f"found {charge.minimum}, expected at most the maximum {charge.maximum}"
            )
        if charge.when == "in_advance":
            self.faults.add(join(at, "when"), "found in_advance, expected in_arrears: usage is known only afterwards")
        if charge.prorate:
            self.faults.add(join(at, "prorate"), "found true, expected false: only a flat charge is prorated by time")
        return price is not MISSING and len(self.faults) == before

    def _usage(self, name: str, order: int, charge: Charge, price: UsagePrice) -> tuple[int, int]:
        group_by = tuple(charge.group_by)
        matches = tuple(cell.match for cell in price.cells)
        shape = Shape(len(self.shapes), name, str(charge.meter), group_by, price.by, matches)
        shape = self.shapes.setdefault(shape.signature, shape)
        rate = Rate(
            charge=name,
            order=order,
            meter=str(charge.meter),
            group_by=group_by,
            tables=tuple(cell.table for cell in price.cells),
            free_units=_scaled(charge.free_units),
            minimum=None if charge.minimum is None else _scaled(charge.minimum),
            maximum=None if charge.maximum is None else _scaled(charge.maximum),
            bill_zero_usage=charge.bill_zero_usage,
            description=charge.description or name,
        )
        index = self.rates.setdefault(rate, len(self.rates))
        if index == len(self.rate_first):
            # The tables of one rate follow each other, so that the cell's number finds its own.
            self.rate_first.append(sum(len(r.tables) for r in list(self.rates)[:index]) if index else 0)
        return shape.index, index

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

    def _subscriptions(self, books: dict[str, int]) -> list[CompiledSubscription]:
        found: list[CompiledSubscription] = []
        overridden: dict[bytes, int] = {}
        for name, sub in self.documents.subscriptions.items():
            where = join("subscriptions", name)
            if name == "default":
                self.faults.add(where, "the id `default` is kept for customers with no subscription of their own")
            start = from_datetime(sub.start)
            end = TIME_MAX if sub.end is None else from_datetime(sub.end)
            if end <= start:
                self.faults.add(join(where, "end"), f"found {sub.end}, expected a time after start {sub.start}")
            calendar = self._terms(sub, sub.customer, start, where)
            plan = books.get(sub.price_book, -1)
            if plan >= 0 and sub.overrides != Overrides():
                key = msgspec.json.encode([sub.price_book, repr(sub.overrides)])
                if key not in overridden:
                    overridden[key] = self._override(sub.price_book, sub.overrides, join(where, "overrides"))
                plan = overridden[key]
            if calendar is not None:
                found.append(CompiledSubscription(name, sub.customer, plan, calendar, start, end))
        return found

    def _override(self, name: str, overrides: Overrides, where: str) -> int:
        book = self.documents.price_books[name]
        charges = dict(book.charges)
        for key, changes in overrides.charges.items():
            at = join(join(where, "charges"), key)
            if key not in charges:
                self.faults.add(at, f"no such charge of {name}: {unknown(key, list(charges))}")
                continue
            plain: dict[str, Any] = {f: getattr(charges[key], f) for f in charges[key].__struct_fields__}
            fresh = read(Charge, {"price": plain["price"], **changes}, at, self.faults)
            if fresh is not MISSING:
                charges[key] = msgspec.structs.replace(charges[key], **{k: getattr(fresh, k) for k in changes})
        changed = msgspec.structs.replace(
            book,
            charges=charges,
            minimum=book.minimum if overrides.minimum is None else overrides.minimum,
            thresholds=book.thresholds if overrides.thresholds is None else overrides.thresholds,
        )
        return self._plan(name, changed, where)

    def _default(self, books: dict[str, int]) -> int:
        terms = self.documents.default_subscription
        if terms is None:
            return -1
        self._terms(terms, None, None, "default_subscription")
        return books.get(terms.price_book, -1)

    def _finish(self, subscriptions: list[CompiledSubscription], default_plan: int, paths: tuple[str, ...]) -> Compiled:
        shapes: dict[str, list[Shape]] = {}
        for shape in self.shapes.values():
            shapes.setdefault(shape.meter, []).append(shape)
        plan_rates = np.full((len(self.plans), len(self.shapes)), -1, dtype=np.int32)
        for plan, by_shape in enumerate(self.plan_shapes):
            for index, rate in by_shape.items():
                plan_rates[plan, index] = rate
        rates = list(self.rates)
        return Compiled(
            documents=self.documents,
            meters=list(self.meters.values()),
            shapes=shapes,
            rates=rates,
            rate_table=np.array(self.rate_first, dtype=np.int64),
            tiers=Tiers.of([table for rate in rates for table in rate.tables]),
            plans=self.plans,
            plan_rates=plan_rates,
            subscriptions=subscriptions,
            default_plan=default_plan,
            paths=paths,
        )


def _scaled(value: Decimal) -> int:
    return parse_scaled(value)
