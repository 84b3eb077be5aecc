"""A story on the embedded host: the real partitions' loop over the real SQLite log, in one simulated process.

The log's writing thread is the only one beside; whoever calls it waits for it, so nothing depends on how fast it is.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import streams.faults_hook
from schemas import topics
from streams.embedded.host import HostSettings, _Partition
from streams.embedded.log import SqliteLog
from streams.journal import Batch
from streams.log import LogUnavailable
from streams.processor import Output, PartitionProcessor
from tests.simulation.client import Client, catalogue_entry, read_catalogue
from tests.simulation.disk import SimulatedDisk
from tests.simulation.loop import Crash, Stuck
from tests.simulation.outcome import Outcome, Record
from tests.simulation.story import Change
from tests.simulation.worker import make_processor
from tests.simulation.world import World

OUTPUTS = (topics.LINE_ITEMS, topics.INVOICES, topics.ALERTS, topics.REJECTIONS)
_STEPS_MAX = 2000


def tell(world: World, folder: Path) -> Outcome:
    """Runs the story and returns what it left behind."""
    return _Telling(world, folder).tell()


class _Log(SqliteLog):
    """The real log, on a disk that is full now and then."""

    world: World

    def commit_step(self, partition: int, batch: Batch | None, epoch: int, end: int, outputs: Sequence[Output]) -> int:
        self._take()
        return super().commit_step(partition, batch, epoch, end, outputs)

    def open_epoch(self, partition: int, epoch: int, writer: str) -> int:
        self._take()
        return super().open_epoch(partition, epoch, writer)

    def append_blocking(self, partition: int, value: bytes, events: int) -> int:
        self._take()
        return super().append_blocking(partition, value, events)

    def _take(self) -> None:
        if self.world.due("full_log"):
            self.world.say("the log takes nothing: the disk is full")
            raise LogUnavailable("the disk is full")


class _NoWait(threading.Event):
    """The host's wish to stop: nobody waits for it in real time."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


class _Life:
    """One life of the process: log, host, and whether it is dead. `open` it first."""

    def __init__(self, world: World, folder: Path, number: int, follow: Callable[[], None]) -> None:
        self.world, self.process, self.follow = world, world.process(f"process {number}"), follow
        self._folder = folder
        self.log = _Log(folder / "data", world.story.partitions)
        self.log.world = world
        self.partitions: list[_Partition] = []
        self.states: list[PartitionProcessor] = []

    def open(self) -> None:
        """Restores every partition."""
        world, story = self.world, self.world.story
        disk = SimulatedDisk(world, self._folder / "snapshots", spare=True)
        settings = HostSettings(
            step_entries_max=story.step_entries,
            snapshot_offsets=story.snapshot_entries * 2,
            tick_seconds=None,
            writer=self.process.name,
        )
        processor = make_processor(story, self._folder / "identities")
        self.partitions = [
            _Partition(number, self.log, processor, disk, settings, lambda: None, _NoWait())
            for number in range(story.partitions)
        ]
        self.states = [partition._restore() for partition in self.partitions]
        for partition in self.partitions:
            world.say(f"{self.process.name} has restored partition {partition.number} to {partition.position}")

    def step(self, number: int) -> bool:
        """One turn of a partition's loop. Returns whether there was something to do."""
        partition, state = self.partitions[number], self.states[number]
        entries = partition._read()
        if entries:
            partition._step(state, entries)
            self.world.say(f"{self.process.name} has worked partition {number} to {partition.position}")
        self.follow()  # before the journal is trimmed
        if partition._is_snapshot_due():
            partition._snapshot(state)
        return bool(entries)

    def stop(self) -> None:
        """A clean stop: a snapshot of each partition."""
        for partition, state in zip(self.partitions, self.states, strict=True):
            partition._snapshot(state)


class _Sink:
    """The source's open end, as the door sees it: that of the process that lives."""

    def __init__(self, telling: "_Telling") -> None:
        self.partitions = telling.world.story.partitions
        self._telling = telling

    async def append(self, partition: int, value: bytes, events: int) -> int:
        """See `streams.log.Sink.append`."""
        life = self._telling.life
        if life is None or life.process.dead:
            raise LogUnavailable("the process is gone")
        end = life.log.append_blocking(partition, value, events)
        self._telling.world.say(f"the door has written {max(events, 1)} to partition {partition}, up to {end}")
        return end


class _Telling:
    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder, self.story = world, folder, world.story
        self.life: _Life | None = None
        self.lives = 0
        self.over = False
        self.problems: list[str] = []
        numbers = range(world.story.partitions)
        self.journals: dict[int, list[bytes]] = {number: [] for number in numbers}
        self.followed: dict[str, dict[int, list[Record]]] = {topic: {n: [] for n in numbers} for topic in OUTPUTS}

    def tell(self) -> Outcome:
        streams.faults_hook.hook = self._passed
        client, numbers = None, range(self.story.partitions)
        try:
            client = self.world.loop.run(self._main())
        except Stuck as stuck:
            self.problems.append(f"stuck: {stuck}")
        self._close()
        self.problems += self.world.loop.problems
        streams.faults_hook.hook = None
        log = SqliteLog(self.folder / "data", self.story.partitions)
        try:
            return Outcome(
                self.story,
                {n: [(r.offset, r.end, r.value) for r in log.read_records(topics.EVENTS, n, 0)] for n in numbers},
                {
                    topic: {n: [Record(r.key, r.value) for r in log.read_records(topic, n, 0)] for n in numbers}
                    for topic in OUTPUTS
                },
                self.journals,
                dict.fromkeys(numbers, 0),
                client.acknowledged if client else [],
                self.followed,
                self.problems,
            )
        finally:
            log.close()

    def _passed(self, place: str) -> None:
        """The fault hook: there is one process, whichever thread it is in."""
        if self.life is None:
            return
        process = self.life.process
        if process.dead:
            raise Crash(process.name)
        self.world.happened[f"passed {place}"] += 1
        if self.world.due("crash", place) or self.world.is_doomed():
            self.world.happened[f"crash {place}"] += 1
            self.world.say(f"{process.name} crashes {place}")
            process.die(f"crash {place}")
            raise Crash(process.name)

    async def _main(self) -> Client:
        world, story = self.world, self.story
        host = world.loop.create_task(self._host())
        client = Client(world, lambda _: _Sink(self), self._publish)
        await self._publish(catalogue_entry(read_catalogue(story.catalogue)))
        sent: list[asyncio.Task[None]] = []
        for number, one in enumerate(story.inputs):
            await asyncio.sleep(min(story.waits[number] if number < len(story.waits) else 0.0, 0.5))
            if isinstance(one, Change):
                await asyncio.gather(*sent)
                await client.send(one)
            else:
                sent.append(world.loop.create_task(client.send(one)))
        await asyncio.gather(*sent)
        await asyncio.sleep(2.0)
        world.healed = True
        world.say("no more faults")
        self.over = True
        await host
        return client

    async def _publish(self, value: bytes) -> None:
        for _ in range(50):
            life = self.life
            if life is not None and not life.process.dead:
                try:
                    life.log.append_everywhere_blocking(value)
                    return
                except LogUnavailable:
                    pass
            await asyncio.sleep(0.2)
        raise AssertionError("the log took no catalogue 50 times")

    async def _host(self) -> None:
        """Works until the story is over and everything is worked in."""
        for _ in range(_STEPS_MAX):
            await asyncio.sleep(self.world.dice.uniform(0.01, 0.1))
            with self._surviving():
                if self.life is None:
                    self._open()
                elif self.life.process.dead:
                    raise Crash(self.life.process.name)
                elif self.world.due("leave"):
                    self.world.say(f"{self.life.process.name} is told to stop")
                    self.life.stop()
                    self.world.happened["clean stops"] += 1
                    self._follow()
                    self._close()
                else:
                    busy = [self.life.step(number) for number in self._turns()]
                    self._follow()
                    if self.over and not any(busy):
                        self.life.stop()
                        return
        raise Stuck(f"not everything was worked in after {_STEPS_MAX} turns")

    def _turns(self) -> list[int]:
        numbers = list(range(self.story.partitions))
        self.world.dice.shuffle(numbers)
        return numbers[: self.world.dice.randint(1, len(numbers))] if not self.over else numbers

    def _open(self) -> None:
        self.lives += 1
        self.life = _Life(self.world, self.folder, self.lives, self._follow)
        self.life.open()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """A crash ends the process; what else ends it is a problem."""
        try:
            yield
        except BaseException as error:
            process = self.life.process if self.life else None
            if isinstance(error, asyncio.CancelledError | GeneratorExit):
                raise
            if process is None or not process.dead:
                self.problems.append(f"stopped: {type(error).__name__}: {error}")
                if len(self.problems) > 3:
                    raise Stuck("the process stops again and again") from error
            self._follow()
            self._close()

    def _close(self) -> None:
        life, self.life = self.life, None
        if life is not None:
            life.log.close()

    def _follow(self) -> None:
        """A reader that never restarts, also of the journal, before it is trimmed."""
        life = self.life
        if life is None:
            return
        for number, read in self.journals.items():
            read += [record.value for record in life.log.read_records(topics.JOURNAL, number, len(read))]
        for topic, partitions in self.followed.items():
            for number, seen in partitions.items():
                records = life.log.read_records(topic, number, len(seen))
                seen += [Record(record.key, record.value) for record in records]
