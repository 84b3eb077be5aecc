"""The view: feeding a store, waiting for a position, asking beside it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from rating.spend.duckdb_store import DuckdbStore
from rating.spend.spending import SpendQuery, spend
from rating.spend.store import SpendStore, StoreError
from rating.spend.view import PositionNotReached, SpendView
from schemas import topics
from tests.spend.records import Log, event, line


@asynccontextmanager
async def running(view: SpendView) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(view.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def total(store: SpendStore) -> str:
    return spend(store, "default", "acme", "all").currencies[0].total


async def test_a_position_is_waited_for(store: SpendStore) -> None:
    log = Log()
    view = SpendView(store, log)
    async with running(view):
        log.append(topics.LINE_ITEMS, line(amount="1"))
        log.done(end=3)
        await view.wait_for({0: 3}, timeout=10)
        assert view.through() == {0: 3, 1: 0}
        waiting = asyncio.create_task(view.wait_for({0: 5}, timeout=10))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        log.append(topics.LINE_ITEMS, line(revision=2, amount="2"))
        log.done(end=5)
        await waiting
        assert await view.ask(total) == "2"


async def test_what_does_not_come_in_time_says_what_has_come() -> None:
    log = Log()
    view = SpendView(DuckdbStore(":memory:"), log)
    async with running(view):
        log.done(end=3, partition=1)
        await view.wait_for({1: 3}, timeout=10)
        began = time.monotonic()
        with pytest.raises(PositionNotReached) as missed:
            await view.wait_for({0: 1, 1: 3}, timeout=0.1)
        assert 0.09 < time.monotonic() - began < 2
        assert (missed.value.asked, missed.value.included) == ({0: 1, 1: 3}, {0: 0, 1: 3})
    with pytest.raises(PositionNotReached):
        await view.wait_for({0: 1}, timeout=0)
    await view.wait_for({}, timeout=0)
    await view.wait_for({1: 3}, timeout=0)


async def test_usage_is_there_before_the_engine_has_worked_it_in() -> None:
    log = Log()
    view = SpendView(DuckdbStore(":memory:"), log)
    async with running(view):
        log.events(event("a", "2026-11-02T00:00:00Z", {}), event("b", "2026-11-02T00:00:00Z", {}))
        await view.wait_for({0: 2}, timeout=10, of="usage")
        assert view.through("usage") == {0: 2, 1: 0}
        assert view.through("spend") == {0: 0, 1: 0}


async def test_a_restarted_view_knows_its_position_and_goes_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("view") / "spend.duckdb"
    log = Log()
    log.append(topics.LINE_ITEMS, line(amount="1"))
    log.done(end=3)
    store = DuckdbStore(path)
    async with running(SpendView(store, log)):
        await SpendView(store, log).wait_for({}, timeout=1)
        while not store.progress():
            await asyncio.sleep(0.01)
    store.close()
    store = DuckdbStore(path)
    view = SpendView(store, log)
    assert view.through() == {0: 3, 1: 0}
    log.append(topics.LINE_ITEMS, line(revision=2, amount="2"))
    log.done(end=4)
    async with running(view):
        await view.wait_for({0: 4}, timeout=10)
        assert await view.ask(total) == "2"


async def test_a_store_that_fails_stops_the_view() -> None:
    log = Log()
    view = SpendView(DuckdbStore(":memory:"), log)
    log.append(topics.LINE_ITEMS, b"no JSON")
    with pytest.raises(ExceptionGroup) as failed:
        await asyncio.wait_for(view.run(), timeout=10)
    assert failed.group_contains(StoreError)


async def test_questions_are_answered_while_much_is_applied(store: SpendStore) -> None:
    """Reads beside writes see whole batches in DuckDB: the sum of two lines that move against each other is nought."""
    log = Log()
    view = SpendView(store, log)
    log.append(topics.LINE_ITEMS, line("li_a", amount="1"))
    log.append(topics.LINE_ITEMS, line("li_b", amount="-1"))
    async with running(view):
        while not store.positions():
            await asyncio.sleep(0.01)
        for revision in range(2, 40):
            log.append(topics.LINE_ITEMS, line("li_a", revision, amount=str(revision)))
            log.append(topics.LINE_ITEMS, line("li_b", revision, amount=str(-revision)))
            log.done(end=revision)
            totals = await asyncio.gather(*[view.ask(total) for _ in range(3)])
            if isinstance(store, DuckdbStore):
                assert set(totals) == {"0"}
        await view.wait_for({0: 39}, timeout=20)
        assert await view.ask(total) == "0"


async def test_what_waits_is_written_in_one_go() -> None:
    log = Log()
    calls: list[int] = []

    class Counting(DuckdbStore):
        def write(self) -> None:
            before = sum(self.positions().values())
            time.sleep(0.05)
            super().write()
            calls.append(sum(self.positions().values()) - before)

    view = SpendView(Counting(":memory:"), log)
    async with running(view):
        for revision in range(1, 101):
            log.append(topics.LINE_ITEMS, line(revision=revision))
            await asyncio.sleep(0.001)
        log.done(end=100)
        await view.wait_for({0: 100}, timeout=10)
    assert sum(calls) == 101
    assert len(calls) < 20


async def test_spend_is_seen_before_the_tables_have_it() -> None:
    """What is slow to write is answered from memory, with a position of its own; the tables say theirs."""
    log = Log()
    may_write = threading.Event()

    class Slow(DuckdbStore):
        def write(self) -> None:
            may_write.wait(20)
            super().write()

    view = SpendView(Slow(":memory:"), log)
    question = SpendQuery("default", "acme", "all")
    async with running(view):
        log.append(topics.LINE_ITEMS, line(amount="1"))
        log.done(end=3)
        await view.wait_for({0: 3}, timeout=10, of="now")
        assert (view.through("now"), view.through()) == ({0: 3, 1: 0}, {0: 0, 1: 0})
        assert (await view.ask(question))["currencies"][0].total == "1"
        assert view.store.page("line_items", {}, None, 10) == []
        may_write.set()
        await view.wait_for({0: 3}, timeout=10)
        assert len(view.store.page("line_items", {}, None, 10)) == 1


async def test_what_was_seen_is_in_the_tables_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a restart would answer with less than was said before, until it has caught up."""
    monkeypatch.setattr("rating.spend.view.WRITE_S", 60)
    log, store = Log(), DuckdbStore(":memory:")
    view = SpendView(store, log)
    async with running(view):
        await view.wait_moved(0, timeout=10)  # what was left of an earlier run is written; now it pauses for a minute
        log.append(topics.LINE_ITEMS, line(amount="1"))
        log.done(end=3)
        await view.wait_for({0: 3}, timeout=10, of="now")
        assert view.through() == {0: 0, 1: 0}
    assert view.through() == {0: 3, 1: 0}
    assert len(store.page("line_items", {}, None, 10)) == 1


async def test_a_long_pause_between_writes_ends_when_somebody_waits_for_the_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rating.spend.view.WRITE_PAUSE_S", 60)
    monkeypatch.setattr("rating.spend.view.PAUSE_WRITES", 10**9)
    log = Log()
    view = SpendView(DuckdbStore(":memory:"), log)
    async with running(view):
        await view.wait_moved(0, timeout=10)  # the first write was made; now it pauses for a minute
        log.append(topics.LINE_ITEMS, line(amount="1"))
        log.done(end=3)
        await view.wait_for({0: 3}, timeout=10, of="now")
        await asyncio.sleep(0.2)
        assert view.through() == {0: 0, 1: 0}
        await view.wait_for({0: 3}, timeout=10)
        assert view.through() == {0: 3, 1: 0}


async def test_the_feed_waits_for_the_tables_where_too_much_is_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rating.spend.view.UNWRITTEN_BYTES_MAX", 2000)
    monkeypatch.setattr("rating.spend.view.TAKE_RECORDS_MAX", 1)
    log, may_write = Log(), threading.Event()

    class Slow(DuckdbStore):
        def write(self) -> None:
            may_write.wait(20)
            super().write()

    view = SpendView(Slow(":memory:"), log)
    async with running(view):
        for revision in range(1, 31):
            log.append(topics.LINE_ITEMS, line(revision=revision, amount=str(revision)))
            await asyncio.sleep(0.005)
        log.done(end=30)
        with pytest.raises(PositionNotReached):
            await view.wait_for({0: 30}, timeout=0.5, of="now")
        assert 2000 <= view.store.unwritten < 4000
        may_write.set()
        await view.wait_for({0: 30}, timeout=20)
        assert await view.ask(total) == "30"
