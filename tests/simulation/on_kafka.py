"""A story on Kafka: workers, the group, the door, over the simulated log."""

import asyncio
from collections import defaultdict
from pathlib import Path

from schemas import topics
from streams.journal import Batch, Done, Open, decode_record
from streams.kafka.partition import Fenced
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable
from tests.simulation.client import Client, catalogue_entry, read_catalogue
from tests.simulation.cluster import Cluster, SimulatedProducer, SimulatedSink
from tests.simulation.group import Group
from tests.simulation.loop import Crash, Process, Stuck
from tests.simulation.outcome import Outcome, Record
from tests.simulation.story import Change, Fault
from tests.simulation.worker import SimulatedWorker
from tests.simulation.world import World

OUTPUTS = (topics.LINE_ITEMS, topics.INVOICES, topics.ALERTS, topics.REJECTIONS)
_DRAIN_S = 300.0
_REQUEST_BYTES_MAX = 3000
"""Of a step's line items a few: so most steps are emitted in several requests, and faults come between them."""
_MAY_STOP = (Crash, Fenced, LogUnavailable)
"""What a worker may stop itself for. Anything else is a broken promise."""
_MAY_LOSE = ("stand_still", "cut_off", "slow_send", "lost_ack", "failed_send", "late_write")
"""Without any of these no worker is late, and so none may lose its partitions to another."""


def tell(world: World, folder: Path) -> Outcome:
    """Runs the story and returns what it left behind."""
    return _Telling(world, folder).tell()


class _Telling:
    def __init__(self, world: World, folder: Path) -> None:
        story = world.story
        self.world, self.folder, self.story = world, folder, story
        self.settings = KafkaSettings(
            "simulated:9092", partitions=story.partitions, message_bytes_max=_REQUEST_BYTES_MAX
        )
        self.cluster = Cluster(world)
        self.workers: dict[str, SimulatedWorker] = {}
        self.lives: defaultdict[str, int] = defaultdict(int)
        self.problems: list[str] = []
        self.followed: dict[str, dict[int, list[Record]]] = {
            topic: {p: [] for p in range(story.partitions)} for topic in OUTPUTS
        }

    def tell(self) -> Outcome:
        loop = self.world.loop
        client = None
        try:
            client = loop.run(self._main())
        except Stuck as stuck:
            self.problems.append(f"stuck: {stuck}")
        self.problems += self.cluster.problems + loop.problems
        return Outcome(
            self.story,
            {
                p: [(at, at + 1, record.value) for at, record in enumerate(self.cluster.logs[topics.EVENTS, p])]
                for p in range(self.story.partitions)
            },
            {
                topic: {
                    p: [Record(r.key, r.value) for r in self.cluster.logs[topic, p]]
                    for p in range(self.story.partitions)
                }
                for topic in OUTPUTS
            },
            {p: [r.value for r in self.cluster.logs[topics.JOURNAL, p]] for p in range(self.story.partitions)},
            dict.fromkeys(range(self.story.partitions), 0),
            client.acknowledged if client else [],
            self.followed,
            self.problems,
        )

    async def _main(self) -> Client:
        world, story = self.world, self.story
        self.group = Group(world, topics.EVENTS, story.partitions, self.settings.session_timeout_s)
        first = catalogue_entry(read_catalogue(story.catalogue))
        for partition in range(story.partitions):
            self.cluster.append(topics.EVENTS, partition, [(b"", first)], "operator")
        tasks = [world.loop.create_task(self.group.run()), world.loop.create_task(self._follow())]
        for number in range(story.workers):
            self._start("abc"[number])
        supervisor = world.loop.create_task(self._supervise())
        client = Client(world, self._open_sink, self._publish)
        await self._send_all(client)
        world.healed = True
        world.say("no more faults")
        await self._drain()
        for task in (*tasks, supervisor):
            task.cancel()
        self._follow_once()
        return client

    # The client's side -------------------------------------------------------------------------------------

    def _open_sink(self, process: Process) -> SimulatedSink:
        producer = SimulatedProducer(self.cluster, process, self.settings.delivery_timeout_s, "door")
        return SimulatedSink(producer, self.settings)

    async def _publish(self, value: bytes) -> None:
        for partition in range(self.story.partitions):
            await asyncio.sleep(self.world.dice.uniform(0.0, 0.01))
            self.cluster.append(topics.EVENTS, partition, [(b"", value)], "operator")

    async def _send_all(self, client: Client) -> None:
        world, sent = self.world, list[asyncio.Task[None]]()
        for number, one in enumerate(self.story.inputs):
            wait = self.story.waits[number] if number < len(self.story.waits) else 0.0
            await asyncio.sleep(wait)
            self._timed_faults(number)
            if isinstance(one, Change):
                await asyncio.gather(*sent)
                await client.send(one)
            else:
                sent.append(world.loop.create_task(client.send(one)))
        self._timed_faults(len(self.story.inputs))
        await asyncio.gather(*sent)
        await asyncio.sleep(max([5.0, *(fault.seconds for fault in self.story.faults)]) + 12.0)

    def _timed_faults(self, number: int) -> None:
        for kind in ("cut_off", "join", "leave"):
            if fault := self.world.due(kind):
                self.world.loop.call_later(fault.part, self._come, fault)

    def _come(self, fault: Fault) -> None:
        alive = [worker for worker in self.workers.values() if not worker.process.dead]
        if fault.kind == "join":
            self._start(f"guest{fault.nth}-")
            return
        if not alive:
            return
        worker = alive[int(fault.part * 97) % len(alive)]
        if fault.kind == "leave":
            worker.leave()
        else:
            self.world.say(f"the group does not hear {worker.process.name} for {fault.seconds:.1f} s")
            self.group.cut_off[worker.process] = self.world.loop.time() + fault.seconds

    # Workers -----------------------------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        self.lives[name] += 1
        worker = SimulatedWorker(
            self.world, self.cluster, self.group, self.settings, self.folder / "snapshots", f"{name}{self.lives[name]}"
        )
        self.workers[name] = worker
        worker.start()

    async def _supervise(self) -> None:
        """Starts again whatever has stopped."""
        while True:
            await asyncio.sleep(0.5)
            for name, worker in list(self.workers.items()):
                process = worker.process
                if not process.dead:
                    continue
                if process.error is not None and not isinstance(process.error, _MAY_STOP):
                    error = process.error
                    self.problems.append(f"{process.name} stopped: {type(error).__name__}: {error}")
                if isinstance(process.error, Fenced):
                    self.world.happened["fenced workers"] += 1
                    if not any(self.world.happened[kind] for kind in _MAY_LOSE):
                        self.problems.append(f"{process.name} was fenced, and nothing had kept it from its partitions")
                if not process.reason.startswith("crash"):
                    self.world.say(f"{process.name} has ended: {process.reason[:200]}")
                if name.startswith("guest"):
                    del self.workers[name]
                else:
                    self._start(name)

    async def _drain(self) -> None:
        """Waits until everything is worked in and emitted. Raises: Stuck."""
        deadline = self.world.loop.time() + _DRAIN_S
        while not all(self._is_drained(partition) for partition in range(self.story.partitions)):
            if self.world.loop.time() > deadline:
                raise Stuck(f"not everything was worked in after {_DRAIN_S:.0f} s without faults")
            if len(self.problems) > 3:
                raise Stuck("workers stop again and again")
            await asyncio.sleep(0.5)

    def _is_drained(self, partition: int) -> bool:
        end = len(self.cluster.logs[topics.EVENTS, partition])
        done = epoch = 0
        for stored in self.cluster.logs[topics.JOURNAL, partition]:
            record = decode_record(stored.value)
            if isinstance(record, Open):
                epoch = max(epoch, record.epoch)
            elif isinstance(record, Done) and record.epoch == epoch:
                done = record.end
            elif isinstance(record, Batch) and record.epoch == epoch and record.end > done:
                done = -1
        return done == end

    # A reader ----------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """A consumer that never restarts."""
        while True:
            await asyncio.sleep(self.world.dice.uniform(0.5, 3.0))
            self._follow_once(self.world.dice.choice((1, 3, 100)))

    def _follow_once(self, most: int = 1_000_000) -> None:
        for topic, partitions in self.followed.items():
            for partition, read in partitions.items():
                new = self.cluster.logs[topic, partition][len(read) : len(read) + most]
                read += [Record(stored.key, stored.value) for stored in new]
