"""What the repairs of both hosts share: what they find and do, and the state that they begin with."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from streams.journal import REPAIR, JournalError
from streams.mending import Mended
from streams.processor import Output, PartitionProcessor, Processor, Step
from streams.snapshots import Snapshot, SnapshotError, SnapshotStore

Rise = Callable[[PartitionProcessor, Iterable[tuple[bytes, bytes]]], list[Output]]
"""Given what was emitted (key, value): what the state must say again, above it, where the two do not agree."""


class Finding(NamedTuple):
    """Something that is not as it was written, and what was done. `mended` is None where nothing was to be done."""

    what: str
    done: str
    mended: bool | None


@dataclass
class Repair:
    """What a repair is allowed to do, and what it has found so far."""

    dry_run: bool
    tell: Callable[[Finding], object] = lambda finding: None
    findings: list[Finding] = field(default_factory=list)

    def mended(self, what: str, done: str) -> None:
        """Something was damaged and is whole again, or will be without `dry_run`."""
        self._add(Finding(what, f"would be mended: {done}" if self.dry_run else f"mended: {done}", True))

    def lost(self, what: str, why: str) -> None:
        """Something is damaged and stays so."""
        self._add(Finding(what, f"not mended: {why}", False))

    def note(self, what: str, why: str) -> None:
        """Something is damaged and does no harm."""
        self._add(Finding(what, why, None))

    @property
    def whole(self) -> bool:
        """Whether everything that was found is mended."""
        return all(finding.mended is not False for finding in self.findings)

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.tell(finding)


class Beginning(NamedTuple):
    """The state that a repair begins with: of the newest snapshot that can be used, or that before the first entry."""

    state: PartitionProcessor
    snapshot: Snapshot | None
    unusable: list[str]
    """The snapshots that were passed over, each with the reason."""


def begin(
    store: SnapshotStore, processor: Processor, partition: int, refuses: Callable[[Snapshot], str | None]
) -> Beginning:
    """`refuses` says why a snapshot does not go with the journal, if it does not. Raises: SnapshotError."""
    unusable: list[str] = []
    fetch = partial(store.fetch, processor.name, partition)
    for path, found in store.inspect(processor.name, partition):
        reason = found if isinstance(found, str) else refuses(found)
        if reason is None:
            assert isinstance(found, Snapshot)
            try:
                return Beginning(processor.open(partition, found.state, fetch), found, unusable)
            except (ValueError, SnapshotError) as error:
                reason = str(error)
        unusable.append(f"{path}: {reason}")
    return Beginning(processor.open(partition, None, fetch), None, unusable)


def check_summary(name: str, mended: Mended, index: int, step: Step) -> None:
    """Raises: JournalError where a cut whose record is there comes to something else than it did."""
    cut = mended.cuts[index]
    if cut.summary is not None and step.summary != cut.summary:
        raise JournalError(
            f"{name}: replaying [{cut.start}, {cut.end}) came to {step.summary}, expected {cut.summary}: repair with "
            "the version of Taximeter that wrote the journal"
        )


def writer_name() -> str:
    """What a repair is called in the journal."""
    return f"{REPAIR}{os.getpid()}"


def describe(mended: Mended) -> str:
    """What a journal's damage comes to, in words."""
    unknown = [f"[{cut.start}, {cut.end})" for cut in mended.cuts if cut.summary is None]
    parts = [f"replayed from the source up to {mended.position}"]
    if unknown:
        parts.append(f"the lost {', '.join(unknown)} known from what stands beside it")
    if mended.tail:
        parts.append("what the lost end of the journal spoke of is worked in at the next start, with the same result")
    return "; ".join([*parts, "two new snapshots stand behind the damage"])
