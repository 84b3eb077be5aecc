"""One line of the table: what was done, what came of it."""

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from benchmarks.chaos.compare import Findings

_CUT_SHORT: Final = "cut short: the time of the run was over"


@dataclass
class Row:
    """A group of faults of one kind, and the comparison after it."""

    fault: str
    injected: int = 0
    in_flight: int = 0
    """Events sent and in no journalled step yet, at the moment of each fault, summed up."""
    kills: int = 0
    """Processes that were killed (SIGKILL), brokers too."""
    broker_restarts: int = 0
    recoveries: list[float] = field(default_factory=list)
    """Seconds from each fault to the first new step of the last partition concerned."""
    findings: Findings = field(default_factory=Findings)
    broken: list[str] = field(default_factory=list)
    """Other promises that were not kept: a zombie that went on, a second process that was let in."""
    events: int = 0
    """Acknowledged events that were compared."""
    stopped_itself: list[int] = field(default_factory=list)
    """Statuses of processes that ended without an order; the supervisor started them again."""
    fenced: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    deadline: float = math.inf
    """Monotonic: no fault is begun after it."""

    def rounds(self, times: int) -> Iterator[int]:
        """Numbers from nought, `times` of them, or fewer where the time is over."""
        for number in range(times):
            if self.is_late():
                return
            yield number

    def is_late(self) -> bool:
        """Whether the time is over; says so in the row."""
        late = time.monotonic() > self.deadline
        if late and _CUT_SHORT not in self.notes:
            self.notes.append(_CUT_SHORT)
        return late

    @property
    def cut_short(self) -> bool:
        """Whether faults that were asked for were not begun."""
        return _CUT_SHORT in self.notes

    @property
    def right(self) -> bool:
        """Whether everything that must be nought is."""
        return self.findings.clean and not self.broken

    @property
    def median_s(self) -> float | None:
        return statistics.median(self.recoveries) if self.recoveries else None

    @property
    def worst_s(self) -> float | None:
        return max(self.recoveries) if self.recoveries else None
