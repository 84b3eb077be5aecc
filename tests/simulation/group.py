"""A small group coordinator and consumer: what Kafka and Faust do between the log and `streams.kafka.host`.

All members stop, say so, and get partitions by round robin (the eager protocol, as Faust has it). Who is not heard of
for a session is dropped. The consumer delivers as Faust was seen to: it leaves messages out, brings them again, brings
what it had fetched before a rebalance, and goes where it is sent.
"""

import asyncio
import random
from collections import deque
from typing import NamedTuple

from faust.types import TP

from streams.kafka.source import SourceMessage
from tests.simulation.cluster import Cluster
from tests.simulation.loop import Process
from tests.simulation.world import World


class Group:
    """The coordinator, on the broker's side."""

    def __init__(self, world: World, topic: str, partitions: int, session_s: float) -> None:
        self._world, self._session_s = world, session_s
        self._all = [TP(topic, partition) for partition in range(partitions)]
        self._heard: dict[Process, float] = {}
        self._waiting: dict[Process, asyncio.Future[set[TP]]] = {}
        self._unsettled = False
        self._changed = asyncio.Event()
        self.acknowledged: dict[TP, int] = {}
        """What Faust would have committed: it acknowledges what an exception leaves undone. Nobody may rely on it."""
        self.cut_off: dict[Process, float] = {}
        """Whose heartbeats do not come through, and until when."""

    def _reaches(self, process: Process) -> bool:
        return self.cut_off.get(process, 0.0) <= self._world.loop.time()

    def heartbeat(self, process: Process) -> bool:
        """Whether the member is to join anew."""
        if not self._reaches(process):
            return False
        if process not in self._heard:
            return True
        self._heard[process] = self._world.loop.time()
        return self._unsettled

    async def join(self, process: Process) -> set[TP]:
        """Waits for the others, and returns what is assigned to this member."""
        while not self._reaches(process):
            await asyncio.sleep(0.5)
        await process.awake()
        self._heard[process] = self._world.loop.time()
        future = self._waiting[process] = self._world.loop.create_future()
        self._unsettle()
        return await future

    def acknowledge(self, tp: TP, offset: int) -> None:
        """A message was taken from the stream, whatever became of it."""
        self.acknowledged[tp] = max(offset + 1, self.acknowledged.get(tp, 0))

    def leave(self, process: Process) -> None:
        """The member says goodbye."""
        self._heard.pop(process, None)
        self._waiting.pop(process, None)
        self._unsettle()

    def _unsettle(self) -> None:
        self._unsettled = True
        self._changed.set()

    async def run(self) -> None:
        """Drops silent members, and assigns when all the others wait."""
        while True:
            if self._unsettled and self._heard and all(member in self._waiting for member in self._heard):
                self._assign()
            silent = min((heard for member, heard in self._heard.items() if member not in self._waiting), default=None)
            self._changed.clear()
            wait_s = None if silent is None else max(0.01, silent + self._session_s - self._world.loop.time())
            try:
                await asyncio.wait_for(self._changed.wait(), wait_s)
            except TimeoutError:
                self._drop_silent()

    def _drop_silent(self) -> None:
        now = self._world.loop.time()
        for member, heard in list(self._heard.items()):
            if member not in self._waiting and now - heard >= self._session_s:
                self._world.say(f"the group gives {member.name} up")
                del self._heard[member]
                self._unsettled = True

    def _assign(self) -> None:
        self._unsettled = False
        self._world.happened["rebalances"] += 1
        members = sorted(self._waiting, key=lambda member: member.name)
        shares: dict[Process, set[TP]] = {member: set() for member in members}
        for at, tp in enumerate(self._all):
            shares[members[at % len(members)]].add(tp)
        told = {m.name: sorted(tp.partition for tp in share) for m, share in shares.items()}
        self._world.say(f"the group assigns {told}")
        for member, future in self._waiting.items():
            if not future.done():
                future.set_result(shares[member])
        self._waiting.clear()


class Message(NamedTuple):
    """What `streams.kafka.host` reads of Faust's message."""

    tp: TP
    offset: int
    value: list[SourceMessage]


class Event(NamedTuple):
    """The same of Faust's event."""

    message: Message


class SimulatedConsumer:
    """Faust's consumer and the stream's buffer of one process."""

    def __init__(self, cluster: Cluster, process: Process, topic: str, buffered: int) -> None:
        self._cluster, self._world, self._process, self._topic = cluster, cluster.world, process, topic
        self._buffered = buffered
        self._positions: dict[TP, int | None] = {}
        """Where to fetch next; None for one that is paused."""
        self._buffer: deque[Event] = deque()
        self._dropped: set[int] = set()
        self._woken = asyncio.Event()
        self._arrived = asyncio.Event()
        self._dice = random.Random(f"{self._world.story.seed} {process.name} consumer")
        cluster.on_entry.append(self._woken.set)

    def assignment(self) -> set[TP]:
        """See `OwnedConsumer`."""
        return set(self._positions)

    def assign(self, tps: set[TP]) -> None:
        """A new assignment: nothing of it is fetched yet."""
        self._positions = dict.fromkeys(sorted(tps))
        if self._world.due("stale_messages"):
            self._world.say(f"{self._process.name} keeps {len(self._buffer)} messages fetched before the rebalance")
        else:
            self._buffer.clear()

    async def send_to(self, positions: dict[TP, int]) -> None:
        """See `OwnedConsumer.send_to`."""
        await self._process.awake()
        await asyncio.sleep(self._dice.uniform(0.0, 0.01))
        self._positions.update({tp: at for tp, at in positions.items() if tp in self._positions})
        self._woken.set()

    async def fetch(self) -> None:
        """Fetches for ever."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            await asyncio.sleep(self._dice.uniform(0.001, 0.01))
            for tp in list(self._positions):
                self._fetch_some(tp)

    def _fetch_some(self, tp: TP) -> None:
        log, at = self._cluster.logs[tp.topic, tp.partition], self._positions[tp]
        if at is None or at >= len(log) or len(self._buffer) >= self._buffered:
            return
        end = min(at + self._dice.choice((1, 2, 4)), len(log))
        for offset in range(at, end):
            if offset + 1 < len(log) and offset not in self._dropped and self._world.due("dropped_message"):
                self._dropped.add(offset)  # the same one twice is an error, and stops the worker by design
                self._world.say(f"{self._process.name} is not told of entry {offset} of partition {tp.partition}")
                continue
            self._buffer.append(
                Event(Message(tp, offset, [SourceMessage(offset, 0, log[offset].key, log[offset].value)]))
            )
        if self._world.due("repeated_messages"):
            back = self._dice.randint(1, 3)
            self._world.say(f"{self._process.name} is brought the last {back} entries of {tp.partition} again")
            end = max(0, end - back)
        self._positions[tp] = end
        self._arrived.set()
        self._woken.set()

    async def take(self, most: int, within_s: float) -> list[Event]:
        """What Faust's `take_events` brings: at least one."""
        while not self._buffer:
            self._arrived.clear()
            await self._arrived.wait()
        if len(self._buffer) < most:
            await asyncio.sleep(self._dice.uniform(0.0, within_s))
        taken = [self._buffer.popleft() for _ in range(min(most, len(self._buffer)))]
        self._woken.set()
        return taken
