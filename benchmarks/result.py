"""What a benchmark says: figures with machine, versions and workload, as JSON lines and as one table.

A benchmark makes a `Figure` of each thing that it measured, by `figure(...)`, prints them by `print_table`, and appends
them to the file that its option `--json` names, by `append`. Figures of several runs under one name are one figure
with more runs (`together`). A benchmark that finds its own result wrong makes none, and ends with status 1.
"""

import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec

from native.library import is_loaded

ROOT: Final = Path(__file__).resolve().parent.parent
EVIDENCE: Final = ROOT / "docs" / "evidence"
RECORD: Final = EVIDENCE / "speed.jsonl"
"""Every figure that was put on record, in the order of time."""
CPU_MICROS: Final = "us of CPU an event"
"""The unit of what costs."""
PACKAGES: Final = ("polars", "numpy", "pyarrow", "duckdb", "msgspec", "confluent-kafka", "faust-streaming", "uvicorn")


class Target(msgspec.Struct, frozen=True):
    """What issue 7 asks for: at least, or (`at_most`) at most."""

    value: float
    at_most: bool = False

    def met_by(self, value: float) -> bool:
        """Whether it is."""
        return value <= self.value if self.at_most else value >= self.value


TARGETS: Final = {
    ("engine", "default", "engine and emit"): Target(1_000_000),
    ("engine", "default", "of the Polars query"): Target(0.4),
    ("engine", "own-keys", "engine and emit"): Target(400_000),
    ("engine", "million-customers", "engine and emit"): Target(400_000),
    ("growth", "own-keys", "cost, last of first"): Target(1.25, at_most=True),
    ("growth", "own-keys", "memory of a live line"): Target(400, at_most=True),
    ("deduplicate", "10,000,000 identities", "disk of an identity"): Target(20, at_most=True),
    ("deduplicate", "10,000,000 identities", "memory of an identity"): Target(3, at_most=True),
    ("door", "batches of 1,000", "durable"): Target(400_000),
    ("door", "single events", "durable"): Target(15_000),
    ("door", "single events", "answer, p99 at 50 % load"): Target(20, at_most=True),
    ("pipeline", "default", "sustained"): Target(250_000),
    ("pipeline", "default", "answer to line item, p99 at 50 % load"): Target(250, at_most=True),
    ("embedded", "default", "sustained"): Target(300_000),
    ("rivals", "faust", "times as fast"): Target(20),
    ("rivals", "quix", "times as fast"): Target(10),
    ("rivals", "bytewax", "times as fast"): Target(10),
    ("restore", "1,000,000 lines", "from start to ready"): Target(15, at_most=True),
}
"""(benchmark, workload, metric) -> what it must show."""


class Machine(msgspec.Struct, frozen=True):
    """What it ran on, and how busy that was (the load average of the last minute, other work included)."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    load: float


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure. `value` is the median of `runs`, `spread` the distance from the least to the most, by the median."""

    benchmark: str
    workload: str
    metric: str
    unit: str
    value: float
    runs: list[float]
    spread: float
    checked: str
    """What was held against an independent calculation; "" where there is nothing to be wrong."""
    machine: Machine
    versions: dict[str, str]
    native: bool
    when: str
    target: Target | None = None
    settings: dict[str, Any] = {}
    """How much of what: events, lines, steps, seconds. A latency says `what`, `load` in percent, and `quantile`; a cost
    by what is held says how many `keys`: the plots go by that."""


def figure(
    benchmark: str, workload: str, metric: str, unit: str, runs: Sequence[float],
    *, checked: str = "", settings: dict[str, Any] | None = None, versions: dict[str, str] | None = None,
) -> Figure:  # fmt: skip
    """A figure of this process, here and now; its target is found by its name. `versions`: of what no package tells."""
    return Figure(
        benchmark,
        workload,
        metric,
        unit,
        *_summed_up(runs),
        checked,
        machine(),
        {**_versions(), **(versions or {})},
        is_loaded(),
        datetime.now(UTC).isoformat(timespec="seconds"),
        TARGETS.get((benchmark, workload, metric)),
        settings or {},
    )


def latencies(add: Callable[..., Figure], what: str, load: float, seconds: Sequence[float]) -> list[Figure]:
    """Median and p99 in milliseconds at a load in percent of full load; the settings say so for the plot. `add` is
    `figure` with benchmark and workload given."""
    rising = sorted(seconds)
    return [
        add(
            f"{what}, {name} at {load:g} % load",
            "ms",
            [1000 * rising[min(int(share * len(rising)), len(rising) - 1)]],
            settings={"what": what, "load": load, "quantile": share, "times": len(rising)},
        )
        for name, share in (("median", 0.5), ("p99", 0.99))
        if rising
    ]


def together(figures: Iterable[Figure]) -> list[Figure]:
    """Figures of one name as one, with the runs of all and the rest of the last; in the order of their first."""
    found: dict[tuple[str, str, str], Figure] = {}
    for one in figures:
        name = one.benchmark, one.workload, one.metric
        if name in found:
            value, runs, spread = _summed_up([*found[name].runs, *one.runs])
            one = msgspec.structs.replace(one, value=value, runs=runs, spread=spread)  # noqa: PLW2901
        found[name] = one
    return list(found.values())


def append(path: Path, figures: Iterable[Figure]) -> None:
    """A JSON line for each, at the end of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.writelines(msgspec.json.encode(one) + b"\n" for one in figures)


def read(path: Path) -> list[Figure]:
    """The figures of a file, in its order. Raises: OSError, msgspec.DecodeError."""
    return [msgspec.json.decode(line, type=Figure) for line in path.read_bytes().splitlines()]


def newest(figures: Iterable[Figure]) -> list[Figure]:
    """Of each name the last; in the order of their first."""
    return list({(one.benchmark, one.workload, one.metric): one for one in figures}.values())


def print_table(figures: Sequence[Figure]) -> None:
    """One line for each figure, with its target beside it."""
    lines = table(figures)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            c.rjust(w) if n in (3, 5, 6, 7) else c.ljust(w) for n, (c, w) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    if figures:
        print(f"\n{about(figures[-1])}", flush=True)


def table(figures: Iterable[Figure]) -> list[tuple[str, ...]]:
    """Its cells, the head first."""
    return [("benchmark", "workload", "", "median", "", "spread", "runs", "target", ""), *map(_cells, figures)]


def about(one: Figure) -> str:
    """Machine and versions, in a line."""
    on = one.machine
    packages = ", ".join(f"{name} {version}" for name, version in one.versions.items())
    return (
        f"{on.cpu}, {on.cores} cores, {on.memory_gib} GiB, Linux {on.kernel}, Python {on.python}; "
        f"load average {on.load}; native {'on' if one.native else 'off'}; {packages}; {one.when}"
    )


def shown(value: float) -> str:
    """A number with three digits or more, and thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> Machine:
    """This one, now."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            cpu = line.split(": ", 1)[1]
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = round(os.getloadavg()[0], 1)
    return Machine(cpu, os.cpu_count() or 1, round(memory, 1), platform.release(), platform.python_version(), load)


def _cells(one: Figure) -> tuple[str, ...]:
    target = met = ""
    if one.target is not None:
        target = f"{'at most' if one.target.at_most else 'at least'} {shown(one.target.value)}"
        met = "met" if one.target.met_by(one.value) else "NOT MET"
    spread = f"{100 * one.spread:.0f} %" if len(one.runs) > 1 else ""
    return (
        one.benchmark, one.workload, one.metric, shown(one.value), one.unit, spread, str(len(one.runs)), target, met,
    )  # fmt: skip


def _summed_up(runs: Sequence[float]) -> tuple[float, list[float], float]:
    """Median, runs, spread. Four digits are what a measurement on a machine like this can mean."""
    kept = [float(f"{run:.4g}") for run in runs]
    median = statistics.median(kept)
    return median, kept, round((max(kept) - min(kept)) / abs(median), 3) if median else 0.0


@cache
def _versions() -> dict[str, str]:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "taximeter": found.stdout.strip() or metadata.version("taximeter"),
        **{name: metadata.version(name) for name in PACKAGES},
    }
