"""A worker process of the tests: `python -m tests.kafka.worker --bootstrap … --prefix … --snapshots …`."""

import argparse
import json
import logging
import sys
import time

from streams.kafka.binding import Binding
from streams.kafka.host import HostSettings, WorkerState, run_worker
from streams.kafka.partition import StepLimits
from streams.kafka.settings import KafkaSettings
from streams.snapshots import SnapshotStore
from tests.kafka.counting import CountingProcessor


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
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    begun = time.monotonic()

    def say(state: WorkerState) -> None:
        partitions = {str(partition): item._asdict() for (_, partition), item in state.partitions.items()}
        counters = {str(partition): vars(item) for (_, partition), item in state.counters.items()}
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
        [Binding(CountingProcessor(options.step_s, options.version), tick_s=options.tick_s)],
        SnapshotStore(options.snapshots),
        HostSettings(limits=StepLimits(entries=options.step_entries, snapshot_entries=options.snapshot_entries)),
        say,
    )


if __name__ == "__main__":
    sys.exit(main())
