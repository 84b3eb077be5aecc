"""A worker process of the tests: `python -m tests.kafka.worker --bootstrap … --prefix … --snapshots …`."""

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence

from schemas import topics
from streams.kafka.binding import Binding
from streams.kafka.host import HostSettings, WorkerState, run_worker
from streams.kafka.ownership import StepLimits
from streams.kafka.partition import Partition
from streams.kafka.settings import KafkaSettings
from streams.kafka.source import SourceMessage
from streams.processor import Fetch, PartitionProcessor, no_files
from streams.snapshots import Snapshot, SnapshotStore
from tests.kafka.counting import CountingProcessor, ForwardingProcessor, stamped


def main() -> int:
    """Says on standard output, as JSON lines, whenever ownership changes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--snapshots", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--session-s", type=float, default=2.0)
    parser.add_argument("--step-s", type=float, default=0.0)
    parser.add_argument("--step-entries", type=int, default=8)
    parser.add_argument("--snapshot-entries", type=int, default=50)
    parser.add_argument("--tick-s", type=float)
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument("--forward", action="store_true", help="also work taximeter.events.json")
    parser.add_argument("--stall-s", type=float, default=120.0)
    parser.add_argument("--instance-id")
    parser.add_argument("--hang", choices=["open", "process", "snapshot"], help="never return from it")
    parser.add_argument("--open-s", type=float, default=0.0, help="how long opening a state takes")
    parser.add_argument("--lose", type=int, help="drop the message at this offset, once in each partition")
    options = parser.parse_args()
    if options.lose is not None:
        lose_once(options.lose)
    processor = CountingProcessor(options.step_s, options.version)
    if options.hang in ("open", "process") or options.open_s:
        processor = SlowProcessor(options.step_s, options.hang, options.open_s)
    bindings = [Binding(processor, tick_s=options.tick_s)]
    if options.forward:
        forwarding = ForwardingProcessor(options.partitions)
        bindings.append(Binding(forwarding, topics.EVENTS_JSON, topics.JOURNAL_JSON, entry=stamped, step_factor=16))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    begun = time.monotonic()

    def say(state: WorkerState) -> None:
        partitions = {str(key): item._asdict() for key, item in state.partitions.items()}
        counters = {str(key): vars(item) for key, item in state.counters.items()}
        said = {"ready": state.ready, "partitions": partitions, "counters": counters, "at_s": time.monotonic() - begun}
        print(json.dumps(said), file=sys.__stdout__, flush=True)

    return run_worker(
        KafkaSettings(
            options.bootstrap,
            prefix=options.prefix,
            partitions=options.partitions,
            session_timeout_s=options.session_s,
            heartbeat_s=options.session_s / 5,
        ),
        bindings,
        (HangingStore if options.hang == "snapshot" else SnapshotStore)(options.snapshots),
        HostSettings(
            limits=StepLimits(entries=options.step_entries, snapshot_entries=options.snapshot_entries),
            stall_s=options.stall_s,
            instance_id=options.instance_id,
        ),
        say,
    )


class SlowProcessor(CountingProcessor):
    """Takes its time to open a state, or hangs."""

    def __init__(self, step_s: float, hang: str | None, open_s: float) -> None:
        super().__init__(3600.0 if hang == "process" else step_s)
        self._open_s = 3600.0 if hang == "open" else open_s

    def open(self, partition: int, snapshot: bytes | None, fetch: Fetch = no_files) -> PartitionProcessor:
        time.sleep(self._open_s)
        return super().open(partition, snapshot, fetch)


class HangingStore(SnapshotStore):
    """A store whose disk does not answer when it is written to."""

    def save(self, processor: str, partition: int, snapshot: Snapshot) -> None:
        time.sleep(3600.0)


def lose_once(offset: int) -> None:
    """Makes the host lose messages between Faust and the processor, as a rebalance may."""
    work = Partition.work
    lost: set[int] = set()

    async def lossy(self: Partition, messages: Sequence[SourceMessage]) -> bool:
        kept = [message for message in messages if message.offset != offset or self.partition in lost]
        if len(kept) < len(messages):
            lost.add(self.partition)
        return await work(self, kept)

    Partition.work = lossy  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
