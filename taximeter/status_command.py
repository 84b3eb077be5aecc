"""`taximeter status`: how far every partition is, and whether its figures agree."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import httpx
import msgspec

from rating.spend.store import StoreError
from streams.embedded.folder import LogError
from streams.journal import JournalError
from streams.log import LogUnavailable
from streams.snapshots import SnapshotError
from taximeter.client.courier import authorization
from taximeter.options import kafka_settings
from taximeter.process import complain, say
from taximeter.status import PartitionStatus, SpendStatus, Status, findings
from taximeter.status_data import data_status
from taximeter.status_http import STATUS_PATH
from taximeter.status_kafka import kafka_status
from taximeter.text import paragraph, table

_TIMEOUT_S: Final = 30.0
_HEADER: Final = ("partition", "position", "end", "lag", "behind", "epoch", "writer", "snapshot", "reconciled")
_YES, _NO = "✓", "✗"


async def status(
    *,
    url: str | None,
    data: Path | None,
    bootstrap: str | None,
    partitions: int | None,
    prefix: str,
    security: Sequence[str],
    group: str,
    whole_journal: bool,
    json: bool,
    width: int,
) -> int:
    """Returns 0 where everything agrees, 1 where it does not or nobody could be asked, 2 for bad arguments."""
    if url is not None or data is not None:
        bootstrap = None  # of the environment, perhaps
    if sum(one is not None for one in (url, data, bootstrap)) != 1:
        complain("taximeter status: give one of --url, --data (a folder that no server holds) and --bootstrap")
        return 2
    try:
        if url is not None:
            found = await _ask(url)
        elif data is not None:
            found = data_status(data, partitions or 1)
        else:
            settings = kafka_settings(bootstrap or "", partitions or 4, prefix, 1, security)
            found = await kafka_status(settings, group, whole_journal)
    except ValueError as error:
        complain(f"taximeter status: {error}")
        return 2
    except (JournalError, LogError, LogUnavailable, SnapshotError, StoreError, httpx.HTTPError, OSError) as error:
        complain(f"taximeter status: {str(error) or type(error).__name__}")
        return 1
    say(msgspec.json.encode(found).decode() if json else "\n".join(explain(found, width)))
    return 0 if found.reconciled else 1


async def _ask(url: str) -> Status:
    """Raises: httpx.HTTPError, ValueError where what answers is no Taximeter."""
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, headers=authorization()) as client:
        answer = (await client.get(url.rstrip("/") + STATUS_PATH)).raise_for_status()
    try:
        return msgspec.json.decode(answer.content, type=Status)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{url}: found no status, expected that of a Taximeter process: {error}") from None


def explain(status: Status, width: int) -> Iterator[str]:
    """The lines of the answer for people."""
    yield f"Taximeter {status.version}, {status.host}" + (", ready" if status.ready else "")
    yield ""
    rows = [_row(one) for one in status.partitions]
    # Words and numbers stand left: a writer's name would be cut in two by the width of a terminal.
    yield from table(_HEADER, rows, ("number",) * 6 + ("left",) * 3, width=max(width, 120))
    yield ""
    for one in status.partitions:
        if one.totals is not None:
            mark = _YES if one.reconciled else _NO
            yield from paragraph(f"partition {one.partition}: {one.equation} {mark}", 0, width, hang=4)
    if status.spend is not None:
        yield from paragraph(_spend(status.spend), 0, width, hang=4)
    for text in (*status.stalls, *status.notes):
        yield from paragraph(text, 0, width, hang=4)
    yield ""
    wrong = findings(status)
    for finding in wrong:
        yield from paragraph(f"{_NO} {finding}", 0, width, hang=4)
    yield f"{_YES} everything agrees" if status.reconciled else f"{_NO} it does not reconcile"


def _row(one: PartitionStatus) -> tuple[str, ...]:
    return (
        str(one.partition),
        f"{one.position:,}",
        f"{one.end:,}",
        f"{one.lag:,}",
        "" if one.lag_seconds is None else f"{one.lag_seconds:.1f} s",
        "" if one.epoch is None else str(one.epoch),
        one.writer or "",
        _snapshot(one),
        _YES if one.reconciled else _NO,
    )


def _snapshot(one: PartitionStatus) -> str:
    if one.snapshot is None:
        return "none"
    age = "" if one.snapshot.age_seconds is None else f", {one.snapshot.age_seconds:.0f} s ago"
    failed = f", {one.snapshot.failed} failed" if one.snapshot.failed else ""
    return f"{one.snapshot.position:,}{age}{failed}"


def _spend(spend: SpendStatus) -> str:
    through = ", ".join(f"{partition}:{position}" for partition, position in sorted(spend.through.items()))
    if spend.checked_seconds_ago is None:
        return f"spend store: through {through}; not compared yet"
    what = "events and amounts" if spend.amounts_compared else "events"
    compared = f"{what} compared {spend.checked_seconds_ago:.0f} s ago"
    return f"spend store: through {through}; {compared} {_NO if spend.differences else _YES}"
