"""The watchdog: a thread that looks whether what has work to do still moves, and ends the process where it does not.

Who is watched says how far it is (anything that changes whenever something was done) and whether there is anything to
do. Work that lasts is not shot: a replay of an hour moves with every step. What stands still for `stall_s` while there
is work is hung: the process says what, since when and at which position, writes the stacks of all threads to standard
error, and exits with status 70. A start is the only way of mending it, and always safe.

A process that was itself stopped (SIGSTOP, a suspended machine) has not been watched meanwhile: that time does not
count against anyone.
"""

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

EXIT_STALLED: Final = 70
"""As of any other broken invariant (`EX_SOFTWARE`)."""
STALL_S: Final = 120.0
NEAR: Final = 0.75
"""From this share of `stall_s` on a process is no longer called live."""

_logger = logging.getLogger(__name__)


class Reading(NamedTuple):
    """What a probe says now."""

    progress: Hashable
    """Another one whenever something was done."""
    busy: bool
    """Whether there is anything to do; who waits for work may wait for ever."""
    text: str
    """What it is doing, and at which position."""


Probe = Callable[[], Reading]
"""Called in the watchdog's thread. It must not wait for what it watches."""


class Stall(NamedTuple):
    """Something that has work and does not move."""

    name: str
    seconds: float
    text: str

    def __str__(self) -> str:
        return f"{self.name} has stood still for {self.seconds:.0f} s: {self.text}"


OnStall = Callable[[Stall], object]


def stop_stalled(stall: Stall) -> None:
    """What happens by default: says it, dumps the stacks, ends the process without ceremony."""
    _logger.critical("stopping: %s", stall)
    for handler in logging.getLogger().handlers:
        handler.flush()
    print(f"stopping: {stall}", file=sys.__stderr__, flush=True)
    faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
    os._exit(EXIT_STALLED)


@dataclass
class _Seen:
    progress: Hashable
    since: float
    text: str
    busy: bool


class Watchdog:
    """Watches probes from `start` to `stop`."""

    def __init__(
        self, stall_s: float = STALL_S, on_stall: OnStall = stop_stalled, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stall_s = stall_s
        self._on_stall = on_stall
        self._clock = clock
        self._every_s = max(0.01, min(1.0, stall_s / 10))
        self._probes: dict[str, Probe] = {}
        self._seen: dict[str, _Seen] = {}
        self._looked: float | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, name: str, probe: Probe) -> None:
        """Watches something more from now on."""
        self._probes[name] = probe

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the watching."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def standing(self) -> Mapping[str, Stall]:
        """What has work and has not moved since it was last looked at, by name."""
        now = self._clock()
        seen = {name: one for name, one in self._seen.items() if one.busy}
        return {name: Stall(name, now - one.since, one.text) for name, one in seen.items()}

    def near(self) -> list[Stall]:
        """What is about to end the process."""
        return [stall for stall in self.standing().values() if stall.seconds >= NEAR * self.stall_s]

    def look(self) -> None:
        """Looks once at everything."""
        now = self._clock()
        over: list[str] = []
        asleep = 0.0 if self._looked is None else now - self._looked - self._every_s
        self._looked = now
        for name, probe in list(self._probes.items()):
            reading = probe()
            seen = self._seen.get(name)
            if seen is None or seen.progress != reading.progress or not reading.busy:
                self._seen[name] = _Seen(reading.progress, now, reading.text, reading.busy)
                continue
            if asleep > 5 * self._every_s:
                seen.since += asleep
            seen.text, seen.busy = reading.text, True
            if now - seen.since > self.stall_s:
                over.append(name)
        if over:
            # Who waits behind what hangs stands still as well: all are told, whichever is to blame.
            stalls = self.standing()
            also = "".join(f"; also {one}" for one in self.near() if one.name != over[0])
            self._on_stall(stalls[over[0]]._replace(text=stalls[over[0]].text + also))

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.look()
