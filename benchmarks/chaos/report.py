"""The table, on the terminal and in the report."""

import os
import platform
from collections.abc import Sequence
from typing import Final

from benchmarks.chaos.deployment import PARTITIONS, RECOVERY_MAX_S, SESSION_S, SNAPSHOT_EVERY_S, TICK_S
from benchmarks.chaos.groups import GROUPS
from benchmarks.chaos.naive import NaiveResult
from benchmarks.chaos.row import Row

_LINE_MAX: Final = 500
HEAD: Final = (
    "fault", "times", "kills", "in flight", "lost", "doubled", "wrong cents", "conflicting", "documents", "other",
    "recovery median s", "recovery worst s",
)  # fmt: skip


def cells(row: Row) -> tuple[str, ...]:
    """One line of the table."""
    found = row.findings
    numbers = (row.injected, row.kills, row.in_flight, found.lost, found.doubled)
    cents = f"{float(found.wrong_cents):,.2f}" if found.wrong_cents else "0"
    return (
        row.fault,
        *map(str, numbers),
        cents,
        str(found.conflicting),
        str(found.documents),
        str(len(row.broken)),
        _seconds(row.median_s),
        _seconds(row.worst_s),
    )


def total(rows: Sequence[Row]) -> Row:
    """All lines together."""
    together = Row("all")
    for row in rows:
        together.injected += row.injected
        together.kills += row.kills
        together.broker_restarts += row.broker_restarts
        together.in_flight += row.in_flight
        together.events += row.events
        together.recoveries += row.recoveries
        together.broken += row.broken
        together.stopped_itself += row.stopped_itself
        together.fenced += row.fenced
        together.findings.lost += row.findings.lost
        together.findings.doubled += row.findings.doubled
        together.findings.wrong_cents += row.findings.wrong_cents
        together.findings.conflicting += row.findings.conflicting
        together.findings.documents += row.findings.documents
    return together


def naive_cells(naive: NaiveResult) -> tuple[str, ...]:
    """The agent's line: what it really did."""
    numbers = (naive.kills, naive.kills, "", naive.lost, naive.doubled, f"{naive.cents_off:,.2f}", "", "", "", "", "")
    return ("naive Faust agent, killed in the same run", *map(str, numbers))


def table(rows: Sequence[Row], naive: NaiveResult | None) -> list[tuple[str, ...]]:
    """Head, lines, total, the agent's line."""
    lines = [HEAD, *map(cells, rows), cells(total(rows))]
    return [*lines, naive_cells(naive)] if naive is not None else lines


def as_text(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    aligned = []
    for line in lines:
        first, *rest = zip(line, widths, strict=True)
        aligned.append("  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]))
    return "\n".join(text.rstrip() for text in aligned)


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table for the report."""
    head, *rest = lines
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *rest))


def about_naive(naive: NaiveResult) -> str:
    """What the agent did, in a sentence."""
    if naive.milli_tokens_off == 0 and naive.counted == naive.fed:
        what = "It was right in this run."
    else:
        what = (
            f"Its table counted {naive.counted} of {naive.fed} events, {naive.counted - naive.fed:+d}; its totals are "
            f"off by {naive.percent:+.2f} % ({naive.cents_off:,.2f} cents at 0.0005 dollars a token), for "
            f"{naive.customers_wrong} of {naive.customers} customers."
        )
    undone = "" if naive.drained else " It had not worked everything in when the time for that was over."
    return f"The naive Faust agent was killed {naive.kills} times. {what}{undone}"


def as_report(rows: Sequence[Row], naive: NaiveResult | None, command: str, date: str, minutes: float) -> str:
    """The report as Markdown: made by the run, edited by nobody."""
    every = total(rows)
    explained = {group.title: group.explained for group in GROUPS}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    bound = f"{every.worst_s:.1f} s" if every.worst_s is not None else "not measured"
    statuses = {status: every.stopped_itself.count(status) for status in sorted(set(every.stopped_itself))}
    wrong = [
        f"- **{row.fault}**: {text.splitlines()[0][:_LINE_MAX]}"
        for row in rows
        for text in [*row.broken, *row.findings.examples]
    ]
    parts = [
        "# Chaos: real faults, and what they changed",
        f"Made by `{command}` on {date}, in {minutes:.1f} minutes, on {os.cpu_count()} cores with {memory:.0f} GiB "
        f"(everything on one machine: broker, doors, workers, clients), {platform.system()} "
        f"{platform.release().split('-')[0]}, Python {platform.python_version()}, Kafka {_kafka_version()}.",
        f"**{every.kills} processes killed, {every.broker_restarts} broker restarts, {every.injected} faults, "
        f"{every.events} acknowledged events compared: "
        f"{'everything is as it must be' if every.right else 'SOMETHING IS WRONG'}.**",
        as_markdown(table(rows, naive)),
        about_naive(naive) if naive is not None else "The naive Faust agent was not part of this run.",
        "## How to read it",
        "- *in flight*: events that clients had sent and no journalled step held yet (for `serve`: that had no answer "
        "yet), at the moment of each fault, summed up.\n"
        "- *lost*: acknowledged events that the log does not hold, and events of the log that the bills do not count. "
        "*doubled*: events that the bills count more often than once. *wrong cents*: the sum of |expected − found| "
        "over all line items, and the totals of all invoices that differ. *conflicting*: two contents under one id and "
        "revision. *documents*: invoices and alerts that are missing, too many or say something else. "
        "*other*: promises that were not kept, such as a zombie that went on or a second process that was let in.\n"
        "- *recovery*: from the fault to the first new step of the last partition concerned, by the next owner where a "
        "worker died; for a door to its first answer to a request sent after it; for `serve` until its queries show "
        "what was sent after it; for a full disk from the moment that there is space again.\n"
        "- Expected is what a pass in plain Python and fractions makes of the log (`benchmarks/chaos/expected.py`), "
        "which shares no code with the engine. The month is closed at the end of each line, so that period invoices "
        "are compared, too.",
        f"Workers: session timeout {SESSION_S} s (6 s by default: it is the greater part of a take-over), a snapshot "
        f"every {SNAPSHOT_EVERY_S} s, a tick every {TICK_S} s; {PARTITIONS} partitions, two doors, two workers; "
        "topics not replicated. A process that ends is started again after 0.3 s, as a supervisor would.",
        f"Recovery bound in this run: {bound}. A fault counts as not recovered after {RECOVERY_MAX_S:.0f} s.",
        f"Processes that stopped themselves, by status: {statuses or 'none'} (70: a lost broker or a lost partition). "
        f"Records of stopped owners that the epoch rule ignored: {every.fenced}.",
        "## The faults",
        "\n".join(
            f"- **{row.fault}**: {explained.get(row.fault, '')}. {'; '.join(row.notes)}. {row.seconds:.0f} s."
            for row in rows
        ),
    ]
    if wrong:
        parts += ["## What was wrong", "\n".join(wrong)]
    return "\n\n".join(parts) + "\n"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _kafka_version() -> str:
    from infra.kafka.broker import kafka_version

    return kafka_version()
