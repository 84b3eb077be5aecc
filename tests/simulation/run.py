"""One story from beginning to end: run, judged."""

import gc
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import rating.engine
import rating.state
import streams.embedded.host
import streams.embedded.writer
import streams.faults_hook
import streams.kafka.host
import streams.kafka.partition
from rating.catalogue import load_catalogue
from rating.compiled import Compiled
from tests.simulation import client
from tests.simulation.loop import PROCESS
from tests.simulation.outcome import Outcome
from tests.simulation.story import Story
from tests.simulation.verdict import judge
from tests.simulation.world import World

_MEMORY = Path("/dev/shm")
_QUIET = ("streams", "rating", "ingest", "taximeter")


class _Clock:
    """The module `time`, as a simulated process sees it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        process = PROCESS.get()
        return self._world.loop.time() if process is None else process.now()

    def time_ns(self) -> int:
        return round(self.monotonic() * 1e9)

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"something sleeps {seconds} s of real time")


def _stop_process(reason: str, error: BaseException | None = None) -> None:
    """In place of `os._exit`: the simulated process is gone."""
    process = PROCESS.get()
    if process is not None and not isinstance(error, GeneratorExit):
        process.die(reason, error)
    raise error or RuntimeError(reason)


@lru_cache(maxsize=64)
def _compile(text: str | bytes, rebookings: tuple[Any, ...]) -> Compiled:
    return load_catalogue(text, rebookings)


def _load_catalogue(text: str | bytes, rebookings: Iterable[Any] = ()) -> Compiled:
    """The same text compiles to the same, and nothing changes it: a story's workers share it, to save time."""
    return _compile(text, tuple(rebookings))


@contextmanager
def simulated(world: World) -> Iterator[Path]:
    """Puts the simulated clock, the fault hook and the end of a process in place of the real ones. Yields a folder."""
    clock = _Clock(world)
    changes: list[tuple[Any, str, Any]] = [
        (streams.kafka.partition, "time", clock),
        (streams.kafka.host, "time", clock),
        (streams.embedded.host, "time", clock),
        (streams.embedded.writer, "time", clock),
        (streams.kafka.host, "stop_process", _stop_process),
        (streams.faults_hook, "hook", world.passed),
        *((module, "load_catalogue", _load_catalogue) for module in (rating.engine, rating.state, client)),
    ]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    levels = {name: logging.getLogger(name).level for name in _QUIET}
    folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        for module, name, value in changes:
            setattr(module, name, value)
        yield folder
    finally:
        world.loop.dispose()
        for module, name, value in before:
            setattr(module, name, value)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _no_collector() -> Iterator[None]:
    """A story is short: looking for garbage in it takes a fifth of its time. `collect` when some have been told."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def run_story(story: Story) -> Outcome:
    """Runs a story. What went wrong stands in `problems`, the verdict's included."""
    world = World(story)
    with _no_collector(), simulated(world) as folder:
        if story.host == "kafka":
            from tests.simulation.on_kafka import tell
        else:
            from tests.simulation.on_embedded import tell
        outcome = tell(world, folder)
    outcome.trace, outcome.happened = world.trace, world.happened
    if not any(problem.startswith("stuck") for problem in outcome.problems):
        try:
            outcome.problems += judge(outcome)
        except (AssertionError, ValueError, KeyError) as error:
            outcome.problems.append(f"cannot be judged: {type(error).__name__}: {error}")
    return outcome
