"""One customer's documents and usage, and what the engine makes of them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec

from rating.catalogue import load_catalogue
from taximeter.rate_file import BATCH, FileRater
from tests.oracle.calendars import iso, moment
from tests.oracle.reading import show

START = "2026-01-01T00:00:00Z"
MINUTE = 60_000_000
DAY = 24 * 60 * MINUTE

_MARK = 10**9
"""The spend at which an invoice is made, far above what any case comes to."""

Row = dict[str, Any]


class Tick(NamedTuple):
    """Time has come this far: it stands among the events, and closes what has ended."""

    time: str


class Invoice(NamedTuple):
    """An invoice without the mark that brought it about."""

    row: Row

    @property
    def lines(self) -> list[Row]:
        """Its lines, the true-up of a commitment among them."""
        return [line for line in self.row.get("lines", ()) if line["charge"] != "mark"]

    def line(self, charge: str, figure: str = "amount") -> Fraction:
        """What its lines of one charge say together."""
        return sum((Fraction(line[figure]) for line in self.lines if line["charge"] == charge), Fraction(0))

    @property
    def net(self) -> Fraction:
        """What its lines ask, after what was taken off them."""
        return sum((Fraction(line["amount"]) - Fraction(line["discount"]) for line in self.lines), Fraction(0))

    def figure(self, name: str) -> Fraction:
        """`total`, `discounts`, `credits`, `taxes`, `minimum`, ..."""
        return Fraction(self.row.get(name, 0))


class Rated(NamedTuple):
    """What the engine wrote: line items by start, charge and dimensions; invoices as they were made."""

    items: list[Row]
    invoices: list[Row]
    rejections: list[Row]

    def amount(self, charge: str | None = None) -> Fraction:
        """What the line items (of one charge) come to."""
        return sum((Fraction(item["amount"]) for item in self.of(charge)), Fraction(0))

    def of(self, charge: str | None = None) -> list[Row]:
        """The line items of one charge, or of all but the mark."""
        return [item for item in self.items if item["charge"] != "mark" and charge in (None, item["charge"])]

    @property
    def bills(self) -> list[Invoice]:
        """The invoices that `Agreement.bill` brought about, in order."""
        return [Invoice(row) for row in self.invoices if row["kind"] == "threshold"]

    @property
    def closing(self) -> Invoice:
        """The invoice of the first period's end (without anything where nothing was due)."""
        return Invoice(next((row for row in self.invoices if row["kind"] == "period"), {}))

    @property
    def all(self) -> list[Invoice]:
        """Every invoice."""
        return [Invoice(row) for row in self.invoices]


@dataclass
class Agreement:
    """A catalogue with one customer, one price book and one subscription, and the customer's usage.

    Invoices inside a period are made by thresholds. So that a case may have one at any moment, `bill` buys a thing that
    costs a multiple of a threshold and gives it back at once: what is left are the invoice and the other charges.
    """

    currency: str = "USD"
    start: str = START
    charges: dict[str, Row] = field(default_factory=dict)
    meters: dict[str, Row] = field(default_factory=dict)
    book: Row = field(default_factory=dict)
    customer: Row = field(default_factory=dict)
    terms: Row = field(default_factory=dict)
    default: bool = False
    """Whether the terms are those of a default subscription, whose first period is the one that holds an event."""
    events: list[str | Tick] = field(default_factory=list)
    marks: int = 0

    def use(self, value: str | Fraction = "1", time: str | None = None, type: str = "use", **data: Any) -> str:
        """One event, a minute after the one before where no time is given. Returns its id."""
        name = f"e{len(self.events)}"
        at = time or iso(moment(self.start) + len(self.events) * MINUTE)
        members = {"value": _json(value)} | {key: _json(one) for key, one in data.items()}
        self.send(name, at, type, "{" + ", ".join(f'"{key}": {one}' for key, one in members.items()) + "}")
        return name

    def send(self, name: str, time: str, type: str, data: str) -> None:
        """One event as it is."""
        envelope = {"specversion": "1.0", "id": name, "source": "cases", "type": type, "subject": "acme", "time": time}
        self.events.append(json.dumps(envelope)[:-1] + f', "data": {data}}}')

    def bill(self) -> None:
        """An invoice of what has come to be due, now."""
        self.marks += 1
        self.meters["mark"] = {"event": "mark", "aggregate": "sum", "value": "$.value"}
        self.charges["mark"] = {"meter": "mark", "price": {"model": "unit", "unit_amount": str(_MARK)}}
        self.book["thresholds"] = [{"spend": str(_MARK), "repeat": True}]
        self.use(str(self.marks), type="mark")
        self.use(str(-self.marks), type="mark")

    def catalogue(self) -> str:
        """The documents as JSON."""
        terms = {"price_book": "book", **self.terms}
        subscription = {"customer": "acme", "start": self.start, **terms}
        subscriptions = {"default_subscription": terms} if self.default else {"subscriptions": {"acme": subscription}}
        return json.dumps(
            {
                "meters": self.meters,
                "price_books": {"book": {"currency": self.currency, "charges": self.charges, **self.book}},
                "customers": {"acme": self.customer},
                **subscriptions,
            }
        )

    def tick(self, time: str) -> None:
        """Time comes this far before the next event."""
        self.events.append(Tick(time))

    def rate(self, as_of: str | None = "2026-02-01T00:00:00Z") -> Rated:
        """Through the engine, once in pieces as large as can be and once event by event, which must say the same."""
        inputs = [*self.events, *([] if as_of is None else [Tick(as_of)])]
        found, again = self._rate(inputs, BATCH), self._rate(inputs, 1)
        assert again.invoices == found.invoices
        assert [_meaning(item) for item in again.items] == [_meaning(item) for item in found.items]
        return found

    def _rate(self, inputs: list[str | Tick], batch: int) -> Rated:
        rater, number = FileRater(load_catalogue(self.catalogue())), 0
        waiting: list[bytes] = []
        for one in [*inputs, None]:
            if isinstance(one, str):
                waiting.append(one.encode())
            if waiting and (len(waiting) == batch or not isinstance(one, str)):
                rater.add(waiting, list(range(number + 1, number + len(waiting) + 1)))
                number, waiting = number + len(waiting), []
            if isinstance(one, Tick):
                rater.finish(moment(one.time))
        rated = rater.finish(None)
        return Rated(_rows(rated.line_items), _rows(rated.invoices), _rows(rated.rejections))


def _rows(outputs: Sequence[Any]) -> list[Row]:
    return [json.loads(msgspec.json.encode(output)) for output in outputs]


def _meaning(item: Row) -> Row:
    """A line item without how often it was written."""
    return {key: value for key, value in item.items() if key not in ("revision", "through")}


def _json(value: Any) -> str:
    """A number is taken letter by letter; anything else as it is."""
    text = show(value) if isinstance(value, Fraction) else value
    return text if isinstance(text, str) and re.fullmatch(r"-?\d+(\.\d+)?", text) else json.dumps(text)
