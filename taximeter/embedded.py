"""Everything in one process: the door, the engine and the spend queries on an embedded log and store."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from starlette.routing import BaseRoute

from downstream.notifications.queue import Queue
from ingest.app import routes as door_routes
from ingest.columns import rejection_record
from ingest.door import Door, DoorSettings
from rating.archive.archiver import Archiver, ArchiveSettings
from rating.archive.store import Archive, ArchiveError
from rating.engine import RatingProcessor, RatingSettings
from rating.rerate import Preview
from rating.retell.http import retell_routes
from rating.retell.service import Retellings
from rating.spend.app import events_route
from rating.spend.app import routes as spend_routes
from rating.spend.duckdb_store import open_or_rebuild
from rating.spend.view import SpendView
from schemas import topics
from schemas.access import DEFAULT_TENANT
from schemas.catalogue import Catalogue
from schemas.entry import Rerate
from schemas.rejection import Rejection
from streams.embedded.host import EmbeddedHost, HostSettings
from streams.embedded.log import SqliteLog
from streams.snapshots import SnapshotStore
from taximeter.catalogue_http import CatalogueApi
from taximeter.compat import CompatBackend, compat_routes
from taximeter.documents import Catalogues
from taximeter.metrics import Measured
from taximeter.observe import EngineTotals
from taximeter.rejections_http import Resending
from taximeter.request_counts import RequestCounts
from taximeter.rerate import clear_previews, show
from taximeter.rerate_http import Reratings
from taximeter.status_http import watch_routes
from taximeter.status_parts import embedded_status, spend_lag, view_reading
from taximeter.tracing.setup import Tracing

_RECORDS_MAX = 10_000

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """What `taximeter serve` may be told."""

    data: Path
    partitions: int = 1
    snapshots: str | None = None
    """Where snapshots go: a folder or a URL of an object store; by default a folder in `data`."""
    archive: str | None = None
    """Where raw events are kept as Parquet: a folder or a URL of an object store; None: nowhere."""
    archiving: ArchiveSettings = field(default_factory=ArchiveSettings)
    rating: RatingSettings = field(default_factory=RatingSettings)
    host: HostSettings = field(default_factory=HostSettings)
    door: DoorSettings = field(default_factory=DoorSettings)


class _Rejections:
    """The door's rejections, on the embedded log."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    async def publish(self, rejections: Sequence[Rejection]) -> None:
        await self._log.publish(topics.REJECTIONS, 0, [rejection_record(rejection) for rejection in rejections])


class Embedded:
    """The running parts. Use as an asynchronous context manager: they start with it and are stopped in order.

    Raises on entry: FolderRefused, SnapshotError, ArchiveError; and CatalogueError where documents on disk contradict
    each other.
    """

    def __init__(self, settings: EmbeddedSettings, traces: Tracing | None = None) -> None:
        self.settings = settings
        self.requests = RequestCounts()
        self.queue: Queue | None = None
        """Of webhooks, where there are any."""
        self._traces = traces
        self.failure: asyncio.Future[None] | None = None
        self.failed = ""
        """Which part has set `failure`."""

    async def __aenter__(self) -> "Embedded":
        settings = self.settings
        self.failure = asyncio.get_running_loop().create_future()
        self.log = SqliteLog(settings.data, settings.partitions)
        try:
            self.catalogues = Catalogues(self._documents())
            self.snapshots = SnapshotStore(settings.snapshots or settings.data / "snapshots")
            folder = settings.rating.folder or settings.data / "identities"
            clear_previews(folder)
            self.rating = replace(settings.rating, partitions=settings.partitions, folder=folder)
            self.totals = EngineTotals()
            self.processor = RatingProcessor(self.rating, self.totals)
            traces = self._traces
            steps = None if traces is None else traces.steps
            self.host = EmbeddedHost(self.log, self.processor, self.snapshots, settings.host, observer=steps)
            self.store = open_or_rebuild(settings.data / "spend.duckdb")
            self.view = SpendView(self.store, self.log, observer=None if traces is None else traces.store)
            self.retellings = Retellings(self.view, self.rating)
            archive = None if settings.archive is None else Archive(settings.archive)
            self.archiver = None if archive is None else Archiver(archive, self.log, settings.archiving)
            tracer = None if traces is None else traces.door
            self.door = Door(self.log, _Rejections(self.log), self.catalogues.view, settings.door, tracer=tracer)
            self.host.watchdog.watch("the spend store", lambda: view_reading(self.view, self.log))
            self.host.start()
            self._feed = asyncio.create_task(self.view.run(), name="spend store")
            self._archiving = (
                None if self.archiver is None else asyncio.create_task(self.archiver.run(), name="archive")
            )
            for task in filter(None, (self._feed, self._archiving)):
                task.add_done_callback(self._feed_ended)
        except BaseException:
            self.log.close()
            raise
        return self

    def _documents(self) -> list[bytes]:
        values: list[bytes] = []
        position = self.log.begin(topics.CATALOGUE, 0)
        while records := self.log.read_records(topics.CATALOGUE, 0, position, records_max=_RECORDS_MAX):
            values.extend(record.value for record in records)
            position = records[-1].end
        return values

    def _feed_ended(self, task: asyncio.Task[None]) -> None:
        failed = None if task.cancelled() else task.exception()
        if failed is not None and self.failure is not None and not self.failure.done():
            self.failed = task.get_name()
            self.failure.set_exception(failed)

    async def __aexit__(self, *_: object) -> None:
        await self.door.drain()
        await asyncio.to_thread(self.host.stop)
        await asyncio.to_thread(self.processor.close)
        for task in filter(None, (self._feed, self._archiving)):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await self._end_archive()
        self.retellings.close()
        self.store.close()
        self.log.close()

    async def _end_archive(self) -> None:
        """Archives what is left. What cannot be written now is caught up with after the next start."""
        if self.archiver is not None:
            try:
                await self.archiver.close()
            except ArchiveError as error:
                _logger.warning("%s; it is done after the next start", error)

    async def apply(self, catalogue: Catalogue, tenant: str = DEFAULT_TENANT) -> bool:
        """Brings a tenant's documents into force; False where they were already. Raises: CatalogueError,
        LogUnavailable."""
        return (await self.catalogues.of(tenant).apply(catalogue, self._write)).changed

    async def _write(self, entry: bytes, records: list[tuple[bytes, bytes]]) -> Mapping[int, int]:
        return await self.log.append_everywhere_with(entry, topics.CATALOGUE, records)

    def routes(self) -> list[BaseRoute]:
        """The door's, the catalogue's and the queries' routes."""
        catalogue = CatalogueApi(self.catalogues, self._write)
        reratings = Reratings(
            self.log.partitions, self._append, lambda tenant: self.catalogues.of(tenant).catalogue, self._show
        )
        watching = watch_routes(self.measure)
        resending = Resending(self.door, self.view).routes()
        door = [events_route(self.view), *door_routes(self.door), *resending]
        others = compat_routes(CompatBackend(self.door, self.catalogues, self._write, self.view))
        queries = [*retell_routes(self.retellings), *spend_routes(self.view)]
        return [*door, *catalogue.routes(), *reratings.routes(), *queries, *others, *watching]

    async def _append(self, partition: int, entry: bytes) -> int:
        return await self.log.append(partition, entry, 0)

    def _show(self, asked: Rerate) -> Preview:
        return show(self.log, self.snapshots, self.rating, asked)

    def ready(self) -> dict[str, bool]:
        """What readiness rests on."""
        return {"engine": self.host.ready, "caught_up": self.host.caught_up, "spend": not self._feed.done()}

    def waiting(self) -> dict[str, str]:
        """Partition -> why it is not ready."""
        return {
            str(number): f"{state.doing} at position {state.position} of {state.end}"
            for number, state in self.host.state().items()
            if not (state.restored and state.caught_up)
        }

    def measure(self) -> Measured:
        """For status and metrics. Reads the log: not on the event loop."""
        state = self.host.state()
        steps = {number: (one.step_seconds, one.step_seconds_sum) for number, one in state.items()}
        status = embedded_status(self.host, self.log, self.totals, self.view, all(self.ready().values()))
        return Measured(
            status,
            steps,
            self.door.counts,
            self.door.waiting,
            self.requests.seconds,
            spend_lag(self.view, self.log),
            self.view.apply_seconds,
            {} if self.queue is None else self.queue.counts(),
        )

    async def settle(self, timeout: float = 60.0) -> None:
        """Waits until the queries include everything that the log has taken. Raises: TimeoutError."""
        end = {partition: self.log.end(topics.EVENTS, partition) for partition in range(self.log.partitions)}
        await self.view.wait_for(end, timeout)
        await self.view.wait_for(end, timeout, of="usage")
