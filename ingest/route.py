"""Whose usage an event is, and in which partition it meets the customer's other usage."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.catalogue import Catalogue
from schemas.expressions import ExpressionError, is_path, value_paths
from schemas.identity import IDENTIFIER, identity_hasher, partition_of
from schemas.limits import ID_LENGTH_MAX, PATHS_MAX
from schemas.paths import Extractor

_CACHED_MAX: Final = 100_000
"""Subjects, and pairs of customer and source, that a router remembers; full, it begins anew."""


NOWHERE: Final = -1
"""The place of a subject that has no route."""


class View:
    """What the door must know of a tenant's catalogue: who claims which subject, and what meters read from data."""

    def __init__(self, subjects: Mapping[str, str], paths: Sequence[str] = ()) -> None:
        """`subjects`: subject -> customer. `paths`: what is no path, or beyond the bound, is left to the engine."""
        self.subjects = dict(subjects)
        self.paths = tuple(path for path in dict.fromkeys(paths) if is_path(path))[:PATHS_MAX]
        self.extractor = Extractor(self.paths)

    @classmethod
    def of(cls, catalogue: Catalogue) -> "View":
        """The view of a catalogue. Where two customers claim a subject, the one written first has it."""
        subjects: dict[str, str] = {}
        for name, customer in catalogue.customers.items():
            for subject in customer.subjects:
                subjects.setdefault(subject, name)
        paths: list[str] = []
        for meter in catalogue.meters.values():
            paths += _value_paths(meter.value)
            paths += [*meter.where, *meter.dimensions.values()]
            paths += [meter.key] if meter.key is not None else []
        for book in catalogue.price_books.values():
            for prices in book.bodies():
                paths += [path for charge in (prices.charges or {}).values() for path in _price_paths(charge.price)]
        return cls(subjects, paths)


Views = Callable[[str], View]
"""Tenant -> the view of the catalogue that is in force. The same object as long as nothing has changed."""


class Route(NamedTuple):
    """The customer that a subject belongs to, and the customer's partition."""

    customer: str
    partition: int


class RouteTable:
    """Routes as the compiled half reads them.

    `rows`: subject -> its place in `customers`, or `NOWHERE`. `customers`: for each place where the customer's text
    stands, its bytes, and the partition. `held`: what these texts stand in; a table that names them keeps it.
    """

    def __init__(self) -> None:
        self.rows: dict[bytes, int] = {}
        self.customers = np.empty((64, 3), np.int64)
        self.held: list[NDArray[np.uint8]] = []
        self._count = 0

    def add(self, routes: Mapping[bytes, Route | None]) -> None:
        """Adds routes of subjects that are not there."""
        found = {subject: route for subject, route in routes.items() if route is not None}
        texts = [route.customer.encode() for route in found.values()]
        buffer = np.frombuffer(b"".join(texts) + b"\0", np.uint8)
        sizes = np.array(list(map(len, texts)), np.int64)
        start, end = self._count, self._count + len(found)
        if end > len(self.customers):
            wider = np.empty((2 * end, 3), np.int64)
            wider[:start] = self.customers[:start]
            self.customers = wider
        new = self.customers[start:end]
        new[:, 0], new[:, 1] = buffer.ctypes.data + np.cumsum(sizes) - sizes, sizes
        new[:, 2] = [route.partition for route in found.values()]
        self.held.append(buffer)
        self.rows.update(dict.fromkeys(routes, NOWHERE))
        self.rows.update(zip(found, range(start, end), strict=True))
        self._count = end


class Router:
    """Finds the routes of one tenant's subjects under one view, and remembers them."""

    def __init__(self, tenant: str, view: View, partitions: int) -> None:
        self.tenant = tenant
        self.view = view
        self._partitions = partitions
        self._routes: dict[str, Route | None] = {}
        self._hashers: dict[tuple[str, str], blake2b] = {}
        self._table = RouteTable()

    def routes(self, subjects: Sequence[str]) -> list[Route | None]:
        """The route of each subject; None where no customer claims it and it cannot be one itself."""
        known = self._routes
        try:
            return [known[subject] for subject in subjects]
        except KeyError:
            if len(known) > _CACHED_MAX:
                known.clear()
            known.update([(subject, self._find(subject)) for subject in set(subjects) if subject not in known])
            return [known[subject] for subject in subjects]

    def table(self, subjects: Sequence[bytes]) -> tuple["RouteTable", NDArray[np.int64]]:
        """The same as rows of a table, and which of them is each subject's."""
        known = self._table.rows
        try:
            return self._table, np.array([known[subject] for subject in subjects], np.int64)
        except KeyError:
            if len(known) > _CACHED_MAX:
                self._table = RouteTable()
            known = self._table.rows
            self._table.add({one: self._find(one.decode()) for one in set(subjects) if one not in known})
            return self._table, np.array([known[subject] for subject in subjects], np.int64)

    def hashers(self, customers: Sequence[str], sources: Sequence[str]) -> list[blake2b]:
        """What each event's identity begins with (see `schemas.identity.identity_hasher`)."""
        known = self._hashers
        pairs = list(zip(customers, sources, strict=True))
        try:
            return [known[pair] for pair in pairs]
        except KeyError:
            if len(known) > _CACHED_MAX:
                known.clear()
            known.update([(pair, identity_hasher(self.tenant, *pair)) for pair in set(pairs) if pair not in known])
            return [known[pair] for pair in pairs]

    def _find(self, subject: str) -> Route | None:
        customer = self.view.subjects.get(subject)
        if customer is None:
            if not IDENTIFIER.match(subject):
                return None
            customer = subject
        return Route(customer, partition_of(self.tenant, customer, self._partitions))


def explain_no_route(subject: str) -> str:
    """What is said of a subject that no customer claims and that cannot be a customer."""
    return (
        f"found {subject[:60]!r}, which no customer claims, expected at most {ID_LENGTH_MAX} letters, digits and "
        ". _ - : @ / (or a customer that claims it)"
    )


def _price_paths(price: Any) -> list[str]:
    """What a price, or one inside it, reads from each event: an `amount` that is a path."""
    if isinstance(price, list):
        return [path for one in price for path in _price_paths(one)]
    if not isinstance(price, dict):
        return []
    amount = price.get("amount")
    own = [amount] if isinstance(amount, str) and amount.startswith("$") else []
    return [*own, *(path for inside in price.values() for path in _price_paths(inside))]


def _value_paths(value: str | None) -> tuple[str, ...]:
    """What a meter's value looks at; one that cannot be read is left to the engine, which refuses the catalogue."""
    try:
        return () if value is None else value_paths(value)
    except ExpressionError:
        return ()
