"""The status of a Kafka worker. Apart, so that whoever needs no Kafka does not load it."""

import time
from typing import TYPE_CHECKING

from schemas import topics
from streams.kafka.partition import Counters, PartitionState
from taximeter.observe import EngineTotals, Seen
from taximeter.status import PartitionStatus, SnapshotStatus, Status, make_status

if TYPE_CHECKING:
    from streams.kafka.host import Worker, WorkerState


def worker_status(worker: "Worker", totals: EngineTotals) -> Status:
    """Of `taximeter rate`."""
    state = worker.state
    partitions = [
        _worker_partition(number, one, state, state.counters[source, number], totals.get(number))
        for (source, number), one in state.partitions.items()
        if source == topics.EVENTS
    ]
    stalls = [str(stall) for stall in worker.watchdog.near()]
    return make_status("kafka worker", partitions, ready=state.caught_up, stalls=stalls)


def _worker_partition(
    number: int, one: PartitionState, state: "WorkerState", counters: Counters, seen: Seen | None
) -> PartitionStatus:
    end = state.ends.get((topics.EVENTS, number), one.position)
    behind = end > one.position
    return PartitionStatus(
        partition=number,
        position=one.position,
        end=end,
        ready=one.owned and one.caught_up,
        doing=one.doing,
        lag_seconds=0.0 if not behind else max(time.time() - one.worked_ms / 1000, 0.0) if one.worked_ms else None,
        epoch=one.epoch,
        writer=one.writer,
        snapshot=SnapshotStatus(
            position=one.snapshot_position,
            age_seconds=one.snapshot_age_s,
            written=counters.snapshots,
            failed=counters.failed_snapshots,
        ),
        restore_seconds=counters.restore_s,
        replayed_steps=counters.replayed_steps,
        emitted_again=counters.emitted_again,
        gaps=counters.gaps,
        repeated_messages=counters.repeated_messages,
        steps=counters.steps,
        line_items=counters.line_items,
        totals=None if seen is None else seen.counts,
        through=None if seen is None else seen.position,
        differences=[] if seen is None else seen.findings(number),
    )
