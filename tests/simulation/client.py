"""The client and the real door in front of the log: requests are repeated until they are acknowledged."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ingest.door import Door, DoorSettings
from ingest.route import View
from rating.catalogue import load_catalogue
from schemas.entry import CATALOGUE, encode_entry
from schemas.faults import encode_document
from schemas.rejection import Rejection
from schemas.times import parse_time
from streams.log import LogUnavailable, Sink
from tests.simulation.loop import Process
from tests.simulation.story import Change, Events, Input, Tick
from tests.simulation.world import World

_HEADERS = [(b"content-type", b"application/cloudevents-batch+json")]


class Publisher(Protocol):
    """Writes an entry to every partition, without fail."""

    async def __call__(self, value: bytes) -> None: ...


class _NoRejections:
    async def publish(self, rejections: Sequence[Rejection]) -> None:
        raise AssertionError(f"the door refused {rejections}")


def read_catalogue(document: dict[str, Any] | str) -> Any:
    """The compiled documents."""
    return load_catalogue(document if isinstance(document, str) else json.dumps(document)).documents


def catalogue_entry(documents: Any) -> bytes:
    """The entry that a catalogue is."""
    return encode_entry(CATALOGUE, encode_document(documents))


class Client:
    """Sends a story's inputs. `open_sink`: the log, as a new door's process sees it."""

    def __init__(self, world: World, open_sink: Callable[[Process], Sink], publish: Publisher) -> None:
        self._world, self._open_sink, self._publish = world, open_sink, publish
        self._doors = 0
        self._door: Door | None = None
        self._process: Process | None = None
        self._view = View.of(read_catalogue(world.story.catalogue))
        self.acknowledged: list[str] = []

    async def send(self, one: Input) -> None:
        """One input, until it is acknowledged."""
        if isinstance(one, Events):
            body = f"[{','.join(one.texts)}]".encode()
            micros = parse_time(one.arrival)
            receipt = await self._insist(lambda door: door.take(body, _HEADERS, "default"), micros)
            refused = {fault.at for fault in receipt.refused}
            self.acknowledged += [text for at, text in enumerate(one.texts) if at not in refused]
            self._world.say(f"{len(one.texts)} events are acknowledged")
        elif isinstance(one, Tick):
            micros = parse_time(one.time)
            await self._insist(lambda door: door.tick(micros), micros)
        else:
            await self._change(one)

    async def _change(self, one: Change) -> None:
        documents = read_catalogue(one.catalogue)
        await self._publish(catalogue_entry(documents))
        self._view = View.of(documents)
        self._world.say("the catalogue is changed")

    async def _insist(self, ask: Callable[[Door], Any], micros: int) -> Any:
        for _ in range(50):
            door, process = self._open_door()
            task = self._world.loop.create_task(_asked(door, ask, micros), context=process.context)
            if fault := self._world.due("door_crash"):
                self._world.loop.call_later(fault.part * 0.02, self._kill, process)
            while not task.done() and not process.dead:
                await asyncio.wait([task], timeout=0.5)
            if process.dead and not task.done():
                continue
            error = task.exception()
            if error is None:
                return task.result()
            if not isinstance(error, LogUnavailable):
                raise error
            self._world.say("503: the client repeats its request")
            await asyncio.sleep(self._world.dice.uniform(0.1, 1.0))
        raise AssertionError("the door took nothing 50 times")

    def _open_door(self) -> tuple[Door, Process]:
        if self._door is None or self._process is None or self._process.dead:
            self._doors += 1
            self._process = self._world.process(f"door {self._doors}")
            settings = DoorSettings(max_ahead=None)
            self._door = Door(self._open_sink(self._process), _NoRejections(), lambda _: self._view, settings)
        return self._door, self._process

    def _kill(self, process: Process) -> None:
        self._world.say(f"{process.name} is killed")
        process.die("killed")


async def _asked(door: Door, ask: Callable[[Door], Any], micros: int) -> Any:
    door.clock = lambda: micros
    return await ask(door)
