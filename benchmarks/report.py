"""docs/evidence/speed.md and its plots, from the newest figures on record: `python -m benchmarks.report`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.plots import draw
from benchmarks.result import EVIDENCE, RECORD, Figure, about, newest, read, table
from benchmarks.workload import WORKLOADS

_HEAD: Final = """# Speed: what was measured

Made by `make bench` from [speed.jsonl](speed.jsonl), edited by nobody: of each figure the newest on record. Each line
of that file is a figure with all its runs, its machine, versions, settings, and what its result was held against; a
benchmark that finds its own result wrong writes none. The medians stand here; *spread* is from the least to the most of
the runs, by the median. [benchmarks/README.md](../../benchmarks/README.md) says what each measures, and what not.
"""
_PLOTS: Final = {
    "speed-throughput.svg": "The engine by workload, beside the one-thread Polars query",
    "speed-latency.svg": "Latency under load",
    "speed-growth.svg": "The cost of an event by the live keys that are held",
}


def write_report(figures: Sequence[Figure], folder: Path) -> None:
    """Writes the page and the plots. `figures`: all on record, in the order of time."""
    latest = newest(figures)
    drawn = draw(latest, folder)
    head, *rows = table(latest)
    lines = [head, ("---", "---", "---", "--:", "---", "--:", "--:", "--:", "---"), *rows]
    machines = dict.fromkeys(about(one) for one in latest)
    parts = [
        _HEAD,
        *(f"![{_PLOTS[path.name]}]({path.name})\n" for path in drawn),
        "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n",
        "## The workloads\n",
        "\n".join(f"- `{name}`: {workload.about}." for name, workload in WORKLOADS.items()) + "\n",
        "## The runs\n",
        "\n".join(f"- {machine}" for machine in machines) + "\n",
    ]
    (folder / "speed.md").write_text("\n".join(parts))


if __name__ == "__main__":
    write_report(read(RECORD), EVIDENCE)
