"""What a running engine answers, and what two answers must have in common."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import httpx
import msgspec

from tests.alibaba.test_alibaba import _compare

DECEMBER, JANUARY = "2024-12-09T00:00:00Z", "2025-01-02T00:00:00Z"
"""When November has ended, and when December has: the trace has no other months."""

LISTINGS = ("line_items", "invoices", "alerts", "rejections")
Outputs = dict[str, list[bytes]]
"""Listing -> each record's JSON as it was answered."""

_WAIT_S = 30
_PAGE = 1000


class Queries:
    """The questions of `serve` and `spend`, one connection."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=_WAIT_S + 10)

    def __enter__(self) -> "Queries":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def tick(self, time: str) -> str:
        """Says that it is this time (to a door); the position after it."""
        answer = self._client.post("/v1/ticks", json={"time": time})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["position"])

    def wait(self, position: str) -> None:
        """Waits until the answers include a position. Raises: AssertionError."""
        self._get("line-items", {"position": position, "wait_ms": _WAIT_S * 1000, "limit": 1})

    def through(self) -> int:
        """What the answers include, summed over the partitions."""
        return sum(msgspec.json.decode(self._get("line-items", {"limit": 1})["through"]).values())

    def events(self) -> int:
        """How many events the answers include, by the charge that counts every one."""
        return sum(item["events"] for item in read(self._pages("line_items", "", charge="requests")))

    def outputs(self, position: str) -> Outputs:
        """Everything, page by page, as it is once `position` is included."""
        return {listing: list(self._pages(listing, position)) for listing in LISTINGS}

    def outputs_at(self, time: str) -> Outputs:
        """Everything, once it is this time (where the door and the answers are one process)."""
        return self.outputs(self.tick(time))

    def _pages(self, listing: str, position: str, **where: str) -> Iterable[bytes]:
        parameters: dict[str, Any] = {"limit": _PAGE, **where}
        if position:
            parameters |= {"position": position, "wait_ms": _WAIT_S * 1000}
        cursor: str | None = ""
        while cursor is not None:
            page = self._get(listing.replace("_", "-"), parameters | ({"cursor": cursor} if cursor else {}))
            yield from map(bytes, msgspec.json.decode(page[listing], type=list[msgspec.Raw]))
            cursor = msgspec.json.decode(page["next_cursor"])

    def _get(self, path: str, parameters: dict[str, Any]) -> dict[str, msgspec.Raw]:
        answer = self._client.get(f"/v1/{path}", params=parameters)
        assert answer.status_code == 200, f"{answer.request.url} answered {answer.status_code}: {answer.text[:1000]}"
        return msgspec.json.decode(answer.content, type=dict[str, msgspec.Raw])


def read(records: Iterable[bytes]) -> list[dict[str, Any]]:
    """Records as objects; decimals stay texts."""
    return [msgspec.json.decode(record) for record in records]


def check_against_sql(outputs: Outputs, calculated: dict[str, list[dict[str, Any]]], ids: list[str]) -> None:
    """Line items, invoices, alerts and rejections are what SQL makes of the trace, to the last digit."""
    # Listings have the highest level of a period first; SQL has them in the order of the events.
    found = {listing: read(reversed(records)) for listing, records in outputs.items()}
    found["rejections"] = [
        {"id": one["event"]["id"], "code": one["code"], "meter": one.get("meter")} for one in found["rejections"]
    ]
    _compare(found, calculated, ids)


def check_same(found: Sequence[Any], wanted: Sequence[Any], what: str) -> None:
    """Two lists are equal, in order; an error shows what only one of them has."""
    if found == wanted:
        return
    left, right = set(map(repr, found)), set(map(repr, wanted))
    only, missing = sorted(left - right), sorted(right - left)
    raise AssertionError(
        f"{what}: {len(found)} found, {len(wanted)} expected; {len(only)} are not expected, {len(missing)} are missing"
        + "".join(f"\n  found    {one}" for one in only[:5])
        + "".join(f"\n  expected {one}" for one in missing[:5])
        + ("" if only or missing else "\n  the same in another order or number")
    )


def check_identical(found: Outputs, wanted: Outputs) -> None:
    """Byte for byte, ids, revisions and positions included. (A rejection shows the event as it came, and white space

    in it does not matter.)"""
    for listing in ("line_items", "invoices", "alerts"):
        check_same(found[listing], wanted[listing], listing)
    check_same(read(found["rejections"]), read(wanted["rejections"]), "rejections")


def check_same_but_positions(found: Outputs, wanted: Outputs) -> None:
    """All that was said but where in the log it came from; invoices and alerts byte for byte."""
    check_same(without_positions(found["line_items"]), without_positions(wanted["line_items"]), "line items")
    check_same(found["invoices"], wanted["invoices"], "invoices")
    check_same(found["alerts"], wanted["alerts"], "alerts")
    check_same(rejected(found), rejected(wanted), "rejections")


def check_same_in_any_order(found: Outputs, wanted: Outputs) -> None:
    """What holds in whatever order the events came, once all periods are closed: line items, what the invoices of

    each period sum to, the levels that were crossed, rejections."""
    check_same(without_positions(found["line_items"]), without_positions(wanted["line_items"]), "line items")
    check_same(billed(found), billed(wanted), "sums of invoices")
    check_same(_ids(found["alerts"]), _ids(wanted["alerts"]), "alerts")
    check_same(rejected(found), rejected(wanted), "rejections")


def without_positions(line_items: Iterable[bytes]) -> list[dict[str, Any]]:
    """Line items by id, without `through`."""
    items = sorted(read(line_items), key=lambda item: str(item["id"]))
    return [{key: value for key, value in item.items() if key != "through"} for item in items]


def billed(outputs: Outputs) -> list[tuple[Any, ...]]:
    """What the invoices of each customer, subscription and period sum to."""
    sums: dict[tuple[str, ...], Decimal] = {}
    for invoice in read(outputs["invoices"]):
        whose = (invoice["customer"], invoice["subscription"], invoice["period"]["start"], invoice["currency"])
        sums[whose] = sums.get(whose, Decimal(0)) + Decimal(invoice["total"])
    return sorted(sums.items())


def rejected(outputs: Outputs) -> list[tuple[Any, ...]]:
    """Each rejection by what was refused and why."""
    return sorted(
        (one["event"]["source"], one["event"]["id"], one["code"], one.get("meter"), one.get("path"), one["message"])
        for one in read(outputs["rejections"])
    )


def _ids(records: Iterable[bytes]) -> list[str]:
    return sorted(record["id"] for record in read(records))
