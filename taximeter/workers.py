"""`taximeter ingest`, `rate` and `spend`: the parts as separate processes, joined by Kafka alone."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ingest.app import routes as door_routes
from ingest.columns import rejection_record
from ingest.door import Door, DoorSettings
from ingest.feed import FeedProcessor, encode_json_entry
from rating.engine import RatingProcessor, RatingSettings
from rating.spend.app import routes as spend_routes
from rating.spend.clickhouse_store import ClickhouseStore
from rating.spend.duckdb_store import DuckdbStore
from rating.spend.store import SpendStore, StoreDamaged, StoreError, StoreFull
from rating.spend.view import SpendView
from schemas import topics
from schemas.catalogue import CatalogueError
from schemas.rejection import Rejection
from schemas.times import DAY, SECOND
from streams.embedded.folder import FolderRefused
from streams.kafka.admin import TopicError, ensure_topics
from streams.kafka.avro import writing
from streams.kafka.binding import Binding
from streams.kafka.host import HostSettings, run_worker
from streams.kafka.ownership import StepLimits
from streams.kafka.producer import KafkaProducer, Message
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource, SourceMessage
from streams.log import LogUnavailable
from streams.snapshots import SnapshotError, SnapshotStore
from streams.watchdog import STALL_S, Watchdog
from taximeter.catalogue_http import CatalogueApi
from taximeter.documents import read_catalogue_file
from taximeter.follower import CatalogueFollower
from taximeter.http import Unready, make_app, running
from taximeter.metrics import Measured
from taximeter.observe import EngineTotals
from taximeter.options import kafka_settings
from taximeter.process import complain, say, spare_the_collector, until_signalled, what_failed
from taximeter.rerate_http import Reratings
from taximeter.state_folder import state_folder
from taximeter.status import make_status
from taximeter.status_http import watch_routes
from taximeter.status_parts import view_reading, view_status
from taximeter.webhooks import run_on_kafka
from taximeter.worker_health import WorkerHealth

_DAY_SECONDS = 86400
_FAILURES = (
    LogUnavailable, TopicError, SnapshotError, StoreDamaged, StoreError, StoreFull, Unready, OSError, ValueError,
)  # fmt: skip


class _Rejections:
    """The door's rejections, on Kafka."""

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer

    async def publish(self, rejections: Sequence[Rejection]) -> None:
        records = map(rejection_record, rejections)
        await self._producer.produce_many([Message(topics.REJECTIONS, 0, key, value) for key, value in records])


async def _reporting(name: str, main: Coroutine[Any, Any, int]) -> int:
    """The exit status of a command; what went wrong is said in one line, or a line for each fault of a catalogue."""
    try:
        return await main
    except CatalogueError as error:
        complain(str(error))
        return 2
    except _FAILURES as error:
        complain(f"taximeter {name}: {error}")
        return 1


async def ingest(**options: Any) -> int:
    """Runs a door until it is told to stop. Returns the exit status."""
    return await _reporting("ingest", _ingest(**options))


async def _ingest(
    *,
    host: str,
    port: int,
    bootstrap: str,
    partitions: int,
    prefix: str,
    replication: int,
    security: Sequence[str],
    catalogue: Path | None,
    max_ahead: int,
) -> int:
    settings = kafka_settings(bootstrap, partitions, prefix, replication, security)
    documents = None if catalogue is None else read_catalogue_file(catalogue)
    await asyncio.to_thread(ensure_topics, settings)
    follower = CatalogueFollower(settings)
    await asyncio.to_thread(follower.start)
    sink, producer = KafkaSink(settings), KafkaProducer(settings)
    door_settings = DoorSettings(max_ahead=max_ahead * SECOND if max_ahead else None)
    door = Door(sink, _Rejections(producer), follower.catalogue.view, door_settings)

    async def write(entry: bytes, records: list[tuple[bytes, bytes]]) -> dict[int, int]:
        ends = await asyncio.gather(*(sink.append(partition, entry, 0) for partition in range(partitions)))
        await producer.produce_many([Message(topics.CATALOGUE, 0, key, value) for key, value in records])
        return dict(enumerate(ends))

    async def catch_up() -> None:
        await asyncio.to_thread(follower.catch_up)

    async def append(partition: int, entry: bytes) -> int:
        return await sink.append(partition, entry, 0)

    api = CatalogueApi(follower.catalogue, write, catch_up)
    reratings = Reratings(partitions, append, lambda: follower.catalogue.catalogue)
    try:
        if documents is not None:
            await follower.catalogue.apply(documents, write)
        watching = watch_routes(lambda: Measured(make_status("door", [], ready=True), door=door.counts))
        parts = [*door_routes(door), *api.routes(), *reratings.routes(), *watching]
        app = make_app(parts, lambda: {"log": True})
        async with running(app, host, port) as url:
            say(f"taximeter ingest: ready at {url}")
            await until_signalled()
            say("taximeter ingest: stopping")
        await door.drain()
    finally:
        await sink.close()
        await producer.close()
        await asyncio.to_thread(follower.stop)
    return 0


def rate(*, state: Path | None, **options: Any) -> int:
    """Runs a rating worker until it is told to stop. Returns the exit status."""
    try:
        with state_folder(state) as folder:
            return _rate(folder=folder, **options)
    except (FolderRefused, OSError) as error:
        complain(f"taximeter rate: {error}")
        return 1


def _rate(
    *,
    folder: Path,
    bootstrap: str,
    partitions: int,
    prefix: str,
    replication: int,
    security: Sequence[str],
    snapshots: str,
    health_host: str,
    health_port: int | None,
    lateness: int,
    window: int,
    tick: int,
    snapshot_every: int,
    session_timeout: int,
    max_ahead: int,
    stall: int,
    instance_id: str | None,
    schema_registry: str,
    output_format: str,
) -> int:
    try:
        options = (bootstrap, partitions, prefix, replication, security, session_timeout)
        settings = kafka_settings(*options, schema_registry=schema_registry, output_format=output_format)
        ensure_topics(settings)
        writing(settings)  # without a schema for what it would write a worker does not start
        store = SnapshotStore(snapshots)
        follower = CatalogueFollower(settings)
        follower.start()
    except (*_FAILURES, CatalogueError) as error:
        complain(f"taximeter rate: {error}")
        return 1
    spare_the_collector()
    rating = RatingSettings(partitions, lateness * SECOND, max(window // _DAY_SECONDS, 1), folder=folder)
    totals = EngineTotals()
    processor = RatingProcessor(rating, totals)
    bindings = rate_bindings(processor, follower, tick or None, max_ahead * SECOND if max_ahead else None)
    health = WorkerHealth(totals, health_host, health_port)
    try:
        limits = StepLimits(snapshot_s=snapshot_every)
        host = HostSettings(limits=limits, stall_s=stall or STALL_S, instance_id=instance_id)
        return run_worker(settings, bindings, store, host, on_state=health.tell, on_start=health.watch)
    finally:
        health.stop()
        follower.stop()
        processor.close()


def rate_bindings(
    processor: RatingProcessor, follower: CatalogueFollower, tick_s: float | None, max_ahead: int | None = DAY
) -> list[Binding]:
    """What a rating worker runs: the engine, and the feed from JSON (`max_ahead` as `FeedProcessor` has it)."""
    feed = FeedProcessor(follower.catalogue.view, processor.settings.partitions, max_ahead=max_ahead)
    return [
        Binding(processor, tick_s=tick_s),
        Binding(feed, source=topics.EVENTS_JSON, journal=topics.JOURNAL_JSON, entry=_json_entry),
    ]


def _json_entry(message: SourceMessage) -> bytes:
    return encode_json_entry(message.timestamp_ms * 1000, message.value)


async def spend(**options: Any) -> int:
    """Runs a spend server until it is told to stop. Returns the exit status."""
    return await _reporting("spend", _spend(**options))


async def webhooks(
    *,
    endpoints: Path,
    data: Path,
    bootstrap: str,
    partitions: int,
    prefix: str,
    replication: int,
    security: Sequence[str],
    schema_registry: str,
) -> int:
    """Delivers webhooks until it is told to stop. Returns the exit status."""

    async def follow() -> int:
        options = (bootstrap, partitions, prefix, replication, security)
        settings = kafka_settings(*options, schema_registry=schema_registry)
        await asyncio.to_thread(ensure_topics, settings)  # it may be the first process of the deployment
        return await run_on_kafka(settings, endpoints, data)

    return await _reporting("webhooks", follow())


async def _spend(
    *,
    host: str,
    port: int,
    bootstrap: str,
    partitions: int,
    prefix: str,
    replication: int,
    security: Sequence[str],
    data: Path,
    clickhouse: str | None,
    stall: int,
    schema_registry: str,
) -> int:
    settings = kafka_settings(bootstrap, partitions, prefix, replication, security, schema_registry=schema_registry)
    await asyncio.to_thread(ensure_topics, settings)
    store = _open_store(data, clickhouse)
    view = SpendView(store, KafkaSource(settings))
    feed = asyncio.create_task(view.run())
    watchdog = Watchdog(stall or STALL_S)
    watchdog.watch("the spend store", lambda: view_reading(view))
    watchdog.start()
    try:
        watching = watch_routes(lambda: Measured(view_status(view, not feed.done(), watchdog)))
        app = make_app([*spend_routes(view), *watching], lambda: {"feed": not feed.done()}, watchdog.near)
        async with running(app, host, port) as url:
            say(f"taximeter spend: ready at {url}")
            stopped = asyncio.create_task(until_signalled())
            await asyncio.wait({stopped, feed}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if feed.done():
                complain(f"taximeter spend: the feed failed: {what_failed(feed.exception())}")
                return 1
            say("taximeter spend: stopping")
    finally:
        feed.cancel()
        await asyncio.gather(feed, return_exceptions=True)
        store.close()
        watchdog.stop()
    return 0


def _open_store(data: Path, clickhouse: str | None) -> SpendStore:
    if clickhouse is None:
        data.mkdir(parents=True, exist_ok=True)
        return DuckdbStore(data / "spend.duckdb")
    import clickhouse_connect

    url = urlsplit(clickhouse)
    if url.scheme not in ("clickhouse", "clickhouses") or not url.hostname:
        raise ValueError("--clickhouse: found no host, expected clickhouse://user:password@host:8123/database")
    client = clickhouse_connect.get_client(
        host=url.hostname,
        port=url.port or (8443 if url.scheme == "clickhouses" else 8123),
        username=url.username or "default",
        password=url.password or "",
        secure=url.scheme == "clickhouses",
        autogenerate_session_id=False,
    )
    return ClickhouseStore(client, url.path.strip("/") or "taximeter")
