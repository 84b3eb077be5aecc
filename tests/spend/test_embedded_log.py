"""The view on the real embedded log: what a host commits is what questions see, across a restart of both."""

import asyncio
from contextlib import suppress
from pathlib import Path

import msgspec

from rating.spend.duckdb_store import DuckdbStore
from rating.spend.spending import spend
from rating.spend.store import Whose
from rating.spend.view import SpendView
from schemas import topics
from streams.embedded.log import SqliteLog
from streams.journal import Batch
from streams.processor import Output, Summary
from tests.spend.records import catalogue, event, line, pack

PARTITIONS = 2


async def commit(log: SqliteLog, epoch: int, start: int, amount: str) -> dict[int, int]:
    """Two events come in, and an engine that makes one line item of them."""
    events = [event(f"{start}-{n}", "2026-11-02T00:00:00Z", {"n": n}) for n in range(2)]
    end = await log.append(1, pack(events), 2)
    item = line(revision=start + 1, amount=amount)
    outputs = [Output(topics.LINE_ITEMS, item.id.encode(), msgspec.json.encode(item))]
    await asyncio.to_thread(log.commit_step, 1, Batch(epoch, start, end, Summary()), epoch, end, outputs)
    return {1: end}


async def test_a_question_sees_what_was_committed(tmp_path: Path) -> None:
    position, total = {1: 0}, ""
    for life in range(3):
        log = SqliteLog(tmp_path / "log", PARTITIONS)
        store = DuckdbStore(tmp_path / "spend.duckdb")
        view = SpendView(store, log)
        await asyncio.to_thread(log.open_epoch, 1, life + 1, "worker")
        if life == 0:
            position = await log.append_everywhere(catalogue({"m": {"event": "e", "aggregate": "count"}}))
        else:
            assert view.through()[1] == position[1]
            assert spend(store, "default", "acme", "all").currencies[0].total == total
        feed = asyncio.create_task(view.run())
        for step in range(3):
            total = f"{life}.{step + 1}"
            position = await commit(log, life + 1, position[1], total)
            await view.wait_for(position, timeout=20)
            await view.wait_for(position, timeout=20, of="usage")
            (usd,) = (await view.ask(lambda store: spend(store, "default", "acme", "current"))).currencies
            assert usd.total == total
        feed.cancel()
        with suppress(asyncio.CancelledError):
            await feed
        events = store.events(Whose("default", ("acme",)), "llm.request", None, None)
        assert events.num_rows == 6 * (life + 1)
        assert store.catalogue("default", 1) is not None
        store.close()
        log.close()
