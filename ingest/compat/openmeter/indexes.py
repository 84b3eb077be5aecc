"""What is looked up in a catalogue again and again: made once for each catalogue that is in force."""

from collections.abc import Callable
from typing import Final, TypeVar

from schemas.catalogue import Catalogue, Entitlement
from schemas.identity import digest

_REMEMBERED_MAX: Final = 64
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_T = TypeVar("_T")


def remembered(make: Callable[[Catalogue], _T]) -> Callable[[Catalogue], _T]:
    """`make`, called once for each of the last catalogues: they are frozen, and each change is another one."""
    known: dict[int, tuple[Catalogue, _T]] = {}

    def get(catalogue: Catalogue) -> _T:
        found = known.get(id(catalogue))
        if found is None or found[0] is not catalogue:  # what is remembered keeps its catalogue, and so its id, alive
            if len(known) >= _REMEMBERED_MAX:
                known.clear()
            found = known[id(catalogue)] = catalogue, make(catalogue)
        return found[1]

    return get


def id_of(kind: str, *parts: str) -> str:
    """The id that a document has in this dialect: made from what it is called, and in the form of a ULID."""
    number = int.from_bytes(digest("openmeter", kind, *parts), "big")
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def id_of_customer(key: str) -> str:
    """A customer's id."""
    return id_of("customer", key)


@remembered
def customers_by_id(catalogue: Catalogue) -> dict[str, str]:
    """Id -> key of every customer."""
    return {id_of_customer(key): key for key in catalogue.customers}


@remembered
def owners_of(catalogue: Catalogue) -> dict[str, str]:
    """Subject -> the customer that it belongs to. A customer without subjects is its own."""
    return {subject: key for key, one in catalogue.customers.items() for subject in one.subjects or [key]}


@remembered
def entitlements_of(catalogue: Catalogue) -> dict[str, list[tuple[str, Entitlement]]]:
    """Customer -> id and entitlement of all that it has or had."""
    found: dict[str, list[tuple[str, Entitlement]]] = {}
    for id, one in catalogue.entitlements.items():
        found.setdefault(one.customer, []).append((id, one))
    return found
