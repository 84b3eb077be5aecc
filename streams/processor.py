"""What a host runs: a processor, and what goes in and comes out of it. Hosts know nothing of money.

A processor is a deterministic fold over the entries of one partition's log. It has no clock, no network and no
random number: the same entries in the same steps give the same state, the same outputs and the same summary.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeAlias, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.entry import Entry


class Output(NamedTuple):
    """One record for a topic. It goes to the partition of the log that it came from."""

    topic: str
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Many outputs of one topic, at least one, one behind the other in memory; each is made when it is asked for.

    Output k has the key `keys[k * width : (k + 1) * width]` and the value `values[ends[k] : ends[k + 1]]`. A host may
    take all of them at once, from where they stand (`ends` has no gaps in memory; what `values` holds behind the last
    end is of no output, and nobody may read it). None of them is for
    `taximeter.events`, whose outputs say where they go one by one.
    """

    topic: str
    width: int
    keys: bytes
    values: bytes
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __iter__(self) -> Iterator[Output]:
        topic, width, keys, values = self.topic, self.width, self.keys, self.values
        for at, (begin, end) in enumerate(pairwise(self.ends.tolist())):
            yield Output(topic, keys[at * width : (at + 1) * width], values[begin:end])

    def part(self, start: int, end: int) -> "Block":
        """Outputs `[start, end)`, at least one, from where they stand."""
        keys = self.keys[start * self.width : end * self.width]
        return Block(self.topic, self.width, keys, self.values, self.ends[start : end + 1])

    def with_values(self, values: Sequence[bytes]) -> "Block":
        """The same keys with other values."""
        ends = np.cumsum([0, *map(len, values)], dtype=np.int64)
        return Block(self.topic, self.width, self.keys, b"".join(values), ends)


Part: TypeAlias = Output | Block


class Outputs(Sequence[Output]):
    """Outputs in their order, of which many may stand in blocks."""

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self.parts: Sequence[Part] = list(parts)
        self._count = sum(len(part) if isinstance(part, Block) else 1 for part in self.parts)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Output]:
        for part in self.parts:
            if isinstance(part, Block):
                yield from part
            else:
                yield part

    @overload
    def __getitem__(self, at: int) -> Output: ...
    @overload
    def __getitem__(self, at: slice) -> list[Output]: ...
    def __getitem__(self, at: int | slice) -> Output | list[Output]:
        return list(self)[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list has none


def parts_of(outputs: Sequence[Output]) -> Sequence[Part]:
    """The outputs in their order, in blocks where they stand in blocks."""
    return outputs.parts if isinstance(outputs, Outputs) else outputs


class Counts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What some steps did, in whole numbers.

    `events == accepted + duplicates + conflicts`, and every accepted event is in one class:
    `accepted == rated + refused + voids + voided + unused`. `rejected` counts rejections other than conflicts (an
    accepted event may be rejected for one meter and counted by another); `amount` is the change of all line items'
    amounts, as a scaled number's text.
    """

    entries: int = 0
    events: int = 0
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    line_items: int = 0
    invoices: int = 0
    alerts: int = 0
    amount: str = "0"
    rated: int = 0
    """Events that some charge counted when they came."""
    refused: int = 0
    """Events that nothing counted and some meter rejected."""
    voids: int = 0
    """Events that take others back."""
    voided: int = 0
    """Events that had been taken back before they came."""
    unused: int = 0
    """Events that no meter reads, or no charge asks for."""
    taken_back: int = 0
    """Of the rated, now or before: those that a void took back."""

    def plus(self, other: "Counts") -> "Counts":
        """The sum of both."""
        added = {name: getattr(self, name) + getattr(other, name) for name in COUNTED}
        return Counts(amount=str(int(self.amount) + int(other.amount)), **added)

    def minus(self, other: "Counts") -> "Counts":
        """The difference of both."""
        left = {name: getattr(self, name) - getattr(other, name) for name in COUNTED}
        return Counts(amount=str(int(self.amount) - int(other.amount)), **left)

    def carried(self) -> "Counts":
        """The figures that are carried from step to step."""
        return Counts(amount=self.amount, **{name: getattr(self, name) for name in CARRIED})


COUNTED: Final = tuple(name for name in Counts.__struct_fields__ if name != "amount")
"""The figures of `Counts` that are whole numbers."""
CARRIED: Final = tuple(name for name in COUNTED if name != "line_items")
"""Those that do not depend on how the source is cut into steps: a line is written once a step, if it has changed."""


class Summary(Counts, frozen=True, omit_defaults=True):
    """What a step did. It stands in the journal, and a replay must give the same again.

    `through`: the `CARRIED` figures of all steps up to and with this one, where the processor keeps them in its state.
    Whoever adds the steps up by himself must come to them: that is how a running system is reconciled.
    """

    through: Counts | None = None


class Step(NamedTuple):
    """The result of processing some entries: what to emit, in this order, and what was done."""

    outputs: Sequence[Output]
    summary: Summary


class StepObserver(Protocol):
    """Is told of each step that a host has committed, in the host's thread. It changes nothing, and raises nothing."""

    def stepped(self, partition: int, entries: Sequence[Entry], step: Step, begun_ns: int) -> None:
        """What was worked in and what came of it, when all of it is durable. `begun_ns`: of the clock."""
        ...


Fetch = Callable[[str, Path], None]
"""Brings the file of that name, which a snapshot rests on, to a place of the caller's. Raises: SnapshotError."""


def no_files(name: str, to: Path) -> None:
    """The `Fetch` of a state that rests on no files."""
    raise LookupError(f"found the file {name} in a snapshot, expected none")


class PartitionProcessor(Protocol):
    """The state of one partition, and the fold that moves it on.

    `process` may change the state in place: a host that cannot journal a step stops, and the state with it.
    An exception from `process` is a broken invariant: the host stops the process. Bad input is an output.
    """

    def process(self, entries: Sequence[Entry]) -> Step:
        """Folds the entries, which follow each other without a gap, into the state."""
        ...

    def snapshot(self) -> bytes:
        """The whole state, for `Processor.open` of this or a later version."""
        ...

    def files(self) -> Mapping[str, Path]:
        """The local files that the state of the last `snapshot` rests on, by name: what is too large to be written anew
        each time. Made by `streams.durable.write_named`; they never change, and stay until `snapshot` is called again.
        """
        ...


class Processor(Protocol):
    """Makes partition processors."""

    name: str
    """Names the consumer group and the folder of the snapshots."""

    def open(self, partition: int, snapshot: bytes | None, fetch: Fetch) -> PartitionProcessor:
        """The state of a partition as a snapshot has it; without one, as it is before the first entry.

        `fetch`: for the files that the snapshot rests on. Raises: ValueError on a snapshot of another version.
        """
        ...
