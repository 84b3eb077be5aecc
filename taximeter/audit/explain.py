"""`taximeter explain`: how one line item came about, down to the single events."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.numbers import format_scaled
from schemas.times import format_time, parse_time
from taximeter.audit.command import FAILURES, open_source
from taximeter.audit.found import Output
from taximeter.audit.lines import LineKey
from taximeter.audit.run import Audit
from taximeter.process import complain, say
from taximeter.text import heading, number, paragraph, plural, table

COUNTED, VOIDED, DUPLICATE = "counted", "taken back", "duplicate"


@dataclass(frozen=True)
class Behind:
    """One event behind a line. `note`: whether it counted, and why not."""

    source: str
    id: str
    time: str
    value: str
    offset: int
    counts: str
    note: str = ""


@dataclass
class Explanation:
    """A line item as the engine wrote it, as the archive has it, and the events behind it."""

    item: Output
    charge: dict[str, Any]
    meter: dict[str, Any]
    expected: Output | None
    carried: bool
    events: list[Behind]


async def explain(*, line_item: str, limit: int, page: int, json: bool, width: int, **options: Any) -> int:
    """Returns 0, 1 where it could not be done, 2 for bad arguments and a line item that is not there."""
    source, status = await open_source("explain", **options)
    if source is None:
        return status
    try:
        item = source.found.line_items.get(line_item)
        opened = None if item is None else await source.open(item["tenant"])
        found = None if opened is None else await asyncio.to_thread(explain_line, opened, line_item)
    except FAILURES as error:
        complain(f"taximeter explain: {error}")
        return 1
    if found is None:
        complain(f"taximeter explain: found no line item {line_item!r}, expected an id such as li_0123…")
        return 2
    say(as_json(found) if json else "\n".join(as_text(found, limit, page, width)))
    return 0


def explain_line(audit: Audit, id: str) -> Explanation | None:
    """Everything behind a line item; None where there is none of that id."""
    item = audit.found.line_items.get(id)
    if item is None:
        return None
    start = parse_time(item["period"]["start"])
    bills = [
        bill
        for bill in audit.bills.bills.values()
        if (bill.customer, bill.subscription) == (item["customer"], item["subscription"])
        and bill.period.start <= start < bill.period.end
    ]
    expected: Output | None = None
    charge: dict[str, Any] = {}
    meter: dict[str, Any] = {}
    carried = False
    for bill in bills:
        look = audit.bills.look(bill, audit.bills.ends[bill.partition])
        if look is None:
            continue
        segments = audit.bills.agreement_of(look).segments(look.period)
        at = next((at for at, segment in enumerate(segments) if segment.start == start), None)
        if at is None or item["charge"] not in segments[at].plan.charges:
            continue
        charge = segments[at].plan.charges[item["charge"]]
        carried = bool(audit.bills.agreement_of(look).carried(segments, at, item["charge"]))
        meter = audit.history.books[look.book].meters.get(item["meter"] or "", {})
        key = LineKey(start, item["charge"], tuple(item["dimensions"].values()))
        line = audit.ledger.work_out([look]).found[look.number].get(key)
        expected = None if line is None else audit.line_item(look, key, line)
    return Explanation(item, charge, meter, expected, carried, _events(audit, item))


def _events(audit: Audit, item: Output) -> list[Behind]:
    if item["meter"] is None:
        return []
    places = audit.dimension_places(item)
    wheres = " ".join(f"AND p.dims[{at}] IS NOT DISTINCT FROM ?" for at, _ in places)
    rows = audit.connection.execute(
        f"""WITH behind AS (
            SELECT DISTINCT p.partition, p.seq, p.time, p.value, p.name, p.void_seq FROM placed p
            WHERE p.customer = ? AND p.subscription = ? AND p.meter = ? AND p.seg = epoch_us(?::TIMESTAMPTZ) {wheres})
        SELECT e.source, e.id, b.time, b.value, b.name, e."offset", v.void_source, v.void_id, 0 AS again,
            b.void_seq, e.seq
        FROM behind b JOIN events e USING (partition, seq)
        LEFT JOIN voids v ON b.void_seq IS NOT NULL AND v.customer = e.customer AND v.source = e.source AND v.id = e.id
        UNION ALL
        SELECT d.source, d.id, d.time, b.value, b.name, d."offset", NULL, NULL, 1, NULL, d.seq
        FROM behind b JOIN events e USING (partition, seq)
        JOIN events d ON d.partition = e.partition AND d.customer = e.customer AND d.source = e.source AND d.id = e.id
            AND NOT d.fresh AND d.seq > e.seq
        ORDER BY time, seq""",
        [item["customer"], item["subscription"], item["meter"], item["period"]["start"], *(v for _, v in places)],
    ).fetchall()
    found = []
    for source, id, time, value, name, offset, void_source, void_id, again, void_seq, _ in rows:
        shown = name if value is None else format_scaled(value)
        counts = DUPLICATE if again else COUNTED if void_seq is None else VOIDED
        note = f"by {void_source} {void_id}" if counts == VOIDED else ""
        found.append(Behind(source, id, format_time(time), shown or "", offset, counts, note))
    return found


# As a person reads it ------------------------------------------------------------------------------------------------


def as_text(found: Explanation, limit: int, page: int, width: int) -> Iterator[str]:
    """The line, what it was rated by, its tiers and a page of its events."""
    item = found.item
    dimensions = " · ".join(
        f"{name} {value if value is not None else '(none)'}" for name, value in item["dimensions"].items()
    )
    yield from heading(f"{item['charge']}{'  ' + dimensions if dimensions else ''}", f"in {item['currency']}", width)
    rows = [
        ["line item", f"{item['id']}, revision {item['revision']}"],
        ["customer", f"{item['customer']}, subscription {item['subscription']}"],
        ["period", f"{item['period']['start']} to {item['period']['end']}"],
        ["price book", f"{item['price_book']}, version {item['price_version']}"],
        ["usage", _usage(found)],
        ["quantity", number(item["quantity"])],
        ["amount", number(item["amount"])],
        ["by the archive", _checked(found)],
    ]
    yield from table(["", ""], rows, ["left", "left"], width=width, gap=2)
    if found.carried:
        yield from paragraph(
            "Units of earlier segments of the period stay used: the line is the price of all, less theirs.", 0, width
        )
    if item["tiers"]:
        yield ""
        yield from _tiers(item["tiers"], width)
    if item["meter"] is not None:
        yield ""
        yield from _page(found.events, limit, page, width)


def _usage(found: Explanation) -> str:
    meter = found.meter
    if not meter:
        return "none: asked for the period itself"
    value = f" of {meter['value']}" if meter.get("value") else ""
    return f"{found.item['meter']}: {meter['aggregate']}{value} over {meter['event']}"


def _checked(found: Explanation) -> str:
    if found.expected is None:
        return "nothing: the audit finds no such line"
    same = all(found.expected[name] == found.item[name] for name in ("quantity", "amount", "events"))
    if same:
        return "the same"
    return (
        f"quantity {number(found.expected['quantity'])}, amount {number(found.expected['amount'])}: see taximeter audit"
    )


def _tiers(tiers: Sequence[Output], width: int) -> Iterator[str]:
    rows = []
    for tier in tiers:
        count, price = (
            (tier.get("packages"), tier["unit_amount"])
            if tier.get("packages")
            else (tier["quantity"], tier["unit_amount"])
        )
        flat = f" + {number(tier['flat_amount'])}" if tier["flat_amount"] != "0" else ""
        channel = tier.get("channel")
        step = channel in ("discount", "maximum", "minimum", "earlier")
        upto = f" to {number(tier['up_to'])}" if tier.get("up_to") else " and above"
        name = str(channel) if step else f"{number(tier['from'])}{upto}" + (f", {channel}" if channel else "")
        name += "" if tier.get("cell") is None else f", cell {tier['cell']}"
        sums = "" if step else f"{number(str(count))} × {number(price)}{flat}"
        rows.append([name, sums, number(tier["amount"])])
    yield from table(["tier", "", "amount"], rows, ["left", "left", "number"], width=width, gap=2)


def _page(events: Sequence[Behind], limit: int, page: int, width: int) -> Iterator[str]:
    counted = sum(one.counts == COUNTED for one in events)
    rest = [f"{plural(sum(one.counts == why for one in events), why)}" for why in (DUPLICATE,)]
    voided = sum(one.counts == VOIDED for one in events)
    yield f"{plural(counted, 'event')} counted, {number(voided)} taken back, {rest[0]}"
    shown = events[(page - 1) * limit : page * limit]
    rows = [
        [
            one.time,
            one.source,
            one.id,
            number(one.value) if _is_number(one.value) else one.value,
            f"{one.counts} {one.note}".strip(),
        ]
        for one in shown
    ]
    if rows:
        yield from table(
            ["time", "source", "id", "value", ""], rows, ["left", "left", "left", "number", "left"], width=width, gap=2
        )
    pages = -(-len(events) // limit)
    if pages > 1:
        yield (
            f"page {page} of {number(pages)}; --page {page + 1} shows the next"
            if page < pages
            else f"page {page} of {number(pages)}"
        )


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()


def as_json(found: Explanation) -> str:
    """The whole explanation as one JSON object."""
    whole = {
        "line_item": found.item,
        "charge": found.charge,
        "meter": found.meter,
        "computed_again": found.expected,
        "carried": found.carried,
        "events": [
            {
                "source": one.source,
                "id": one.id,
                "time": one.time,
                "value": one.value,
                "offset": one.offset,
                "counts": one.counts,
                "note": one.note,
            }
            for one in found.events
        ],
    }
    return msgspec.json.encode(whole).decode()
