"""What `pipeline` and `embedded` say of a run under load, as figures."""

from collections.abc import Mapping
from typing import Any

from benchmarks.result import CPU_MICROS, Figure, figure
from infra.kafka.broker import kafka_version

_CHECKED = "the newest revision of every line: the generator's own numbers"


def load_figures(benchmark: str, told: Mapping[str, Any], load: float | None = None) -> list[Figure]:
    """`told`: its JSON line. Without a `load` it ran as fast as it went, and says how fast that is; at a load, in
    percent of that, it says how long things took."""
    versions = {"kafka": kafka_version()} if benchmark == "pipeline" else {}
    settings = {"events": told["events"], "seconds": round(told["seconds"], 1), **told["options"]}

    def one(metric: str, unit: str, value: float, **more: Any) -> Figure:
        return figure(
            benchmark, "default", metric, unit, [value], checked=_CHECKED, settings=settings | more, versions=versions
        )

    if load is None:
        ends, mapped = ({name: sizes[-1] for name, sizes in told[of].items()} for of in ("anonymous_mib", "mapped_mib"))
        grown = sum(sizes[-1] - sizes[-2] for sizes in told["anonymous_mib"].values() if len(sizes) > 1)
        return [
            one("sustained", "events/s", told["rated_per_s"]),
            one("accepted at the door", "events/s", told["accepted_per_s"]),
            *(one(f"CPU, {name}", CPU_MICROS, micros) for name, micros in told["cpu_us_per_event"].items()),
            one("memory of all at the end", "MiB", sum(ends.values()), **ends),
            one("mapped files of all at the end", "MiB", sum(mapped.values()), **mapped),
            one("memory, more than at half time", "MiB", grown),
        ]
    return [
        one(f"{what}, {name} at {load:g} % load", "ms", times[key], what=what, load=load, quantile=quantile)
        for what, times in (("door's answer", told["door_ms"]), ("answer to line item", told["line_item_ms"]))
        for name, key, quantile in (("median", "p50", 0.5), ("p99", "p99", 0.99))
        if times
    ]
