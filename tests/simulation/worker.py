"""One life of one worker: the real `streams.kafka.host.Worker` without Faust's app."""

import asyncio
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from rating.engine import RatingProcessor, RatingSettings
from rating.work import ByHand, Job
from streams.faults_hook import fault
from streams.kafka.binding import Binding
from streams.kafka.host import HostSettings, Worker, or_stop
from streams.kafka.ownership import StepLimits, Surroundings
from streams.kafka.settings import KafkaSettings
from streams.processor import Processor
from tests.simulation.cluster import Cluster, SimulatedProducer, SimulatedReader
from tests.simulation.disk import SimulatedDisk
from tests.simulation.group import Group, SimulatedConsumer
from tests.simulation.loop import Process
from tests.simulation.story import Story
from tests.simulation.world import World


class NoThreads(Executor):
    """The simulated loop does the work itself."""


class _App:
    """What `Worker` uses of Faust's app."""

    def __init__(self, consumer: SimulatedConsumer, group: Group, process: Process) -> None:
        self.consumer = consumer
        self._group, self._process = group, process

    async def stop(self) -> None:
        self._group.leave(self._process)


class SimulatedWorker:
    """A process that runs the host. `start` it; it works until it dies or `leave` is called."""

    def __init__(
        self, world: World, cluster: Cluster, group: Group, settings: KafkaSettings, disk: Path, name: str
    ) -> None:
        self.process = world.process(name)
        self._world, self._cluster, self._group, self._settings = world, cluster, group, settings
        self._disk = disk
        self.host: Worker | None = None

    def start(self) -> None:
        """Begins its life."""
        self._world.say(f"{self.process.name} starts")
        self._task(or_stop("start", self._main()))

    def leave(self) -> None:
        """SIGTERM."""
        if self.host is not None and not self.process.dead:
            self._world.say(f"{self.process.name} is told to stop")
            self._task(or_stop("stop", self._leave()))

    def _task(self, work: Any) -> None:
        self._world.loop.create_task(work, context=self.process.context)

    async def _main(self) -> None:
        story, settings = self._world.story, self._settings
        limits = StepLimits(
            entries=story.step_entries, wait_s=0.02, snapshot_s=30.0, snapshot_entries=story.snapshot_entries
        )
        processor = make_processor(story, self._disk.with_name(f"state of {self.process.name}"))
        disk = SimulatedDisk(self._world, self._disk)
        binding = Binding(processor)
        host = Worker(settings, [binding], disk, HostSettings(limits=limits))
        host._scratch.cleanup()
        host._writer = self.process.name
        timeout_s = min(settings.delivery_timeout_s, settings.session_timeout_s * 0.75)  # as `Worker.run` has it
        producer = SimulatedProducer(self._cluster, self.process, timeout_s)
        host._with = Surroundings(
            settings,
            producer,  # type: ignore[arg-type]
            producer,  # type: ignore[arg-type]
            NoThreads(),
            disk,
            host._writer,
            limits,
            lambda _, partition: SimulatedReader(self._cluster, partition),  # type: ignore[arg-type,return-value]
        )
        consumer = SimulatedConsumer(self._cluster, self.process, binding.source, limits.entries * 2)
        host._app = _App(consumer, self._group, self.process)
        self.host = host
        self._task(or_stop("fetch", consumer.fetch()))
        self._task(or_stop("agent", self._work(host, consumer, limits)))
        self._task(or_stop("group", self._be_member(host, consumer)))

    async def _work(self, host: Worker, consumer: SimulatedConsumer, limits: StepLimits) -> None:
        """The agent, as `Worker._add_agent` has it."""
        while True:
            events = await consumer.take(limits.entries, limits.wait_s)
            try:
                await or_stop("work", host._work(events))
            finally:
                for event in events:
                    self._group.acknowledge(event.message.tp, event.message.offset)
            fault("after_step")

    async def _be_member(self, host: Worker, consumer: SimulatedConsumer) -> None:
        while True:
            await host._on_revoked(None, consumer.assignment())
            consumer.assign(await self._group.join(self.process))
            self._task(or_stop("take over", self._take_over(host, consumer)))
            while True:
                await asyncio.sleep(self._settings.heartbeat_s)
                await self.process.awake()
                if self._group.heartbeat(self.process):
                    break

    async def _take_over(self, host: Worker, consumer: SimulatedConsumer) -> None:
        """What Faust does when the assignment is known: the signal, then `OwnedConsumer.perform_seek`."""
        await host._on_rebalanced(None)
        positions = {tp: host._position_of(tp) for tp in sorted(consumer.assignment())}
        await consumer.send_to({tp: position for tp, position in positions.items() if position is not None})

    async def _leave(self) -> None:
        assert self.host is not None
        await self.host._shut_down()
        self._world.happened["clean stops"] += 1
        self.process.die("left")


class _AtOnce(ByHand):
    """Writes and merges identities the moment it is asked to."""

    def submit(self, job: Job) -> None:
        super().submit(job)
        self.work()


def make_processor(story: Story, folder: Path) -> Processor:
    """The real engine, set as the oracle reads the contracts. In every other story identities lie in the folder."""
    settings = RatingSettings(partitions=story.partitions, lateness=0, corrections=2**60)
    if story.seed % 2:
        settings = replace(settings, folder=folder, identities_in_memory=3)
    return RatingProcessor(settings, worker=_AtOnce())
