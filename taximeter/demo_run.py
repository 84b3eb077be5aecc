"""One run of the demo's day against a door and a spend server, wherever they run: send, watch, close, check."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from taximeter.demo_bills import show_bills, show_result
from taximeter.demo_check import Expected, calculate
from taximeter.demo_compare import differences
from taximeter.demo_day import BATCH, CLOSING_TICK, DAY, DayFacts, batches, catalogue_path, subjects_of, write_day
from taximeter.demo_view import TOP, View, make_view
from taximeter.demo_watch import Queries, Seen
from taximeter.post import DoorClient, Totals, send_all
from taximeter.process import until_signalled

_CONCURRENCY = 4
_ASK_EVERY_S, _DRAW_EVERY_S = 0.4, 0.15
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """What a demo was asked for. `events_file` is where the day is written."""

    console: Console
    events_file: Path
    customers: int
    events: int
    seed: int
    plain: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where the day is sent, and who is told when half of it has been handed out."""

    door: str
    spend: str
    title: str
    at_half: Callable[[View], Awaitable[None]] | None = None
    shared: str = "Sender, door, engine, spend store and this view share this machine."
    """What stands behind the measured rate."""


def prepare(run: Run) -> DayFacts:
    """Writes the day and says what is in it. Raises: OSError."""
    facts = write_day(run.events_file, run.customers, run.events, run.seed)
    run.console.print(
        f"A day of an AI company: {facts.lines:,} events of {run.customers:,} customers on {DAY}, of which "
        f"{facts.duplicates:,} are duplicates, {facts.late:,} late, {facts.conflicts:,} conflicts and "
        f"{facts.wrong:,} wrong (seed {run.seed}).",
        highlight=False,
    )
    return facts


async def run_day(run: Run, facts: DayFacts, place: Place) -> int:
    """Sends the day, closes the month, checks every cent. Returns the exit status.

    Raises: DoorRefused, DoorUnavailable, AnswerMissing, OSError.
    """
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=2.0)
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, limits=limits, trust_env=False) as client:
        queries = Queries(client, place.spend)
        door = DoorClient(client, place.door)
        totals = Totals()
        first = customers_of(1)[0]
        with make_view(run.console, place.title, run.events, run.plain) as view:
            seconds = await _send(run, place, door, queries, totals, view)
        _say_rate(run.console, place, totals, facts, seconds)
        closed = await door.tick(CLOSING_TICK)
        await queries.reach(first, closed)
        run.console.print("The month is closed. Asking for every bill, and calculating each of them again …")
        begun = time.monotonic()
        expected = await asyncio.to_thread(_calculate, run.events_file)
        outputs = await queries.everything(sorted({customer for customer, _ in expected.bills}), closed)
    found = await asyncio.to_thread(differences, expected, outputs)
    run.console.print("The largest bills:\n")
    show_bills(run.console, outputs)
    run.console.print()
    show_result(run.console, expected, outputs, found, time.monotonic() - begun)
    return 1 if found else 0


async def _send(run: Run, place: Place, door: DoorClient, queries: Queries, totals: Totals, view: View) -> float:
    """Sends everything and waits until the queries include it. Returns the seconds that both took."""
    seen = Seen()
    top = customers_of(min(run.customers, TOP))
    half_done = place.at_half is None

    async def before(handed: int) -> None:
        nonlocal half_done
        if not half_done and (handed * 2 >= run.events or handed + BATCH >= run.events):
            half_done = True
            assert place.at_half is not None
            await place.at_half(view)

    async def ask() -> None:
        while True:
            begun = time.monotonic()
            await queries.watch(seen, top)
            # Asking takes half of the time at most, however many invoices there are by now.
            await asyncio.sleep(max(_ASK_EVERY_S, time.monotonic() - begun))

    async def draw() -> None:
        while True:
            view.show(totals, seen)
            await asyncio.sleep(_DRAW_EVERY_S)

    watching = asyncio.gather(ask(), draw())
    try:
        await send_all(batches(run.events_file, BATCH), door.take, totals, _CONCURRENCY, before)
        await queries.reach(top[0], totals.token)
        seconds = totals.seconds
        await queries.watch(seen, top, totals.token)
        view.show(totals, seen, last=True)
        return seconds
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def _say_rate(console: Console, place: Place, totals: Totals, facts: DayFacts, seconds: float) -> None:
    doubles = facts.duplicates + facts.conflicts
    under_way = doubles - totals.duplicates
    console.print(
        f"[bold]{totals.sent / seconds:,.0f} events/s[/]: {totals.sent:,} events over HTTP in {seconds:.1f} s, from "
        f"the first request until the last event stood in a bill that can be asked for. {place.shared}"
        + (f" {totals.retries:,} requests were sent again." if totals.retries else ""),
        highlight=False,
    )
    console.print(
        f"The door refused {totals.rejected:,} events and named {totals.duplicates:,} of {doubles:,} duplicates and "
        f"conflicts{f'; the other {under_way:,} came while the first was still under way' if under_way else ''}. "
        "What counts is decided by the engine.",
        highlight=False,
    )


def _calculate(file: Path) -> Expected:
    with file.open("rb") as lines:
        return calculate(catalogue_path().read_text(), lines)


def customers_of(count: int) -> list[str]:
    """The names of the largest customers."""
    return [subjects[0].partition("/")[0] for subjects in subjects_of(count)]


async def until_done_or_stopped(work: Awaitable[int], console: Console) -> int:
    """The exit status of the work; 130 where Ctrl-C or SIGTERM came first (the work is ended cleanly then)."""
    task = asyncio.ensure_future(work)
    signal = asyncio.create_task(until_signalled())
    await asyncio.wait({task, signal}, return_when=asyncio.FIRST_COMPLETED)
    signal.cancel()
    if task.done():
        return task.result()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    console.print("stopped")
    return 130
