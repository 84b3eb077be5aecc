"""Re-rating from outside: what is asked is checked, shown before it is applied, and appended to the customer's log.

The difference is found by an engine of its own, fed from the newest snapshot and the log's entries since: so what is
shown is what the entry would do if it stood next in the log. Nothing is written until it is applied.
"""

import shutil
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import msgspec

from rating.engine import RatingEngine, RatingProcessor, RatingSettings
from rating.rerate import Preview, preview
from schemas import topics
from schemas.access import DEFAULT_TENANT
from schemas.entry import Rerate
from schemas.identity import partition_of
from schemas.limits import EVENT_TEXT_LENGTH_MAX
from schemas.numbers import format_scaled, parse_scaled
from schemas.output import Invoice, LineItem
from schemas.times import TimeError, format_time, parse_time
from streams.durable import make_folder
from streams.embedded.log import SqliteLog
from streams.snapshots import SnapshotStore

_ENTRIES_MAX: Final = 4096
_EVENTS_MAX: Final = 100_000
_BYTES_MAX: Final = 32 * 1024 * 1024
PREVIEW: Final = "preview-"


class RerateRefused(ValueError):
    """It cannot be done as asked: one text for each reason."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class RerateRequest(msgspec.Struct, forbid_unknown_fields=True, rename={"since": "from", "until": "to"}):
    """What a client asks for; see `schemas.entry.Rerate`. Without `dry_run: false` it is only shown."""

    customer: str
    since: str
    until: str | None = None
    price_book: str | None = None
    reason: str = ""
    id: str = ""
    dry_run: bool = True


def check_request(asked: RerateRequest, tenant: str = DEFAULT_TENANT) -> Rerate:
    """The entry that is asked for, of a customer of this tenant. Raises: RerateRefused."""
    faults: list[str] = []
    times: list[int | None] = []
    for name, text in (("from", asked.since), ("to", asked.until)):
        try:
            times.append(None if text is None else parse_time(text))
        except TimeError as error:
            faults.append(f"{name}: {error}")
            times.append(None)
    since, until = times
    if since is not None and until is not None and until <= since:
        faults.append(f"to: found {asked.until}, expected a time after {asked.since}")
    for name in ("customer", "reason", "id"):
        if len(getattr(asked, name)) > EVENT_TEXT_LENGTH_MAX:
            faults.append(
                f"{name}: found {len(getattr(asked, name))} characters, expected at most {EVENT_TEXT_LENGTH_MAX}"
            )
    if faults:
        raise RerateRefused(faults)
    return Rerate(
        customer=asked.customer,
        since=format_time(since or 0),
        until=None if until is None else format_time(until),
        price_book=asked.price_book,
        id=asked.id or f"rr_{uuid4().hex}",
        reason=asked.reason,
        tenant=tenant,
    )


def partition_for(asked: Rerate, partitions: int) -> int:
    """Where the customer's usage is."""
    return partition_of(asked.tenant, asked.customer, partitions)


def show(log: SqliteLog, snapshots: SnapshotStore, settings: RatingSettings, asked: Rerate) -> Preview:
    """What the entry would do next. Raises: RerateRefused; LogError, SnapshotError, OSError."""
    if settings.folder is not None:
        make_folder(settings.folder)
    with (
        TemporaryDirectory(prefix=PREVIEW, dir=settings.folder) as folder,
        closing(RatingProcessor(replace(settings, folder=Path(folder)))) as processor,
    ):
        engine = _engine_at_end(log, snapshots, processor, partition_for(asked, log.partitions))
        found = preview(engine.tenants.of(asked.tenant), asked)
    if found.rerated.refused:
        raise RerateRefused(found.rerated.refused)
    if not found.rerated.heads:
        until = "" if asked.until is None else f" and before {asked.until}"
        raise RerateRefused([f"from: no billing period of {asked.customer} begins at or after {asked.since}{until}"])
    return found


def clear_previews(folder: Path) -> None:
    """Removes what previews, and looks at the status, of a process that was killed have left in a folder of states."""
    for left in folder.glob(f"{PREVIEW}*"):
        shutil.rmtree(left, ignore_errors=True)


def _engine_at_end(
    log: SqliteLog, snapshots: SnapshotStore, processor: RatingProcessor, partition: int
) -> RatingEngine:
    """An engine of one's own that has seen everything in the partition."""
    snapshot = snapshots.load(processor.name, partition)
    engine = processor.open(
        partition, None if snapshot is None else snapshot.state, partial(snapshots.fetch, processor.name, partition)
    )
    assert isinstance(engine, RatingEngine)
    position = 0 if snapshot is None else snapshot.position
    end = log.end(topics.EVENTS, partition)
    while position < end:
        entries = log.read_entries(
            partition, position, entries_max=_ENTRIES_MAX, events_max=_EVENTS_MAX, bytes_max=_BYTES_MAX
        )
        engine.process(entries)
        position = entries[-1].end
    return engine


# What is shown -------------------------------------------------------------------------------------------------------


class RerateLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line item before and after. Where it stays as it is although it should not, `left` says why."""

    line_item: str
    subscription: str
    period: dict[str, str]
    charge: str
    dimensions: dict[str, str | None]
    currency: str
    quantity: str
    before: str
    after: str
    difference: str
    left: str | None = None


class RerateAnswer(msgspec.Struct, kw_only=True, omit_defaults=True, rename={"since": "from", "until": "to"}):
    """What a re-rating comes to. `lines` are those that differ, and those that are left; `unchanged` counts the rest.
    `invoices` are those that it makes at once. `position` is the one after it, once it is applied."""

    dry_run: bool
    id: str | None = None
    customer: str
    since: str
    until: str | None = None
    price_book: str | None = None
    reason: str = ""
    periods: int
    lines: list[RerateLine]
    unchanged: int
    totals: list[dict[str, str]]
    invoices: list[Invoice]
    position: str | None = None


def answer_of(asked: Rerate, found: Preview, position: str | None = None) -> RerateAnswer:
    """The answer to a re-rating that was shown or, with its position, applied."""
    left = {item.id: why for item, why in found.left}
    both = found.before | found.after
    ids = sorted(both, key=lambda id: _order(both[id]))
    lines = [_line(found.before.get(id), found.after.get(id), left.get(id)) for id in ids]
    shown = [line for line in lines if line.difference != "0" or line.left is not None]
    totals: dict[str, list[int]] = {}
    for line in lines:
        sums = totals.setdefault(line.currency, [0, 0])
        sums[0] += parse_scaled(line.before)
        sums[1] += parse_scaled(line.after)
    return RerateAnswer(
        dry_run=position is None,
        id=None if position is None else asked.id,
        customer=asked.customer,
        since=asked.since,
        until=asked.until,
        price_book=asked.price_book,
        reason=asked.reason,
        periods=len(found.rerated.heads),
        lines=shown,
        unchanged=len(lines) - len(shown),
        totals=[{"currency": currency, **_change(*sums)} for currency, sums in sorted(totals.items())],
        invoices=found.invoices,
        position=position,
    )


def _line(before: LineItem | None, after: LineItem | None, left: str | None) -> RerateLine:
    item = after or before
    assert item is not None
    amounts = [0 if one is None else parse_scaled(one.amount) for one in (before, after)]
    return RerateLine(
        line_item=item.id,
        subscription=item.subscription,
        period={"start": item.period.start, "end": item.period.end},
        charge=item.charge,
        dimensions=item.dimensions,
        currency=item.currency,
        quantity=item.quantity,
        left=left,
        **_change(*amounts),
    )


def _change(before: int, after: int) -> dict[str, str]:
    amounts = {"before": before, "after": after, "difference": after - before}
    return {name: format_scaled(amount) for name, amount in amounts.items()}


def _order(item: LineItem) -> tuple[Any, ...]:
    dimensions = [(value is not None, value or "") for value in item.dimensions.values()]
    return item.period.start, item.subscription, item.charge, dimensions
