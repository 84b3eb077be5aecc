"""What the demo asks over HTTP: spend and threshold invoices while events come in, and everything at the end."""

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import httpx
import msgspec

from taximeter.demo_compare import Outputs
from taximeter.demo_day import PERIOD_START

_PAGE: Final = 1000
_AT_ONCE: Final = 8
_PATIENCE_S: Final = 180
_WAIT_MS: Final = 30_000
_TRIES: Final = 4
_PAUSE_S: Final = 0.25


class AnswerMissing(Exception):
    """A query was not answered; the message says which and how."""


@dataclass(slots=True)
class Seen:
    """What the queries have said so far."""

    spend: dict[str, Decimal] = field(default_factory=dict)
    invoices: dict[str, Any] = field(default_factory=dict)
    """Threshold invoices by id, in the order in which they were seen."""


def _up_to(position: str | None) -> dict[str, str]:
    """The parameters of a question whose answer must include a position."""
    return {"position": position, "wait_ms": str(_WAIT_MS)} if position else {}


class Queries:
    """The questions to one spend server."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def watch(self, seen: Seen, customers: list[str], position: str | None = None) -> None:
        """Asks once for the threshold invoices so far (with a position: up to it at least), and then for the spend of
        some customers."""
        invoices = await self._all("invoices", kind="threshold", **_up_to(position))
        fresh = [invoice for invoice in invoices if invoice["id"] not in seen.invoices]
        for invoice in sorted(fresh, key=lambda invoice: str(invoice["because"]["event"]["id"])):
            seen.invoices[invoice["id"]] = invoice
        answers = await asyncio.gather(*(self.spend(customer) for customer in customers))
        for customer, answer in zip(customers, answers, strict=True):
            seen.spend[customer] = sum((Decimal(c["total"]) for c in answer["currencies"]), Decimal(0))

    async def spend(self, customer: str) -> Any:
        """What a customer's October has come to."""
        return await self._get(f"/v1/customers/{customer}/spend", period=PERIOD_START)

    async def reach(self, customer: str, position: str) -> None:
        """Waits until the queries include a position. Raises: AnswerMissing."""
        for _ in range(_PATIENCE_S * 1000 // _WAIT_MS):
            response = await self._ask(f"/v1/customers/{customer}/spend", _up_to(position))
            if response.status_code == 200:
                return
            if response.status_code != 504:
                break
        raise AnswerMissing(f"the spend queries did not reach {position}: {response.text[:300]}")

    async def everything(self, customers: list[str], position: str) -> Outputs:
        """All line items, invoices, alerts and rejections up to a position, page by page, and the spend of these
        customers. The spend is asked for once the listings include the position, so it does as well."""
        listings = ("line-items", "invoices", "alerts", "rejections")
        line_items, invoices, alerts, rejections = await asyncio.gather(
            *(self._all(listing, **_up_to(position)) for listing in listings)
        )
        spend = await asyncio.gather(*map(self.spend, customers))
        return Outputs(line_items, invoices, alerts, rejections, dict(zip(customers, spend, strict=True)))

    async def _all(self, listing: str, **where: str) -> list[Any]:
        found: list[Any] = []
        more: dict[str, str] = {}
        while True:
            page = await self._get(f"/v1/{listing}", limit=str(_PAGE), **where, **more)
            found += page[listing.replace("-", "_")]
            if page["next_cursor"] is None:
                return found
            more = {"cursor": page["next_cursor"]}

    async def _get(self, path: str, **parameters: str) -> Any:
        response = await self._ask(path, parameters)
        if response.status_code != 200:
            raise AnswerMissing(f"GET {path} answered {response.status_code}: {response.text[:300]}")
        return msgspec.json.decode(response.content)

    async def _ask(self, path: str, parameters: dict[str, str]) -> httpx.Response:
        """Asks, and once more where the server has just closed an idle connection. Raises: AnswerMissing."""
        async with self._turns:
            for tries in range(1, _TRIES + 1):
                try:
                    return await self._client.get(self._url + path, params=parameters)
                except httpx.TransportError as error:
                    if tries == _TRIES:
                        raise AnswerMissing(f"GET {path}: {str(error) or type(error).__name__}") from None
                    await asyncio.sleep(_PAUSE_S)
            raise AssertionError
