"""The status of a running system, or of what one has left: how far each partition is, and whether its figures agree.

`Status` is the JSON of `GET /v1/status` and of `taximeter status --json`; where it comes from is decided by who fills
it in (`status_parts`, `status_data`, `status_kafka`). A partition is reconciled when its equation holds and nothing was
found to differ. Unknown figures are left out and never made up.
"""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Literal

import msgspec

from streams.processor import Counts
from streams.sums import CLASSES, equations

Host = Literal["embedded", "kafka worker", "spend", "data folder", "kafka topics", "door"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Two sides of one thing that differ."""

    partition: int | None
    position: int
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        where = "all partitions" if self.partition is None else f"partition {self.partition}"
        return f"{where} at position {self.position}: {self.what} should be {self.expected}, found {self.found}"


class SnapshotStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The newest snapshot. `age_seconds`: since it was written or loaded by this process."""

    position: int
    age_seconds: float | None = None
    written: int = 0
    failed: int = 0


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One partition of the source. Positions and lag are offsets of the log: events on the embedded one, messages on
    Kafka."""

    partition: int
    position: int
    end: int
    ready: bool = True
    doing: str = ""
    lag_seconds: float | None = None
    """How old the oldest entry is that is not worked in; 0 where there is none."""
    epoch: int | None = None
    writer: str | None = None
    snapshot: SnapshotStatus | None = None
    restore_seconds: float | None = None
    replayed_steps: int | None = None
    emitted_again: int | None = None
    committed: int | None = None
    """The consumer group's offset: a courtesy that no worker trusts."""
    gaps: int | None = None
    repeated_messages: int | None = None
    steps: int | None = None
    line_items: int | None = None
    """Written by this process, each revision anew."""
    totals: Counts | None = None
    """Of all steps up to `through`."""
    through: int | None = None
    differences: list[Finding] = []

    @property
    def lag(self) -> int:
        """How many offsets are not worked in."""
        return max(self.end - self.position, 0)

    @property
    def equation(self) -> str:
        """What became of all events, in figures."""
        if self.totals is None:
            return ""
        of = self.totals
        verdicts = f"{of.accepted:,} accepted + {of.duplicates:,} duplicates + {of.conflicts:,} conflicts"
        named = [("rated", of.rated), ("refused", of.refused), ("voids", of.voids), ("voided", of.voided)]
        named.append(("unused", of.unused))
        shown = [f"{count:,} {name}" for name, count in named if count or name == "rated"]
        return f"{of.events:,} events = {verdicts}; {of.accepted:,} accepted = {' + '.join(shown)}"

    @property
    def reconciled(self) -> bool:
        """Whether the equation holds and nothing differs."""
        if self.totals is not None and any(left != right for _, left, right in equations(self.totals)):
            return False
        return not self.differences


class SpendStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The spend store: how far each partition's answers are, and what its last comparison with the journal came to."""

    through: dict[int, int]
    compared: dict[int, int] = {}
    """Partition -> the position up to which its events and its journal were compared."""
    amounts_compared: bool = False
    """Whether the sum of all line items was among it."""
    checked_seconds_ago: float | None = None
    differences: list[Finding] = []


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything."""

    host: Host
    version: str
    ready: bool
    reconciled: bool
    partitions: list[PartitionStatus]
    equations: list[str] = []
    """One for each partition that says its figures, in its order."""
    spend: SpendStatus | None = None
    stalls: list[str] = []
    """What has work and stands still, for how long and where."""
    notes: list[str] = []
    """What could not be found out, and why."""


def make_status(
    host: Host,
    partitions: Iterable[PartitionStatus],
    *,
    ready: bool,
    spend: SpendStatus | None = None,
    stalls: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Status:
    """The status, with its verdict."""
    found = sorted(partitions, key=lambda one: one.partition)
    reconciled = all(one.reconciled for one in found) and not (spend and spend.differences)
    return Status(
        host=host,
        version=version("taximeter"),
        ready=ready,
        reconciled=reconciled,
        partitions=found,
        equations=[f"partition {one.partition}: {one.equation}" for one in found if one.totals is not None],
        spend=spend,
        stalls=list(stalls),
        notes=list(notes),
    )


def findings(status: Status) -> list[Finding]:
    """All differences."""
    spend = status.spend.differences if status.spend else []
    return [*(one for partition in status.partitions for one in partition.differences), *spend]


__all__ = [
    "CLASSES",
    "Finding",
    "PartitionStatus",
    "SnapshotStatus",
    "SpendStatus",
    "Status",
    "findings",
    "make_status",
]
