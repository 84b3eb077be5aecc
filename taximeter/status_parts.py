"""The status of the parts that run in this process, but for Kafka workers (`status_worker`)."""

import time
from collections.abc import Iterable
from typing import Protocol

from rating.spend.proof import Difference
from rating.spend.view import SpendView
from schemas import topics
from streams.embedded.host import EmbeddedHost, HostedPartition
from streams.embedded.log import SqliteLog
from streams.watchdog import Reading, Watchdog
from taximeter.observe import EngineTotals, Seen
from taximeter.status import Finding, PartitionStatus, SnapshotStatus, SpendStatus, Status, make_status


def embedded_status(host: EmbeddedHost, log: SqliteLog, totals: EngineTotals, view: SpendView, ready: bool) -> Status:
    """Of `taximeter serve`."""
    partitions = [_embedded_partition(number, state, log, totals.get(number)) for number, state in host.state().items()]
    stalls = [str(stall) for stall in host.watchdog.near()]
    return make_status("embedded", partitions, ready=ready, spend=spend_status(view), stalls=stalls)


def _embedded_partition(number: int, state: HostedPartition, log: SqliteLog, seen: Seen | None) -> PartitionStatus:
    behind = log.written_at(topics.EVENTS, number, state.position) if state.end > state.position else None
    return PartitionStatus(
        partition=number,
        position=state.position,
        end=state.end,
        ready=state.restored and state.caught_up,
        doing=state.doing,
        lag_seconds=0.0 if behind is None else max(time.time() - behind / 1e6, 0.0),
        epoch=state.epoch,
        writer=state.writer,
        snapshot=SnapshotStatus(
            position=state.snapshot_position,
            age_seconds=state.snapshot_age_s,
            written=state.snapshots,
            failed=state.failed_snapshots,
        ),
        restore_seconds=state.restore_s,
        replayed_steps=state.replayed_steps,
        emitted_again=state.emitted_again,
        steps=state.steps,
        line_items=state.line_items,
        totals=None if seen is None else seen.counts,
        through=None if seen is None else seen.position,
        differences=[] if seen is None else [*seen.findings(number), *log_differences(number, seen, state.position)],
    )


def log_differences(partition: int, seen: Seen, position: int) -> list[Finding]:
    """The engine's figures against the embedded log's own: its offsets count events, and nobody but the log makes them.

    The engine is at the journal's position, or a step ahead of it."""
    found = []
    if seen.numbers + seen.skipped != seen.position or seen.skipped:
        found.append(("the log's count of events and other entries", seen.numbers, seen.position))
    if seen.position < position:
        found.append(("the engine's position, by the journal", position, seen.position))
    return [
        Finding(partition=partition, position=position, what=what, expected=str(expected), found=str(there))
        for what, expected, there in found
    ]


def spend_status(view: SpendView) -> SpendStatus:
    """Of a spend view."""
    verdict = view.verdict
    if verdict is None:
        return SpendStatus(through=view.through())
    return SpendStatus(
        through=view.through(),
        compared=verdict.positions,
        amounts_compared=verdict.amounts,
        checked_seconds_ago=time.monotonic() - view.verdict_at,
        differences=list(store_findings(verdict.differences)),
    )


class SourceEnds(Protocol):
    """What is known of the source that a view is fed from."""

    def end(self, topic: str, partition: int) -> int:
        """The offset after its last record."""
        ...

    def written_at(self, topic: str, partition: int, offset: int) -> int | None:
        """When the record at an offset was written, in microseconds."""
        ...


def spend_lag(view: SpendView, source: SourceEnds) -> dict[int, tuple[int, float]]:
    """Partition -> how many offsets of the source the answers do not include, and how old the oldest of them is."""
    found = {}
    for partition, through in view.through().items():
        behind = max(source.end(topics.EVENTS, partition) - through, 0)
        written = source.written_at(topics.EVENTS, partition, through) if behind else None
        found[partition] = behind, 0.0 if written is None else max(time.time() - written / 1e6, 0.0)
    return found


def store_findings(differences: Iterable[Difference]) -> Iterable[Finding]:
    """As a status shows them."""
    for one in differences:
        partition = None if one.partition < 0 else one.partition
        yield Finding(partition=partition, position=one.position, what=one.what, expected=one.expected, found=one.found)


def view_reading(view: SpendView, log: SqliteLog | None = None) -> Reading:
    """For a watchdog: whether the view stands still. With the log, also when it does not read what is there."""
    behind = log is not None and any(
        log.end(topic, partition) > view.store.positions().get((topic, partition), 0)
        for topic in (topics.JOURNAL, topics.LINE_ITEMS)
        for partition in range(log.partitions)
    )
    doing = "applying records" if view.applying else "reading"
    return Reading(view.applied, view.applying or behind, f"{doing}, through {view.through()}")


def view_status(view: SpendView, ready: bool, watchdog: Watchdog) -> Status:
    """Of `taximeter spend`: what the journal that it has read says of each partition."""
    positions = view.store.positions()
    partitions = []
    for number, progress in sorted(view.store.progress().items()):
        sums = progress.sums
        if sums.begun < 0:
            continue
        end = max(positions.get((topics.EVENTS, number), 0), sums.position)
        partitions.append(
            PartitionStatus(
                partition=number,
                position=sums.position,
                end=end,
                epoch=progress.epoch,
                totals=sums.counts if sums.claims else None,
                through=sums.position,
            )
        )
    stalls = [str(stall) for stall in watchdog.near()]
    return make_status("spend", partitions, ready=ready, spend=spend_status(view), stalls=stalls)
