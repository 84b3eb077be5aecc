"""A story: everything that happens in one simulated run, as plain data, so that it can be printed and cut down.

What is not in it (how long each message takes on the network, which of two ready things goes first) follows from the
seed, by dice of their own for each purpose.
"""

import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple


class Events(NamedTuple):
    """One request with some usage events, at `arrival` by the door's clock."""

    arrival: str
    texts: tuple[str, ...]
    """CloudEvents, as the client writes them."""


class Tick(NamedTuple):
    """The time, written into each partition."""

    time: str


class Change(NamedTuple):
    """A changed catalogue, whole, written into each partition."""

    catalogue: str


Input = Events | Tick | Change

Kind = Literal[
    "crash",  # at a place, the process is gone
    "stand_still",  # at a place, the process stops for `seconds` and goes on
    "cut_off",  # no heartbeat of a worker comes through for `seconds`, and all else goes on
    "join",  # one more worker comes
    "leave",  # a worker is stopped cleanly; another takes its place later
    "lost_ack",  # a send is written, its acknowledgement never comes
    "failed_send",  # a send is not written, and fails
    "late_write",  # a send fails, and is written afterwards
    "slow_send",  # a send takes `seconds`
    "failed_read",  # the log cannot be read
    "dropped_message",  # the consumer leaves a message out
    "repeated_messages",  # the consumer brings some messages again
    "stale_messages",  # what was fetched before a rebalance comes after it
    "torn_snapshot",  # the newest snapshot ends too early
    "flipped_bit",  # one bit of the newest snapshot is another
    "full_disk",  # a snapshot cannot be written
    "full_log",  # the embedded log takes nothing, `times` times
    "door_crash",  # the door is gone in the middle of a request; the client repeats it
]


class Fault(NamedTuple):
    """One fault. It happens at the `nth` time that it could."""

    kind: Kind
    nth: int
    place: str = ""
    """For a crash or a standstill, where; for a send, whose: `journal`, `outputs` or `door`."""
    seconds: float = 0.0
    part: float = 0.5
    """How far into something, from 0 to 1."""

    def __str__(self) -> str:
        about = f" at {self.place}" if self.place else ""
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.kind.replace('_', ' ')}{about}{lasting}, time number {self.nth}"


@dataclass(frozen=True)
class Story:
    """See the module."""

    seed: int
    host: Literal["kafka", "embedded"]
    partitions: int
    workers: int
    step_entries: int
    """How many entries a step takes at most."""
    snapshot_entries: int
    catalogue: dict[str, Any]
    inputs: tuple[Input, ...]
    faults: tuple[Fault, ...]
    waits: tuple[float, ...] = field(default=())
    """How long the client waits before each input."""

    def only(self, **changes: Any) -> "Story":
        """The same with changes."""
        return replace(self, **changes)

    def lines(self) -> list[str]:
        """What is given, for people."""
        found = [
            f"seed {self.seed}: {self.host}, {self.partitions} partitions, {self.workers} workers, steps of at most "
            f"{self.step_entries} entries, a snapshot after {self.snapshot_entries}",
            f"catalogue: {json.dumps(self.catalogue)}",
        ]
        for one in self.inputs:
            if isinstance(one, Events):
                found.append(f"input: at {one.arrival} {len(one.texts)} events: {' '.join(one.texts)}")
            elif isinstance(one, Tick):
                found.append(f"input: tick {one.time}")
            else:
                found.append(f"input: changed catalogue {one.catalogue}")
        found += [f"fault: {fault}" for fault in self.faults]
        return found
