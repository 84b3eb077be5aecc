"""The Faust host: runs processors on Kafka, one process of a consumer group.

Faust brings the consumer group, the fetching and the scheduling. It is trusted with no position and no
acknowledgement (README.md says why): what counts is in `streams.kafka.partition`.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

import faust
from faust.tables.manager import TableManager
from faust.types import TP

from schemas import topics
from schemas.entry import encode_tick
from streams.faults_hook import fault
from streams.kafka.binding import Binding
from streams.kafka.consumer import OwnedConsumer
from streams.kafka.ownership import StepLimits, Surroundings
from streams.kafka.partition import Counters, Partition, PartitionState
from streams.kafka.producer import KafkaProducer
from streams.kafka.settings import KafkaSettings
from streams.kafka.source import SourceMessage
from streams.log import LogUnavailable
from streams.redact import safe_message
from streams.snapshots import SnapshotStore
from streams.watchdog import STALL_S, Reading, Watchdog

EXIT_FAILED: Final = 70
"""The process stopped itself: something that must hold did not, or Kafka was lost. Start it again."""

_LINGER_MS: Final = 5.0
"""A step's outputs come at once: this long is enough to queue a request's worth. What misses the first request waits
for its answer, and librdkafka's thread spins meanwhile."""
_BUNDLES: Final = 64
"""Of which a full step is made, and which wait for the next. What finds no room stays with the consumer, and comes in
larger ones."""
_STOP_TIMEOUT_S: Final = 10.0
_LOOK_TIMEOUT_S: Final = 30.0

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class HostSettings:
    """What may differ between the workers of a group."""

    group: str = "taximeter"
    """The consumer group. Workers of one group may have different bindings; a binding belongs to one group only."""
    limits: StepLimits = field(default_factory=StepLimits)
    threads: int = 1
    """In which `process` runs. The engine's own work releases the interpreter's lock only in part."""
    stall_s: float = STALL_S
    """What has work to do and does not move for so long is hung: the process ends (`streams.watchdog`). Also a worker
    that does not get into its group for so long."""
    instance_id: str | None = None
    """Static membership: a worker that comes back under the same id within the session timeout gets its partitions
    back at once, and one that is stopped keeps them until the session is over. Never the same for two at once."""


@dataclass(frozen=True)
class WorkerState:
    """What a health endpoint shows. Ready: every assigned partition is owned, and there is an assignment."""

    ready: bool
    partitions: Mapping[tuple[str, int], PartitionState]
    """(source topic, partition) -> its state."""
    counters: Mapping[tuple[str, int], Counters]
    joined: bool = False
    """Whether the group has this worker, and no rebalance is under way."""
    caught_up: bool = False
    """Ready, in the group, and what the log held when a partition was taken over is worked in."""
    ends: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """(source topic, partition) -> the end of the log, as far as it is known."""


def stop_process(reason: str, error: BaseException | None = None) -> NoReturn:
    """Ends the process at once. Faust acknowledges what an exception leaves undone, so nothing of it may go on."""
    _logger.critical("stopping: %s", reason, exc_info=error)
    logging.shutdown()
    os._exit(EXIT_FAILED)


async def or_stop(place: str, action: Awaitable[_T]) -> _T:
    """The action's result. Any exception stops the process; being cancelled is how Faust ends a task."""
    try:
        return await action
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        stop_process(f"{place}: {safe_message(error)}", error)


class _NoTables(TableManager):
    """Faust's table manager without its second of waiting for tables: there are none."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class Worker:
    """One Faust app with an agent for each binding. `run` until `stop` is called."""

    def __init__(
        self,
        settings: KafkaSettings,
        bindings: Sequence[Binding],
        snapshots: SnapshotStore,
        host: HostSettings | None = None,
        on_state: Callable[[WorkerState], None] | None = None,
    ) -> None:
        """`on_state` is called on the event loop whenever ownership changes."""
        for attribute in ("source", "journal"):
            names = [getattr(binding, attribute) for binding in bindings]
            if len(set(names)) != len(names):
                raise ValueError(f"found the {attribute} topics {names}, expected each once")
        self._settings = settings
        self._host = host or HostSettings()
        self._snapshots = snapshots
        self._bindings = {settings.topic(binding.source): binding for binding in bindings}
        self._on_state = on_state
        self._scratch = tempfile.TemporaryDirectory(prefix="taximeter-worker-")
        self._writer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._partitions: dict[TP, Partition] = {}
        self._assignment_number = 0
        self._stopping = asyncio.Event()
        self._loop_turns = 0
        self._joined = False
        self._has_given_up = False
        """Partitions, whose states are large and may wait for the collector, which hosts make rare."""
        self._behind: dict[TP, bool] = {}
        self._ends: dict[TP, int] = {}
        self.watchdog = Watchdog(self._host.stall_s)

    @property
    def state(self) -> WorkerState:
        """The state now. From any thread."""
        partitions, ends = self._partitions, self._ends  # replaced whole, never changed
        names = {tp: (self._bindings[tp.topic].source, tp.partition) for tp in partitions}
        return WorkerState(
            ready=bool(partitions) and all(partition.owned for partition in partitions.values()),
            partitions={names[tp]: partition.state for tp, partition in partitions.items()},
            counters={names[tp]: partition.counters for tp, partition in partitions.items()},
            joined=self._joined,
            caught_up=self._joined and bool(partitions) and all(one.state.caught_up for one in partitions.values()),
            ends={name: ends[tp] for tp, name in names.items() if tp in ends},
        )

    def stop(self) -> None:
        """Finish the steps under way, write snapshots, leave the group, return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Works until `stop`. Whatever goes wrong stops the process with EXIT_FAILED."""
        # Of lines, which are alike, lz4 leaves a fifth; of packs, which few workers write, most.
        outputs = self._make_producer(_LINGER_MS, "lz4")
        journal = self._make_producer(0.0, "none")
        with ThreadPoolExecutor(self._host.threads, "process") as executor:
            self._with = Surroundings(
                self._settings, outputs, journal, executor, self._snapshots, self._writer, self._host.limits
            )
            app = self._app = self._make_app()
            self.watchdog.watch("the event loop", lambda: Reading(self._loop_turns, True, "it answers nothing"))
            self.watchdog.watch("the consumer group", self._read_group)
            self.watchdog.start()
            background = [asyncio.create_task(or_stop("watch", self._watch()))]
            background += [
                asyncio.create_task(or_stop("ticks", self._tick(binding, binding.tick_s)))
                for binding in self._bindings.values()
                if binding.tick_s is not None
            ]
            await or_stop("start", app.start())
            await self._stopping.wait()
            for task in background:
                task.cancel()
            await or_stop("stop", self._shut_down())
            self.watchdog.stop()

    def _make_producer(self, linger_ms: float, compression: str) -> KafkaProducer:
        # A process that was stopped for a session's length must not send what it still holds: see README.md.
        timeout_s = min(self._settings.delivery_timeout_s, self._settings.session_timeout_s * 0.75)
        return KafkaProducer(self._settings, linger_ms=linger_ms, delivery_timeout_s=timeout_s, compression=compression)

    async def _shut_down(self) -> None:
        self._assignment_number += 1
        partitions = list(self._partitions.values())
        await asyncio.gather(*(partition.release() for partition in partitions))
        await asyncio.gather(*(partition.save() for partition in partitions))
        try:
            await asyncio.wait_for(self._app.stop(), _STOP_TIMEOUT_S)
        except TimeoutError:
            _logger.warning("Faust did not stop within %.0f s; everything of ours is done", _STOP_TIMEOUT_S)
        await self._with.producer.close()
        await self._with.journal.close()

    # Faust -------------------------------------------------------------------------------------------------

    def _make_app(self) -> Any:
        settings = self._settings
        app: Any = faust.App(
            settings.prefix + self._host.group,
            autodiscover=False,
            broker=[f"kafka://{address}" for address in settings.bootstrap.split(",")],
            broker_credentials=_credentials(settings),
            broker_session_timeout=settings.session_timeout_s,
            broker_heartbeat_interval=settings.heartbeat_s,
            broker_request_timeout=max(30.0, settings.session_timeout_s),
            broker_max_poll_records=max(self._host.limits.of(one).entries for one in self._bindings.values()),
            broker_commit_livelock_soft_timeout=self._host.stall_s,
            stream_processing_timeout=self._host.stall_s,
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=self._host.instance_id,
            consumer_max_fetch_size=settings.message_bytes_max,
            stream_buffer_maxsize=_BUNDLES,
            stream_wait_empty=False,
            table_standby_replicas=0,  # without tables and standbys the assignor is Kafka's plain round robin
            stream_recovery_delay=0.0,
            store="memory://",
            datadir=self._scratch.name,  # Faust makes its folder even where it has nothing to keep
            TableManager=_NoTables,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
        )
        app.transport.Consumer = OwnedConsumer
        for topic, binding in self._bindings.items():
            self._add_agent(app, topic, binding)
        app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        app.on_rebalance_complete.connect(self._on_rebalanced, weak=False)
        app.finalize()
        app.consumer.position_of = self._position_of
        app.consumer.journalled_of = self._journalled_of
        app.consumer.bundle_of = self._bundle_of
        app.consumer.gather_s = self._host.limits.pause_s
        return app

    def _add_agent(self, app: Any, name: str, binding: Binding) -> None:
        topic = app.topic(name, key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes)
        limits = self._host.limits.of(binding)
        most = min(limits.entries, _BUNDLES)

        async def work(stream: Any) -> None:
            async for events in stream.take_events(most, within=limits.wait_s):
                begun = time.monotonic()
                most_entries = await or_stop(f"work on {name}", self._work(events))
                # 8. acknowledge: Faust does so when the loop goes on, and commits some time later
                fault("after_step")
                await asyncio.sleep(limits.pause(most_entries, time.monotonic() - begun))

        app.agent(topic, name=binding.processor.name, concurrency=1)(work)

    def _position_of(self, tp: TP) -> int | None:
        partition = self._partitions.get(tp)
        return partition.position if partition is not None and partition.owned else None

    def _journalled_of(self, tp: TP) -> int | None:
        partition = self._partitions.get(tp)
        return partition.state.position if partition is not None else None

    def _bundle_of(self, tp: TP) -> StepLimits:
        return self._host.limits.of(self._bindings[tp.topic]).part(_BUNDLES)

    async def _on_revoked(self, _app: Any, revoked: Any, **_: Any) -> None:
        """Before the group gives the partitions to others: let the steps under way finish."""
        self._assignment_number += 1
        await or_stop("release", _all(partition.release() for partition in self._partitions.values()))
        self._tell()

    async def _on_rebalanced(self, _app: Any, **_: Any) -> None:
        """When the assignment is known, before Faust lets anything flow: take over what is ours now."""
        await or_stop("take over", self._take_over())

    async def _take_over(self) -> None:
        self._assignment_number += 1
        number = self._assignment_number
        assigned = {tp for tp in self._app.consumer.assignment() if tp.topic in self._bindings}
        kept = {tp: partition for tp, partition in self._partitions.items() if tp in assigned}
        for tp in sorted(assigned - kept.keys()):
            kept[tp] = Partition(self._bindings[tp.topic], tp.partition, self._with)
            self.watchdog.watch(f"{tp.topic}[{tp.partition}]", partial(self._read_partition, tp))
            self.watchdog.watch(f"the snapshot of {tp.topic}[{tp.partition}]", partial(self._read_snapshot, tp))
        self._has_given_up = self._has_given_up or bool(self._partitions.keys() - kept.keys())
        self._partitions = kept
        await asyncio.gather(*(partition.own(lambda: self._assignment_number == number) for partition in kept.values()))
        self._tell()

    def _tell(self) -> None:
        if self._on_state is not None:
            self._on_state(self.state)

    # Work --------------------------------------------------------------------------------------------------

    async def _work(self, events: Sequence[Any]) -> int:
        """One take of the stream: the partitions at once, each in its order. Returns how many messages came of the
        partition with the most."""
        by_partition: dict[TP, list[SourceMessage]] = {}
        for event in events:
            by_partition.setdefault(event.message.tp, []).extend(event.message.value)  # a bundle of `OwnedConsumer`
        behind: dict[TP, int] = {}

        async def one(tp: TP, messages: list[SourceMessage]) -> None:
            partition = self._partitions.get(tp)
            if partition is not None and not await partition.work(messages):
                behind[tp] = partition.position

        await asyncio.gather(*(one(tp, messages) for tp, messages in by_partition.items()))
        if behind:
            await self._app.consumer.send_to(behind)
        return max(map(len, by_partition.values()), default=0)

    async def _tick(self, binding: Binding, every_s: float) -> None:
        """Writes the time into each owned partition. From a stopped owner it does no harm: it turns no clock back."""
        while True:
            await asyncio.sleep(every_s)
            owned = [p.partition for p in self._partitions.values() if p.owned and p.binding is binding]
            tick = encode_tick(time.time_ns() // 1000)
            ticks = (self._with.producer.produce(topics.EVENTS, number, b"%d" % number, tick) for number in owned)
            for result in await asyncio.gather(*ticks, return_exceptions=True):
                if isinstance(result, LogUnavailable):
                    _logger.warning("a tick was not written: %s", result)
                elif isinstance(result, BaseException):
                    raise result

    # Watching ----------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Looks at what only the event loop may: Faust, the group, the log's ends. The watchdog's thread does the rest.

        Faust can die without a word (a task that ended, a recovery that hangs)."""
        seen: dict[TP, tuple[tuple[object, ...], float]] = {}
        while True:
            await asyncio.sleep(0.5)
            self._loop_turns += 1
            if self._app.should_stop:
                raise RuntimeError(f"Faust has stopped: {self._app.crash_reason!r}")
            self._app.consumer.check_group()
            self._joined = self._app.consumer.is_member()
            if self._has_given_up:
                self._has_given_up = False
                gc.collect()
            self._ends = await self._look_at_partitions(seen)

    async def _look_at_partitions(self, seen: dict[TP, tuple[tuple[object, ...], float]]) -> dict[TP, int]:
        """Their logs' ends. `seen`: the progress of each, and since when it has been that."""
        now = time.monotonic()
        ends: dict[TP, int] = {}
        for tp, partition in list(self._partitions.items()):
            ends[tp] = self._end(tp, partition)
            progress = partition.progress
            if seen.get(tp, (None, 0.0))[0] != progress:
                seen[tp] = (progress, now)
            # What stands before the end may be nothing but a transaction's marks: looked up once it stands still.
            long = now - seen[tp][1] > self._host.stall_s / 2
            self._behind[tp] = await self._is_behind(partition, ends[tp], long)
            if partition.owned and not partition.state.caught_up and now - seen[tp][1] > 1.0:
                await asyncio.wait_for(partition.look_whether_caught_up(), _LOOK_TIMEOUT_S)
        return ends

    def _end(self, tp: TP, partition: Partition) -> int:
        """The end of the log as the last fetch had it."""
        try:
            found = self._app.consumer.highwater(tp) or 0
        except AssertionError:  # aiokafka, between two assignments
            found = 0
        return max(found, partition.state.position)

    async def _is_behind(self, partition: Partition, end: int, look: bool) -> bool:
        """Whether there is something to do: not owned yet, or messages from the position on."""
        if not partition.owned:
            return True
        if end <= partition.position:
            return False
        return not (look and await asyncio.wait_for(partition.is_drained(end), _LOOK_TIMEOUT_S))

    def _read_group(self) -> Reading:
        """A join that hangs, or a rebalance that never ends. Without its broker a worker stops too: the start waits."""
        return Reading(self._joined, not self._joined, "joining it, or a rebalance of it, does not end")

    def _read_partition(self, tp: TP) -> Reading:
        partition = self._partitions.get(tp)
        if partition is None:
            return Reading(None, False, "not ours")
        return Reading(partition.progress, self._behind.get(tp, not partition.owned), f"{partition.doing}, {partition}")

    def _read_snapshot(self, tp: TP) -> Reading:
        partition = self._partitions.get(tp)
        if partition is None or not partition.saving_s:
            return Reading(None, False, "none is being written")
        counters = partition.counters
        return Reading((counters.snapshots, counters.failed_snapshots), True, f"being written, {partition}")


async def _all(actions: Any) -> None:
    await asyncio.gather(*actions)


def _credentials(settings: KafkaSettings) -> Any:
    """SASL or TLS as Faust names it; None for plain text. Kerberos and OAuth are not passed through."""
    context = settings.ssl_context()
    if "sasl.username" in settings.security:
        mechanism = settings.security.get("sasl.mechanisms") or settings.security.get("sasl.mechanism")
        return faust.SASLCredentials(
            username=settings.security["sasl.username"],
            password=settings.security.get("sasl.password"),
            ssl_context=context,
            mechanism=mechanism,
        )
    return faust.SSLCredentials(context=context) if context is not None else None


async def _run_until_signalled(worker: Worker, on_start: Callable[[Worker], None] | None) -> None:
    if on_start is not None:
        on_start(worker)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    await worker.run()


def run_worker(
    settings: KafkaSettings,
    bindings: Sequence[Binding],
    snapshots: SnapshotStore,
    host: HostSettings | None = None,
    on_state: Callable[[WorkerState], None] | None = None,
    on_start: Callable[[Worker], None] | None = None,
) -> int:
    """Runs a worker until SIGTERM or SIGINT, then stops it cleanly. Returns the exit status 0.

    `on_state`: as of `Worker`; `on_start` is given the worker before it runs, for those who look at it from outside.
    Logging is the caller's to set up. The topics must be there (`streams.kafka.admin.ensure_topics`). Any failure
    ends the process with EXIT_FAILED: a supervisor starts it again.
    """
    try:
        asyncio.run(_run_until_signalled(Worker(settings, bindings, snapshots, host, on_state), on_start))
    except BaseException as error:
        stop_process(f"worker: {safe_message(error)}", error)
    return 0
