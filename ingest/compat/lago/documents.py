"""What Lago's documents and ours have in common: where the names that only Lago has are kept, and how bodies are read.

Lago's names, intervals and the like stand in the `metadata` of our documents, under `lago.…`. Nothing else is kept, and
nothing is kept anywhere else: who changes a document over `/v1` changes what Lago's clients are shown.
"""

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from starlette.requests import Request

from ingest.compat.answering import plain_of, read_members
from ingest.compat.backend import Backend
from ingest.compat.lago.answers import FORMAT, INVALID, MANDATORY, Errors, bad_request, faulty, unprocessable
from schemas.catalogue import Catalogue, CatalogueError, Prices, Subscription
from schemas.currency import MINOR_DIGITS
from schemas.faults import Number
from schemas.limits import DOCUMENT_BYTES_MAX
from schemas.numbers import ONE, NumberError, format_scaled, parse_scaled
from schemas.times import from_datetime

NAME: Final = "lago.name"
CUSTOMER: Final = "lago.customer"

Members = dict[str, Any]
"""The members of a JSON object: plain values, numbers as `Number`."""


class Documents:
    """What every kind of Lago document needs: the catalogue, and one change at a time.

    A change reads a document, and writes it with more in it: two at once would lose one.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.changing = asyncio.Lock()

    async def apply(self, tenant: str, fresh: Catalogue, prefix: str) -> None:
        """Brings documents into force. Raises: Refused (422) with paths from `prefix` on, LogUnavailable."""
        try:
            await self.backend.apply(tenant, fresh)
        except CatalogueError as error:
            raise faulty(error.faults, prefix) from None

    def created(self, tenant: str, kind: str, id: str) -> str | None:
        """When the first known version of a document was made."""
        versions = self.backend.filed(tenant, kind, id)
        return versions[0].changed if versions else None

    def changed(self, tenant: str, kind: str, id: str) -> str | None:
        """When the latest version of a document was made."""
        versions = self.backend.filed(tenant, kind, id)
        return versions[-1].changed if versions else None


async def read_root(request: Request, root: str) -> Members:
    """What stands in a body under its root, as `{"plan": {…}}`. Raises: Refused, BodyRefused."""
    members = await read_members(request, DOCUMENT_BYTES_MAX)
    value = plain_of(members[root]) if root in members else None
    if not isinstance(value, dict) or not value:
        raise bad_request(f"param is missing or the value is empty: {root}")
    return value


class Fields:
    """Reads the members of one object, and collects what is wrong with them by field."""

    def __init__(self, members: Members, errors: Errors, place: str = "") -> None:
        """`place`: the path of the object, with a point at its end."""
        self.members = members
        self.errors = errors
        self.place = place

    def wrong(self, name: str, word: str, detail: str = "") -> None:
        """Notes a fault: Lago's word for it, and what was found and expected."""
        self.errors.setdefault(self.place + name, []).extend(filter(None, (word, detail)))

    def text(self, name: str, mandatory: bool = False) -> str | None:
        """A text; None where there is none, or a blank one."""
        value = self.members.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            if mandatory:
                self.wrong(name, MANDATORY)
            return None
        if not isinstance(value, str):
            self.wrong(name, FORMAT)
            return None
        return value

    def choice(self, name: str, known: Sequence[str], default: str | None = None) -> str:
        """One of a closed list; without a default it must be there."""
        value = self.text(name, mandatory=default is None) or default or ""
        if value and value not in known:
            self.wrong(name, INVALID, f"found {value[:60]!r}, expected one of {', '.join(known)}")
        return value

    def flag(self, name: str) -> bool | None:
        """True or false; None where it is absent."""
        value = self.members.get(name)
        if value is not None and not isinstance(value, bool):
            self.wrong(name, INVALID, "expected true or false")
            return None
        return value

    def decimal(self, name: str, least: int = 0) -> Decimal | None:
        """A decimal, written as a number or as a text, of at least `least`; None where it is absent or wrong."""
        value = self.members.get(name)
        if value is None:
            return None
        try:
            scaled = parse_scaled(value.text if isinstance(value, Number) else value)
        except NumberError as error:
            self.wrong(name, INVALID, str(error))
            return None
        if scaled < least * ONE:
            self.wrong(name, INVALID, f"found {format_scaled(scaled)}, expected at least {least}")
            return None
        return Decimal(format_scaled(scaled))

    def whole(self, name: str, least: int = 0) -> int | None:
        """A whole number of at least `least`; None where it is absent or wrong."""
        value = self.decimal(name, least)
        if value is not None and value != int(value):
            self.wrong(name, INVALID, f"found {value}, expected a whole number")
            return None
        return None if value is None else int(value)

    def objects(self, name: str) -> list[Members]:
        """A list of objects; nothing where it is absent."""
        value = self.members.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self.wrong(name, FORMAT, "expected a list of objects")
            return []
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts; nothing where it is absent."""
        value = self.members.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            self.wrong(name, FORMAT, "expected a list of texts")
            return []
        return value

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Notes every named member that asks for something: it cannot be said in our documents."""
        for name, why in reasons.items():
            value = self.members.get(name)
            asks = value not in (None, False, "", [], {}) and not (isinstance(value, Number) and value.text == "0")
            if asks:
                self.wrong(name, INVALID, why)

    def finish(self) -> None:
        """Raises: Refused (422) where anything was wrong."""
        if self.errors:
            raise unprocessable(self.errors)


def prices_at(bodies: Sequence[Prices], time: int) -> Prices:
    """The version of a price book that is in force at a time, or the first one."""
    found = bodies[0]
    for prices in bodies[1:]:
        if prices.effective_from is not None and from_datetime(prices.effective_from) <= time:
            found = prices
    return found


def money_of(cents: int, currency: str) -> Decimal:
    """Minor units as an amount: 1250 cents are 12.5."""
    return Decimal(format_scaled(cents * ONE // 10 ** MINOR_DIGITS.get(currency, 2)))


def owner_of(subscription: Subscription) -> str:
    """The Lago customer of a subscription; its usage may stand under an account of its own (see `subscriptions`)."""
    return subscription.metadata.get(CUSTOMER) or subscription.customer
