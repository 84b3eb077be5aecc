"""`taximeter ingest`, `rate` and `spend`: the parts as separate processes, joined by Kafka alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from ingest.app import routes as door_routes
from ingest.columns import rejection_record
from ingest.door import Door, DoorSettings
from ingest.feed import FeedProcessor, encode_json_entry
from rating.engine import RatingProcessor, RatingSettings
from rating.retell.http import retell_routes
from rating.retell.service import Retellings
from rating.spend.app import routes as spend_routes
from rating.spend.duckdb_store import DuckdbStore
from rating.spend.store import SpendStore, StoreDamaged, StoreError, StoreFull
from rating.spend.view import SpendView
from schemas import topics
from schemas.access import DEFAULT_TENANT
from schemas.catalogue import Catalogue, CatalogueError
from schemas.rejection import Rejection
from schemas.times import DAY, SECOND
from streams.embedded.folder import FolderRefused
from streams.kafka.admin import TopicError, ensure_topics
from streams.kafka.avro import writing
from streams.kafka.binding import Binding
from streams.kafka.ownership import StepLimits
from streams.kafka.producer import KafkaProducer, Message
from streams.kafka.settings import KafkaSettings
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource, SourceMessage
from streams.log import LogUnavailable
from streams.processor import StepObserver
from streams.snapshots import SnapshotError, SnapshotStore
from streams.watchdog import STALL_S, Watchdog
from taximeter.access.front import Front, FrontRefused, FrontSettings, health_front
from taximeter.access.http import KeysApi
from taximeter.access.kafka_store import KafkaKeys
from taximeter.access.ring import KeysUnavailable
from taximeter.catalogue_http import CatalogueApi
from taximeter.compat import CompatBackend, compat_routes
from taximeter.documents import read_catalogue_file
from taximeter.follower import CatalogueFollower
from taximeter.http import Unready, make_app
from taximeter.metrics import Measured
from taximeter.observe import EngineTotals
from taximeter.options import kafka_settings
from taximeter.process import complain, keep_freed_memory, say, share_the_interpreter, until_signalled, what_failed
from taximeter.rejections_http import Resending
from taximeter.request_counts import RequestCounts
from taximeter.rerate_http import Reratings
from taximeter.state_folder import state_folder
from taximeter.status import make_status
from taximeter.status_http import watch_routes
from taximeter.status_parts import spend_lag, view_reading, view_status
from taximeter.tls import TlsRefused
from taximeter.tracing.setup import Tracing, TracingRefused, traced, tracing
from taximeter.webhooks import run_on_kafka
from taximeter.worker_health import WorkerHealth

_DAY_SECONDS = 86400
_FAILURES = (
    LogUnavailable, TopicError, SnapshotError, StoreDamaged, StoreError, StoreFull, Unready, KeysUnavailable, OSError,
    ValueError,
)  # fmt: skip


class _Rejections:
    """The door's rejections, on Kafka."""

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer

    async def publish(self, rejections: Sequence[Rejection]) -> None:
        records = map(rejection_record, rejections)
        await self._producer.produce_many([Message(topics.REJECTIONS, 0, key, value) for key, value in records])


async def _reporting(name: str, otlp: str | None, main: Callable[[Tracing | None], Coroutine[Any, Any, int]]) -> int:
    """The exit status of a command; what went wrong is said in one line, or a line for each fault of a catalogue."""
    try:
        async with traced(otlp, name) as traces:
            return await main(traces)
    except (CatalogueError, TracingRefused) as error:
        complain(str(error))
        return 2
    except (FrontRefused, TlsRefused) as error:
        complain(f"taximeter {name}: {error}")
        return 2
    except _FAILURES as error:
        complain(f"taximeter {name}: {error}")
        return 1


@contextlib.asynccontextmanager
async def _keys(settings: KafkaSettings) -> AsyncIterator[KafkaKeys]:
    """The deployment's API keys, followed while the block runs. Raises on entry: KeysUnavailable."""
    keys = KafkaKeys(settings)
    try:
        await asyncio.to_thread(keys.start)
        yield keys
    finally:
        await asyncio.to_thread(keys.stop)


async def ingest(*, otlp: str | None = None, **options: Any) -> int:
    """Runs a door until it is told to stop. Returns the exit status."""
    return await _reporting("ingest", otlp, lambda traces: _ingest(traces=traces, **options))


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
    traces: Tracing | None,
    **front: Any,
) -> int:
    settings = kafka_settings(bootstrap, partitions, prefix, replication, security)
    documents = None if catalogue is None else read_catalogue_file(catalogue)
    await asyncio.to_thread(ensure_topics, settings)
    async with _keys(settings) as keys:
        before = Front("ingest", FrontSettings.of(**front), keys.ring, host, keys.where)
        return await _ingest_behind(before, keys, settings, documents, host, port, max_ahead, traces)


async def _ingest_behind(
    before: Front,
    keys: KafkaKeys,
    settings: KafkaSettings,
    documents: Catalogue | None,
    host: str,
    port: int,
    max_ahead: int,
    traces: Tracing | None,
) -> int:
    partitions = settings.partitions
    follower = CatalogueFollower(settings)
    await asyncio.to_thread(follower.start)
    sink, producer = KafkaSink(settings), KafkaProducer(settings)
    door_settings = DoorSettings(max_ahead=max_ahead * SECOND if max_ahead else None, admit=before.rates.take)
    requests, tracer = RequestCounts(), None if traces is None else traces.door
    door = Door(sink, _Rejections(producer), follower.catalogues.view, door_settings, tracer=tracer)

    async def write(entry: bytes, records: list[tuple[bytes, bytes]]) -> dict[int, int]:
        ends = await asyncio.gather(*(sink.append(partition, entry, 0) for partition in range(partitions)))
        await producer.produce_many([Message(topics.CATALOGUE, 0, key, value) for key, value in records])
        return dict(enumerate(ends))

    async def catch_up() -> None:
        await asyncio.to_thread(follower.catch_up)

    async def append(partition: int, entry: bytes) -> int:
        return await sink.append(partition, entry, 0)

    api = CatalogueApi(follower.catalogues, write, catch_up)
    reratings = Reratings(partitions, append, lambda tenant: follower.catalogues.of(tenant).catalogue)
    try:
        if documents is not None:
            await follower.catalogues.of(DEFAULT_TENANT).apply(documents, write)
        watching = watch_routes(
            lambda: Measured(
                make_status("door", [], ready=True),
                door=door.counts,
                waiting=door.waiting,
                requests=requests.seconds,
            )
        )
        doors = compat_routes(CompatBackend(door, follower.catalogues, write, None, catch_up))
        own = [*door_routes(door), *Resending(door).routes(), *api.routes(), *reratings.routes()]
        parts = [*own, *doors, *watching, *KeysApi(keys).routes()]
        app = make_app(parts, lambda: {"log": True}, counts=requests, traces=traces)
        lane = None if traces is not None else before.lane(door, requests)
        async with before.running(app, host, port, lane) as url:
            signalled = until_signalled()
            say(f"taximeter ingest: ready at {url}")
            await signalled
            say("taximeter ingest: stopping")
        await door.drain()
    finally:
        await sink.close()
        await producer.close()
        await asyncio.to_thread(follower.stop)
    return 0


def rate(*, state: Path | None, otlp: str | None = None, **options: Any) -> int:
    """Runs a rating worker until it is told to stop. Returns the exit status."""
    try:
        with state_folder(state) as folder, tracing(otlp, "rate") as traces:
            return _rate(folder=folder, traces=traces, **options)
    except TracingRefused as error:
        complain(str(error))
        return 2
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
    pause_ms: int,
    session_timeout: int,
    max_ahead: int,
    stall: int,
    instance_id: str | None,
    schema_registry: str,
    output_format: str,
    tenant: str,
    traces: Tracing | None,
    **front: Any,
) -> int:
    from streams.kafka.host import HostSettings, run_worker  # Faust, which no other command needs

    share_the_interpreter()
    keep_freed_memory()  # before there are threads, which would get pools of memory of their own
    try:
        options = (bootstrap, partitions, prefix, replication, security, session_timeout)
        settings = kafka_settings(*options, schema_registry=schema_registry, output_format=output_format)
        ensure_topics(settings)
        writing(settings)  # without a schema for what it would write a worker does not start
        store = SnapshotStore(snapshots)
        follower = CatalogueFollower(settings)
        follower.start()
        keys = None if health_port is None else KafkaKeys(settings)
        guard = None if keys is None else health_front(keys, health_host, **front)
    except (*_FAILURES, CatalogueError) as error:
        complain(f"taximeter rate: {error}")
        return 2 if isinstance(error, FrontRefused | TlsRefused) else 1
    rating = RatingSettings(partitions, lateness * SECOND, max(window // _DAY_SECONDS, 1), folder=folder)
    totals = EngineTotals()
    processor = RatingProcessor(rating, totals)
    health = WorkerHealth(totals, health_host, health_port, guard)
    try:
        steps = None if traces is None else traces.steps
        ahead = max_ahead * SECOND if max_ahead else None
        bindings = rate_bindings(processor, follower, tick or None, ahead, tenant, steps)
        limits = StepLimits(pause_s=pause_ms / 1000, snapshot_s=snapshot_every)
        host = HostSettings(limits=limits, stall_s=stall or STALL_S, instance_id=instance_id)
        return run_worker(settings, bindings, store, host, on_state=health.tell, on_start=health.watch)
    finally:
        health.stop()
        follower.stop()
        if keys is not None:
            keys.stop()
        processor.close()


def rate_bindings(
    processor: RatingProcessor,
    follower: CatalogueFollower,
    tick_s: float | None,
    max_ahead: int | None = DAY,
    tenant: str = DEFAULT_TENANT,
    observer: StepObserver | None = None,
) -> list[Binding]:
    """What a rating worker runs: the engine, and the feed from JSON (`max_ahead` and `tenant` as `FeedProcessor` has
    them), whose messages are single events."""
    feed = FeedProcessor(follower.catalogues.view, processor.settings.partitions, tenant, max_ahead)
    return [
        Binding(processor, tick_s=tick_s, observer=observer),
        Binding(feed, source=topics.EVENTS_JSON, journal=topics.JOURNAL_JSON, entry=_json_entry, step_factor=16),
    ]


def _json_entry(message: SourceMessage) -> bytes:
    return encode_json_entry(message.timestamp_ms * 1000, message.value)


async def spend(*, otlp: str | None = None, **options: Any) -> int:
    """Runs a spend server until it is told to stop. Returns the exit status."""
    return await _reporting("spend", otlp, lambda traces: _spend(traces=traces, **options))


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

    async def follow(_: Tracing | None) -> int:
        options = (bootstrap, partitions, prefix, replication, security)
        settings = kafka_settings(*options, schema_registry=schema_registry)
        await asyncio.to_thread(ensure_topics, settings)  # it may be the first process of the deployment
        return await run_on_kafka(settings, endpoints, data)

    return await _reporting("webhooks", None, follow)


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
    lateness: int,
    window: int,
    stall: int,
    schema_registry: str,
    traces: Tracing | None,
    **front: Any,
) -> int:
    settings = kafka_settings(bootstrap, partitions, prefix, replication, security, schema_registry=schema_registry)
    await asyncio.to_thread(ensure_topics, settings)
    async with _keys(settings) as keys:
        before = Front("spend", FrontSettings.of(**front), keys.ring, host, keys.where)
        rating = RatingSettings(partitions, lateness * SECOND, max(window // _DAY_SECONDS, 1))
        store = _open_store(data, clickhouse)
        return await _spend_behind(before, settings, host, port, store, rating, stall, traces)


async def _spend_behind(
    before: Front,
    settings: KafkaSettings,
    host: str,
    port: int,
    store: SpendStore,
    rating: RatingSettings,
    stall: int,
    traces: Tracing | None,
) -> int:
    source, requests = KafkaSource(settings), RequestCounts()
    view = SpendView(store, source, observer=None if traces is None else traces.store)
    retellings = Retellings(view, rating)
    feed = asyncio.create_task(view.run())
    watchdog = Watchdog(stall or STALL_S)
    watchdog.watch("the spend store", lambda: view_reading(view))
    watchdog.start()
    follower = CatalogueFollower(settings)
    try:
        await asyncio.to_thread(follower.start)
        watching = watch_routes(
            lambda: Measured(
                view_status(view, not feed.done(), watchdog),
                requests=requests.seconds,
                spend_lag=spend_lag(view, source),
                applied=view.apply_seconds,
            )
        )
        others = compat_routes(CompatBackend(None, follower.catalogues, None, view))
        parts = [*retell_routes(retellings), *spend_routes(view), *others, *watching]
        ready = lambda: {"feed": not feed.done()}  # noqa: E731
        app = make_app(parts, ready, watchdog.near, counts=requests, traces=traces)
        async with before.running(app, host, port) as url:
            stopped = asyncio.create_task(until_signalled())
            say(f"taximeter spend: ready at {url}")
            await asyncio.wait({stopped, feed}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if feed.done():
                complain(f"taximeter spend: the feed failed: {what_failed(feed.exception())}")
                return 1
            say("taximeter spend: stopping")
    finally:
        feed.cancel()
        await asyncio.gather(feed, return_exceptions=True)
        retellings.close()
        await asyncio.to_thread(follower.stop)
        store.close()
        watchdog.stop()
    return 0


def _open_store(data: Path, clickhouse: str | None) -> SpendStore:
    if clickhouse is None:
        data.mkdir(parents=True, exist_ok=True)
        return DuckdbStore(data / "spend.duckdb")
    from rating.spend.clickhouse_store import open_clickhouse

    return open_clickhouse(clickhouse)
