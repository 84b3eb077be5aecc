"""The command `taximeter repair`: arguments, what is said of each finding, the exit status."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rating.engine import RatingProcessor, RatingSettings
from schemas.times import SECOND
from streams.embedded.folder import LogError
from streams.embedded.log import SqliteLog
from streams.journal import JournalError
from streams.kafka.admin import TopicError
from streams.log import LogUnavailable
from streams.repairing import Finding, Repair
from streams.snapshots import SnapshotError, SnapshotStore
from taximeter.process import complain, say
from taximeter.repair.folder import repair_folder

_DAY_SECONDS = 86400


async def repair(
    *,
    data: Path | None,
    bootstrap: str | None,
    snapshots: str | None,
    partition: int | None,
    dry_run: bool,
    partitions: int | None,
    prefix: str,
    replication: int,
    security: Sequence[str],
    window: int,
    lateness: int,
    max_ahead: int,
    schema_registry: str,
    output_format: str,
) -> int:
    """Returns 0 where all is whole (now), 1 where something is not, 2 for bad arguments."""
    if data is not None:
        bootstrap = None  # it may stand in the environment
    elif bootstrap is None or snapshots is None:
        complain("taximeter repair: give either --data (a folder) or --bootstrap and --snapshots (Kafka)")
        return 2
    work = Repair(dry_run, _tell)

    def settings(count: int) -> RatingSettings:
        return RatingSettings(count, lateness * SECOND, max(window // _DAY_SECONDS, 1))

    try:
        if data is not None:
            if not (data / "log.sqlite").exists():
                complain(f"taximeter repair: --data: found no log in {data}, expected the data folder of `serve`")
                return 2
            count = _partitions_of(data)
            if partition is not None and partition >= count:
                complain(f"taximeter repair: --partition: found {partition}, expected 0 to {count - 1}")
                return 2
            await asyncio.to_thread(_on_folder, data, snapshots, settings(count), partition, work)
        else:
            from taximeter.options import kafka_settings
            from taximeter.repair.kafka import repair_kafka

            assert bootstrap is not None and snapshots is not None
            options = (bootstrap, partitions or 4, prefix, replication, security)
            cluster = kafka_settings(*options, schema_registry=schema_registry, output_format=output_format)
            numbers = list(range(cluster.partitions)) if partition is None else [partition]
            ahead = max_ahead * SECOND if max_ahead else None
            await repair_kafka(cluster, SnapshotStore(snapshots), settings(cluster.partitions), numbers, work, ahead)
    except (LogError, JournalError, LogUnavailable, SnapshotError, TopicError, OSError, ValueError) as error:
        complain(f"taximeter repair: {error}")
        return 1
    if not work.findings:
        say("Nothing is damaged.")
    elif work.whole:
        say(
            "Nothing is changed yet. The same without --dry-run does it."
            if dry_run
            else "All that was damaged is mended."
        )
    else:
        say("Something could not be mended: see above.")
    return 0 if work.whole else 1


def _tell(finding: Finding) -> None:
    say(f"{finding.what}\n  {finding.done}")


def _partitions_of(data: Path) -> int:
    """With how many partitions the folder was made. Raises: LogError."""
    uri = f"{(data / 'log.sqlite').absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return int(connection.execute("SELECT partitions FROM log").fetchone()[0])
    except sqlite3.Error as error:
        raise LogError(f"cannot read the log in {data}: {error}. Bring log.sqlite back from a backup") from error


def _on_folder(
    data: Path, snapshots: str | None, settings: RatingSettings, partition: int | None, work: Repair
) -> None:
    log = SqliteLog(data, settings.partitions)
    try:
        store = SnapshotStore(snapshots or data / "snapshots")
        numbers = list(range(settings.partitions)) if partition is None else [partition]
        repair_folder(log, store, RatingProcessor(settings), numbers, work)
    finally:
        log.close()
