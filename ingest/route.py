"""Whose usage an event is, and in which partition it meets the customer's other usage."""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.table import SEED, SUBJECT, Table, laid_out
from native.library import function
from schemas.catalogue import Catalogue
from schemas.expressions import ExpressionError, is_path, value_paths
from schemas.identity import IDENTIFIER, identity_hasher, partition_of
from schemas.limits import ID_LENGTH_MAX, PATHS_MAX
from schemas.paths import Extractor

_CACHED_MAX: Final = 100_000
"""Subjects, and pairs of customer and source, that a router remembers; full, it begins anew."""


NOWHERE: Final = -1
"""The place of a subject that has no route."""
UNKNOWN: Final = -2
"""The place of a subject that a table has not met."""
_ROUTE_WORDS: Final = 5

_add_routes = function("tx_add_routes", None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_find_routes = function(
    "tx_find_routes", ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p
)


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
    """Routes as the compiled half finds and reads them (`native/src/routes.c`).

    `rows`: for each route where its subject's text stands and its bytes, the same of its customer, and the partition:
    `NOWHERE` where the subject has no route. `held`: what these texts stand in; a table that names them keeps it.
    """

    def __init__(self) -> None:
        self.rows = np.empty((64, _ROUTE_WORDS), np.int64)
        self.held: list[NDArray[np.uint8]] = []
        self.count = 0
        self._find_anew(128)

    def find(self, table: Table) -> tuple[NDArray[np.int32], int]:
        """The place in `rows` of each row's subject: `NOWHERE` where it has no route, `UNKNOWN` where it is not here;
        and the least of them."""
        assert _find_routes is not None
        places = np.empty(len(table), np.int32)
        least = _find_routes(table.address, len(table), ctypes.addressof(self._found_by), places.ctypes.data)
        return places, int(least)

    def add(self, routes: Mapping[bytes, Route | None]) -> None:
        """Adds subjects that are not there."""
        assert _add_routes is not None
        start, end = self.count, self.count + len(routes)
        if end > len(self.rows):
            wider = np.empty((2 * end, _ROUTE_WORDS), np.int64)
            wider[:start] = self.rows[:start]
            self.rows = wider
        self._put(start, end, 0, list(routes))
        self._put(start, end, 2, [b"" if route is None else route.customer.encode() for route in routes.values()])
        self.rows[start:end, 4] = [NOWHERE if route is None else route.partition for route in routes.values()]
        self.count = end
        if 2 * end > len(self._slots):
            self._find_anew(4 * end)
        else:
            self._found_by.rows = self.rows.ctypes.data
            _add_routes(ctypes.addressof(self._found_by), start, end)

    def _put(self, start: int, end: int, word: int, texts: Sequence[bytes]) -> None:
        buffer, self.rows[start:end, word], self.rows[start:end, word + 1] = laid_out(texts)
        self.held.append(buffer)

    def _find_anew(self, slots: int) -> None:
        """With so many slots, or up to twice as many."""
        self._slots = np.full(1 << (slots - 1).bit_length(), -1, np.int32)
        self._found_by = _FoundBy(self.rows.ctypes.data, self._slots.ctypes.data, len(self._slots) - 1, SEED)
        if self.count:
            assert _add_routes is not None
            _add_routes(ctypes.addressof(self._found_by), 0, self.count)


class _FoundBy(ctypes.Structure):
    """As `native/src/routes.c` has it."""

    _fields_ = [
        ("rows", ctypes.c_void_p), ("slots", ctypes.c_void_p), ("mask", ctypes.c_int64), ("seed", ctypes.c_uint64)
    ]  # fmt: skip


class Places(NamedTuple):
    """Where the rows of a table belong. `rows`: the place of each in `routes`. `all_known`: every one has a route."""

    routes: RouteTable
    rows: NDArray[np.int32]
    all_known: bool


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

    def places(self, table: Table) -> Places:
        """The same for a table's rows. Asked again for the same table, it answers the same at once."""
        if table.places is None or table.places.routes is not self._table:
            found, least = self._table.find(table)
            if least == UNKNOWN:
                if self._table.count > _CACHED_MAX:
                    self._table = RouteTable()
                    found, _ = self._table.find(table)
                unknown = table.take(found == UNKNOWN).distinct(SUBJECT)[0]
                self._table.add({subject: self._find(subject.decode()) for subject in unknown})
                found, least = self._table.find(table)
            table.places = Places(self._table, found, least >= 0)
        return table.places

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
