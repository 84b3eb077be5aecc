"""What processes take: CPU seconds and resident memory, read from /proc."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Taken(NamedTuple):
    """By a process since it began."""

    user_s: float
    system_s: float
    resident: int
    """Bytes now."""

    @property
    def cpu_s(self) -> float:
        """Both kinds."""
        return self.user_s + self.system_s


def taken(processes: Mapping[str, int]) -> dict[str, Taken]:
    """Name -> what the process of that id has taken."""
    return {name: _taken(pid) for name, pid in processes.items()}


def _taken(pid: int) -> Taken:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Taken(int(fields[11]) / _TICKS, int(fields[12]) / _TICKS, pages * _PAGE)


def per_event(before: Mapping[str, Taken], after: Mapping[str, Taken], events: int) -> dict[str, float]:
    """Microseconds of CPU an event, by process."""
    return {name: (after[name].cpu_s - before[name].cpu_s) / max(events, 1) * 1e6 for name in after}
