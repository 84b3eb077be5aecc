"""What a run of many seeds tells: which fault came how often, and a failing story in numbered lines."""

from collections import Counter

from tests.simulation.outcome import Outcome
from tests.simulation.story import Kind
from tests.simulation.throw import EMBEDDED_PLACES, KAFKA_PLACES

FAULTS: dict[str, tuple[Kind, ...]] = {
    "kafka": (
        "stand_still",
        "cut_off",
        "join",
        "leave",
        "lost_ack",
        "failed_send",
        "late_write",
        "slow_send",
        "failed_read",
        "dropped_message",
        "repeated_messages",
        "stale_messages",
        "torn_snapshot",
        "flipped_bit",
        "full_disk",
        "door_crash",
    ),
    "embedded": ("leave", "torn_snapshot", "flipped_bit", "full_disk", "full_log"),
}
"""Every kind of fault but crashes, which are counted by place."""

MUST_COME = {
    "kafka": (
        *(f"crash {place}" for place in KAFKA_PLACES),
        *(f"standstill {place}" for place in KAFKA_PLACES),
        *FAULTS["kafka"],
        "rebalances",
        "clean stops",
        "snapshots loaded",
        "damaged snapshots passed over",
        "records of a zombie",
        "outputs of a zombie",
        "fenced workers",
        "passed in_restore",
    ),
    "embedded": (
        *(f"crash {place}" for place in EMBEDDED_PLACES),
        *FAULTS["embedded"],
        "clean stops",
        "snapshots loaded",
        "damaged snapshots passed over",
        "passed in_restore",
    ),
}
"""What a run of some hundred seeds must have seen, or it proves less than it seems to."""


def tally(outcome: Outcome) -> Counter[str]:
    """What happened in a run, by host."""
    host = outcome.story.host
    counts = Counter({f"{host}: {what}": times for what, times in outcome.happened.items()})
    counts[f"{host}: stories"] = 1
    counts[f"{host}: entries"] = sum(map(len, outcome.entries.values()))
    counts[f"{host}: acknowledged events"] = len(outcome.acknowledged)
    return counts


def never_seen(counts: Counter[str]) -> list[str]:
    """What must come in a run and did not."""
    return [f"{host}: {what}" for host, all in MUST_COME.items() for what in all if not counts[f"{host}: {what}"]]


def table(counts: Counter[str]) -> list[str]:
    """The figures of a run as lines, one for each thing, both hosts beside each other."""
    names = sorted({name.partition(": ")[2] for name in counts})
    lines = [f"{'':<34}{'kafka':>10}{'embedded':>10}"]
    return lines + [f"{name:<34}{counts[f'kafka: {name}']:>10}{counts[f'embedded: {name}']:>10}" for name in names]


def narrative(outcome: Outcome) -> list[str]:
    """A story in numbered lines: what was given, what happened, what was wrong."""
    wrong = [f"WRONG: {problem}" for problem in outcome.problems] or ["everything is as it must be"]
    lines = [*outcome.story.lines(), *outcome.trace, *wrong]
    return [f"{number:>4}. {line}" for number, line in enumerate(lines, 1)]
