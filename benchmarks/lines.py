"""What a run is judged by: the line items that it wrote, whether every cent is right, and the figures."""

import argparse
import json
import sys
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from benchmarks.bodies import LineKey, amounts, differences, probe_customer
from benchmarks.sender import Sent
from schemas.numbers import parse_scaled
from schemas.output import LineItem

_DIFFERENCES_SHOWN: Final = 10
_REVISION: Final = b'"revision":'


@dataclass
class Lines:
    """All line items that were written."""

    written: int = 0
    bytes: int = 0
    newest: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    """Key -> the highest revision and its value."""
    late: int = 0
    """Records that came after a higher revision: an owner that was fenced off had sent them."""
    probed: dict[str, float] = field(default_factory=dict)
    """Customer of a probe -> when the last of its line items was written, in seconds since the epoch."""

    def add(self, key: bytes, value: bytes, at: float) -> None:
        """One record, in the order of its log."""
        self.written += 1
        self.bytes += len(value)
        revision, known = int(value.split(b",", 2)[1].removeprefix(_REVISION)), self.newest.get(key)
        if known is None or revision >= known[0]:
            self.newest[key] = revision, value
        else:
            self.late += 1
        if b'"customer":"probe-' in value:
            customer = msgspec.json.decode(value, type=LineItem).customer
            self.probed[customer] = max(self.probed.get(customer, 0.0), at)

    def amounts(self) -> dict[LineKey, int]:
        """By line, in units of 10^-12."""
        found: dict[LineKey, int] = {}
        for _, value in self.newest.values():
            item = msgspec.json.decode(value, type=LineItem)
            group = "".join(filter(None, item.dimensions.values()))
            found[item.customer, item.charge, group] = parse_scaled(item.amount)
        return found

    def faults(self, sent: Sent) -> list[str]:
        """What is wrong; nothing where every amount is what the generator has worked out."""
        return [*sent.faults, *differences(amounts(sent.usage), self.amounts())]

    def figures(self, sent: Sent) -> dict[str, Any]:
        """Of the line items, and how long after the door's answer those of the probes were there."""
        latencies = [self.probed[probe_customer(number)] - at for number, at in sent.probed.items()]
        return {
            "line_items": self.written,
            "line_items_per_event": self.written / sent.events,
            "line_item_bytes": self.bytes / max(self.written, 1),
            "late_records": self.late,
            "refused_requests": sent.refused,
            "door_ms": quantiles(sent.latencies),
            "line_item_ms": quantiles(latencies),
        }


def quantiles(latencies: list[float]) -> dict[str, float]:
    """In milliseconds."""
    if not latencies:
        return {}
    rising = sorted(latencies)
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(rising[min(int(q * len(rising)), len(rising) - 1)] * 1000, 2) for name, q in at.items()}


def tell(options: argparse.Namespace, result: dict[str, Any], wrong: list[str]) -> int:
    """Prints the figures, and appends them to the file that was asked for. Returns the exit status: 1 where something
    is wrong."""
    result["options"] = {name: value for name, value in vars(options).items() if name not in ("json", "folder")}
    for name, value in result.items():
        print(f"{name:<22}{_said(value)}")
    if not wrong:
        if options.json is not None:
            with options.json.open("a") as file:
                file.write(json.dumps(result) + "\n")
        print("every line item's amount is what the generator worked out")
        return 0
    print(f"NO RESULT: {len(wrong)} faults", *wrong[:_DIFFERENCES_SHOWN], sep="\n  ", file=sys.stderr)
    return 1


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items())
    return f"{value:,.3f}" if isinstance(value, float) else str(value)
