"""A spend store without room waits for it, answers with what it has, and goes on by itself."""

import asyncio
import logging
import resource
from pathlib import Path

import pytest

from rating.spend.duckdb_store import DuckdbStore, open_or_rebuild
from rating.spend.store import StoreDamaged, StoreError
from rating.spend.view import PositionNotReached, SpendView
from schemas.entry import encode_tick
from streams.embedded.log import SqliteLog


async def test_a_store_without_room_waits_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = SqliteLog(tmp_path / "log", 1)
    store = DuckdbStore(tmp_path / "spend.duckdb")
    view = SpendView(store, log)
    feed = asyncio.create_task(view.run())
    first = log.append_blocking(0, encode_tick(1_000_000), 0)
    await view.wait_for({0: first}, 20, of="usage")
    end = log.append_blocking(0, encode_tick(2_000_000), 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    wal = tmp_path / "spend.duckdb.wal"
    feed.cancel()
    await asyncio.gather(feed, return_exceptions=True)
    end = log.append_blocking(0, encode_tick(3_000_000), 0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size if wal.exists() else 0, hard))
    try:
        with caplog.at_level(logging.ERROR):
            feed = asyncio.create_task(view.run())
            with pytest.raises(PositionNotReached):
                await view.wait_for({0: end}, 1.5, of="usage")
            assert not feed.done()
            assert "the spend store waits for room" in caplog.text
            before = view.through("usage")
            assert await view.ask(lambda store: store.catalogue("default", 0)) is None  # queries go on
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await view.wait_for({0: end}, 20, of="usage")
    assert before[0] < end
    feed.cancel()
    await asyncio.gather(feed, return_exceptions=True)
    store.close()
    log.close()
    again = DuckdbStore(tmp_path / "spend.duckdb")
    assert again.positions()["taximeter.events", 0] == end
    again.close()


def test_a_damaged_store_is_put_aside_and_one_that_another_process_holds_is_not(tmp_path: Path) -> None:
    path = tmp_path / "spend.duckdb"
    path.write_bytes(b"no store at all" * 1000)
    with pytest.raises(StoreDamaged, match="built again from the topics"):
        DuckdbStore(path)
    open_or_rebuild(path).close()
    assert (tmp_path / "spend.duckdb.damaged").read_bytes().startswith(b"no store")
    import subprocess
    import sys

    hold = f"import duckdb; c = duckdb.connect({str(path)!r}); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreError, match="another process holds it"):
            open_or_rebuild(path)
        holder.kill()
    open_or_rebuild(path).close()
