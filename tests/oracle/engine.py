"""The one place of these tests that touches the engine: runs it, and brings what it wrote into the oracle's form."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from tests.oracle.calendars import moment
from tests.oracle.oracle import Tick
from tests.oracle.reading import Num, number, show

BATCH = 1000
SUMS = ("subtotal", "minimum", "discounts", "credits", "taxes", "total")
SHARES = ("discount", "credit", "tax")
LISTS = ("applied_coupons", "applied_credits", "tax_lines")
Outputs = dict[str, list[dict[str, Any]]]


def as_bytes(events: Iterable[Any]) -> list[bytes]:
    """CloudEvents as JSON texts in bytes; texts keep every digit that they were written with."""
    texts = (json.dumps(event) if isinstance(event, dict) else event for event in events)
    return [text.encode() if isinstance(text, str) else bytes(text) for text in texts]


def rate_raw(
    catalogue_text: str,
    inputs: Sequence[Any],
    as_of: str | None = None,
    batch: int = BATCH,
    restart: Callable[[], bool] | None = None,
    worker: Any = None,
    **changes: Any,
) -> Any:
    """What the engine itself answers to events and ticks, `batch` events at once. `restart` is asked after each batch
    and tick whether the engine shall go on from its snapshot. `worker`: who writes what goes to disk; `changes`: of the
    settings. This is the only import of the engine."""
    from rating.catalogue import load_catalogue
    from rating.engine import RatingProcessor, RatingSettings
    from schemas.entry import encode_tick
    from taximeter.rate_file import FileRater

    class Rater(FileRater):
        """A file with ticks in it, whose periods can be corrected for ever."""

        processor = RatingProcessor(
            RatingSettings(**{"partitions": 1, "lateness": 0, "window_days": None, "corrections": 2**60, **changes}),
            worker=worker,
        )

        def go_on(self) -> None:
            if restart is not None and restart():
                self._engine = self.processor.open(0, self._engine.snapshot())

        def tick(self, time: int) -> None:
            self._process(encode_tick(time), 1)
            self._lines.append(0)

    rater = Rater(load_catalogue(catalogue_text))
    rater._engine = rater.processor.open(0, rater._engine.snapshot())
    waiting: list[Any] = []

    def add() -> None:
        if waiting:
            texts = as_bytes([one for _, one in waiting])
            rater.add(texts, [at for at, _ in waiting])
            waiting.clear()
            rater.go_on()

    for at, one in enumerate(inputs, 1):
        if isinstance(one, Tick):
            add()
            rater.tick(moment(one.time))
            rater.go_on()
        else:
            waiting.append((at, one))
            if len(waiting) >= batch:
                add()
    add()
    return rater.finish(None if as_of is None else moment(as_of))


def run_engine(
    catalogue_text: str,
    inputs: Sequence[Any],
    as_of: str | None = None,
    batch: int = BATCH,
    restart: Callable[[], bool] | None = None,
    worker: Any = None,
    **changes: Any,
) -> Outputs:
    """The engine's outputs in the form of `oracle.rate`."""
    rated = rate_raw(catalogue_text, inputs, as_of, batch, restart, worker, **changes)
    items = [msgspec.to_builtins(item) for item in rated.line_items]
    return {
        # A revision with neither quantity nor amount only takes an earlier one back (`schemas.output.LineItem`).
        "line_items": [i for i in items if number(i["quantity"]) or number(i["amount"])],
        "invoices": [msgspec.to_builtins(invoice) for invoice in rated.invoices],
        "alerts": [msgspec.to_builtins(alert) for alert in rated.alerts],
        "rejections": [_rejection(json.loads(msgspec.json.encode(rejection))) for rejection in rated.rejections],
    }


def _rejection(rejection: dict[str, Any]) -> dict[str, Any]:
    event = rejection["event"]
    if isinstance(event, str | bytes):
        event = json.loads(event)
    return {"source": event["source"], "id": event["id"], "code": rejection["code"], "meter": rejection.get("meter")}


def canonical(outputs: Outputs) -> dict[str, Any]:
    """Outputs by what they mean, so that two of them can be compared: ids, revisions and texts for people left out.

    Line items are keyed by their meaning; the invoices and alerts of a subscription's period keep their order, and the
    lines of an invoice theirs; the rejections do not."""
    invoices: dict[str, list[Any]] = {}
    for invoice in outputs["invoices"]:
        lines = list(map(_invoice_line, invoice["lines"]))
        money = {key: _amount(invoice[key]) for key in SUMS} | {key: invoice.get(key) or [] for key in LISTS}
        entry = {"kind": invoice["kind"], "because": _because(invoice.get("because")), "lines": lines, **money}
        invoices.setdefault(_whose(invoice), []).append(entry)
    alerts: dict[str, list[Any]] = {}
    for alert in outputs["alerts"]:
        spend = alert["spend"] and _amount(alert["spend"])
        alerts.setdefault(_whose(alert), []).append(
            {"kind": alert["kind"], "grant": alert.get("grant"), "spend": spend, **_because(alert["because"])}
        )
    line_items = {}
    for item in outputs["line_items"]:
        key = f"{_whose(item)} {item['charge']} {_dims(item)}"
        assert key not in line_items, f"two line items mean the same: {key}"
        line_items[key] = {"quantity": _amount(item["quantity"]), "amount": _amount(item["amount"])} | {
            word: item[word]
            for word in ("events", "first_event", "last_event", "meter", "price_book", "price_version", "currency")
        }
    rejections = sorted((r["source"], r["id"], r["meter"] or "", r["code"]) for r in outputs["rejections"])
    return {"line_items": line_items, "invoices": invoices, "alerts": alerts, "rejections": rejections}


def differences(found: Outputs, expected: Outputs) -> list[str]:
    """Every difference between two outputs, one line each: what it is, what was found, what was expected."""
    left, right = canonical(found), canonical(expected)
    lines = []
    for part in ("line_items", "invoices", "alerts"):
        for key in sorted(left[part].keys() | right[part].keys()):
            one, other = left[part].get(key), right[part].get(key)
            if one != other:
                lines.append(f"{part} {key}\n    found    {one}\n    expected {other}")
    if left["rejections"] != right["rejections"]:
        lines.append(f"rejections\n    found    {left['rejections']}\n    expected {right['rejections']}")
    return lines


def _invoice_line(line: dict[str, Any]) -> tuple[str, ...]:
    # What quantity a true-up has, nothing says.
    quantity = "" if line["charge"] in ("minimum", "overage") else _amount(line["quantity"])
    return line["charge"], _dims(line), quantity, *(_amount(line[word]) for word in ("amount", *SHARES))


def _whose(output: dict[str, Any]) -> str:
    period = output["period"]
    return f"{output['customer']} {output['subscription']} {output['currency']} {period['start']}..{period['end']}"


def _dims(output: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(output["dimensions"].items()))


def _because(because: dict[str, Any] | None) -> dict[str, Any]:
    if because is None:
        return {}
    event = because.get("event")
    named = {"source": event["source"], "id": event["id"]} if event else None
    numbers = ("threshold", "level", "budget", "share", "balance")
    figures = {word: _amount(because[word]) for word in numbers if because.get(word) is not None}
    return figures | {"event": named, "tick": because.get("tick")}


def _amount(text: str) -> str:
    """A decimal as it is written; anything but the shortest plain text is a fault."""
    found = number(Num(text))
    assert found is not None and show(found) == text, f"{text!r} is no decimal in its shortest plain form"
    return text
