"""What Taximeter is compared with in the chaos run: the textbook Faust app, as Faust's documentation teaches it.

A topic keyed by customer, an agent, a Table with a changelog, `totals[customer] += amount`, at least once, the store in
memory (https://faust-streaming.github.io/faust/userguide/tables.html). Integers only, so nothing is lost to floats;
each event stands in its topic once, and there are no voids, prices or thresholds: less is asked of it than of us.

    python -m benchmarks.naive_faust BOOTSTRAP PREFIX DATADIR
"""

import sys
from typing import Any, Final

PARTITIONS: Final = 4
TOPIC: Final = "naive-usage"
TABLE: Final = "totals"
COUNTS: Final = "counts"


def make_app(bootstrap: str, prefix: str, datadir: str) -> Any:
    """The app; its topics begin with the prefix."""
    import faust

    class Usage(faust.Record, serializer="json"):
        customer: str
        milli_tokens: int

    app = faust.App(
        group_of(prefix),
        broker=f"kafka://{bootstrap}",
        store="memory://",
        processing_guarantee="at_least_once",
        topic_partitions=PARTITIONS,
        topic_replication_factor=1,
        table_standby_replicas=0,
        broker_session_timeout=6,
        broker_heartbeat_interval=1.5,
        datadir=datadir,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    usage = app.topic(prefix + TOPIC, key_type=str, key_serializer="raw", value_type=Usage, partitions=PARTITIONS)
    totals = app.Table(TABLE, default=int, partitions=PARTITIONS)
    counts = app.Table(COUNTS, default=int, partitions=PARTITIONS)

    @app.agent(usage)
    async def meter(stream: Any) -> None:
        async for event in stream:
            totals[event.customer] += event.milli_tokens
            counts[event.customer] += 1

    return app


def group_of(prefix: str) -> str:
    """The app's id, which is its consumer group and stands before its changelogs' names."""
    return f"{prefix}naive".replace(".", "-")


def changelog(prefix: str, table: str) -> str:
    """The topic that a table is restored from."""
    return f"{group_of(prefix)}-{table}-changelog"


def main() -> None:
    """Runs a worker until it is stopped or killed."""
    import faust

    bootstrap, prefix, datadir = sys.argv[1:4]
    app = make_app(bootstrap, prefix, datadir)
    print("naive: ready", flush=True)
    faust.Worker(app, loglevel="warning").execute_from_commandline()


if __name__ == "__main__":
    main()
