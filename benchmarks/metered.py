"""What processes take: CPU seconds and memory, read from /proc."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_HELD: Final = ("RssAnon", "RssFile", "RssShmem")


class Taken(NamedTuple):
    """By a process since it began."""

    user_s: float
    system_s: float
    anonymous: int
    """Bytes of memory now that are its own."""
    mapped: int
    """Bytes of mapped files that are in memory now: the system's cache, which lets them go when it needs the room."""

    @property
    def cpu_s(self) -> float:
        """Both kinds."""
        return self.user_s + self.system_s


def taken(processes: Mapping[str, int]) -> dict[str, Taken]:
    """Name -> what the process of that id has taken."""
    return {name: _taken(pid) for name, pid in processes.items()}


def _taken(pid: int) -> Taken:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Taken(int(fields[11]) / _TICKS, int(fields[12]) / _TICKS, *_memory(pid))


def _memory(pid: int) -> tuple[int, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if name in _HELD}
    anonymous, of_files, shared = (kib[name] * 1024 for name in _HELD)
    return anonymous + shared, of_files


def per_event(before: Mapping[str, Taken], after: Mapping[str, Taken], events: int) -> dict[str, float]:
    """Microseconds of CPU an event, by process."""
    return {name: (after[name].cpu_s - before[name].cpu_s) / max(events, 1) * 1e6 for name in after}


def memory_of(samples: Sequence[Mapping[str, Taken]]) -> dict[str, dict[str, list[int]]]:
    """MiB at each sample, by process of the last one: its own memory, and files that it has mapped."""
    return {
        said: {name: [getattr(sample[name], of) >> 20 for sample in samples if name in sample] for name in samples[-1]}
        for said, of in (("anonymous_mib", "anonymous"), ("mapped_mib", "mapped"))
    }
