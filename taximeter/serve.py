"""`taximeter serve`: the embedded parts behind one HTTP server."""

import asyncio
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from downstream.notifications.endpoints import Endpoint, EndpointsError, load_endpoints
from downstream.notifications.queue import Queue, QueueRefused
from ingest.door import DoorSettings
from rating.archive.store import ArchiveError
from rating.engine import RatingSettings
from rating.spend.store import StoreDamaged, StoreError, StoreFull
from schemas.catalogue import CatalogueError
from schemas.times import SECOND
from streams.embedded.folder import LogError
from streams.embedded.host import HostSettings
from streams.log import LogUnavailable
from streams.snapshots import SnapshotError
from streams.watchdog import STALL_S
from taximeter.access.front import Front, FrontRefused, FrontSettings
from taximeter.access.http import KeysApi
from taximeter.access.ring import KeysUnavailable
from taximeter.access.sqlite_store import SqliteKeys
from taximeter.documents import read_catalogue_file
from taximeter.embedded import Embedded, EmbeddedSettings
from taximeter.http import Unready, make_app
from taximeter.process import complain, say, until_signalled, what_failed
from taximeter.tls import TlsRefused
from taximeter.tracing.setup import TracingRefused, traced
from taximeter.webhooks import FILE_NAME, ends_of, run_webhooks

_DAY_SECONDS = 86400
_STORE = (StoreDamaged, StoreError, StoreFull)


async def serve(
    *,
    host: str,
    port: int,
    data: Path,
    catalogue: Path | None,
    partitions: int,
    snapshots: str | None,
    archive: str | None,
    max_ahead: int,
    webhooks: Path | None,
    lateness: int,
    window: int,
    tick: int,
    snapshot_every: int,
    pause_ms: int,
    stall: int,
    otlp: str | None,
    **front: Any,
) -> int:
    """Runs until it is told to stop. Durations are seconds; `front` as `FrontSettings.of` has it. Returns the exit
    status."""
    settings = EmbeddedSettings(
        data=data,
        partitions=partitions,
        snapshots=snapshots,
        archive=str(data / "archive") if archive is None else None if archive == "none" else archive,
        rating=RatingSettings(partitions, lateness * SECOND, max(window // _DAY_SECONDS, 1)),
        host=HostSettings(
            pause_seconds=pause_ms / 1000,
            tick_seconds=tick or None,
            snapshot_seconds=snapshot_every,
            stall_s=stall or STALL_S,
        ),
        door=DoorSettings(max_ahead=max_ahead * SECOND if max_ahead else None),
    )
    try:
        documents = None if catalogue is None else read_catalogue_file(catalogue)
        endpoints = {} if webhooks is None else load_endpoints(webhooks)
        chosen = FrontSettings.of(**front)
        keys = SqliteKeys(data, follow=True)
        before = Front("serve", chosen, keys.ring, host, f"--data {data}")
        settings = replace(settings, door=replace(settings.door, admit=before.rates.take))
        async with traced(otlp, "serve") as traces, Embedded(settings, traces) as parts:
            if documents is not None:
                await parts.apply(documents)
            if not parts.catalogues.any_meters():
                complain("taximeter serve: no catalogue is in force (--catalogue): events are kept, nothing is rated")
            watched = parts.host.watchdog.near
            routes = [*parts.routes(), *KeysApi(keys).routes()]
            app = make_app(routes, parts.ready, watched, parts.waiting, parts.requests, traces)
            lane = None if traces is not None else before.lane(parts.door, parts.requests)
            async with before.running(app, host, port, lane) as url:
                await asyncio.to_thread(parts.host.wait_until_caught_up)
                stopped = asyncio.create_task(until_signalled())
                say(f"taximeter: ready at {url} (data in {data})")
                return await _until_stopped(parts, endpoints, stopped)
    except (CatalogueError, EndpointsError, TracingRefused) as error:
        complain(str(error))
        return 2
    except (FrontRefused, TlsRefused) as error:
        complain(f"taximeter serve: {error}")
        return 2
    except (
        ArchiveError,
        LogError,
        LogUnavailable,
        SnapshotError,
        *_STORE,
        QueueRefused,
        KeysUnavailable,
        sqlite3.Error,
        Unready,
        OSError,
    ) as error:
        complain(f"taximeter serve: {error}")
        return 1


async def _until_stopped(parts: Embedded, endpoints: Mapping[str, Endpoint], stopped: asyncio.Task[None]) -> int:
    assert parts.failure is not None
    queue = parts.queue = Queue(parts.settings.data / FILE_NAME) if endpoints else None
    told = asyncio.create_task(_tell(parts, endpoints, queue))
    try:
        await asyncio.wait({stopped, parts.failure, told}, return_when=asyncio.FIRST_COMPLETED)
        if parts.failure.done():
            complain(f"taximeter serve: the {parts.failed} failed: {what_failed(parts.failure.exception())}")
            return 1
        if told.done():
            complain(f"taximeter serve: the webhooks failed: {what_failed(told.exception())}")
            return 1
        say("taximeter: stopping")
        return 0
    finally:
        for task in (stopped, told):
            task.cancel()
        await asyncio.gather(stopped, told, return_exceptions=True)
        if queue is not None:
            parts.queue = None
            queue.close()


async def _tell(parts: Embedded, endpoints: Mapping[str, Endpoint], queue: Queue | None) -> None:
    """Webhooks, for ever; without endpoints it waits."""
    if queue is None:
        await asyncio.Event().wait()
    else:
        await run_webhooks(endpoints, parts.log, queue, ends_of(parts.log))
