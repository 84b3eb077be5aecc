"""The repair of an embedded data folder: events, journal and snapshots, outputs, the spend store; in this order,
because each is made again from those before it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import duckdb

from rating.engine import RatingProcessor
from rating.rise import rise_above
from rating.spend.duckdb_store import DuckdbStore, put_aside
from rating.spend.store import StoreDamaged
from schemas import topics
from streams.embedded.log import SqliteLog
from streams.embedded.mender import repair_partition
from streams.repairing import Repair
from streams.snapshots import SnapshotStore
from taximeter.repair.outputs import repair_outputs


class DamagedEvents(NamedTuple):
    """A row of `taximeter.events` that cannot be read: events `[start, end)` of the partition."""

    partition: int
    start: int
    end: int
    found: str


def repair_folder(
    log: SqliteLog, snapshots: SnapshotStore, processor: RatingProcessor, partitions: list[int], repair: Repair
) -> None:
    """Looks at everything in the folder of `log`, which this process holds. Raises: LogError, SnapshotError."""
    damaged = [row for partition in partitions for row in _damaged_events(log, partition)]
    for row in damaged:
        repair.lost(*_about_events(log, snapshots, processor, row))
    sound = [
        partition
        for partition in partitions
        if repair_partition(log, processor, snapshots, partition, rise_above, repair)
    ]
    for partition in partitions:
        source = partition in sound and all(row.partition != partition for row in damaged)
        repair_outputs(log, processor, partition, repair, source)
    _repair_store(log.folder / "spend.duckdb", repair)


# Events --------------------------------------------------------------------------------------------------------------


def _damaged_events(log: SqliteLog, partition: int) -> Iterator[DamagedEvents]:
    for start, after, _, damage in log.scan(topics.EVENTS, partition):
        if damage is not None:
            yield DamagedEvents(partition, start, after, damage)


def _about_events(
    log: SqliteLog, snapshots: SnapshotStore, processor: RatingProcessor, row: DamagedEvents
) -> tuple[str, str]:
    """What is damaged, and what is left of it elsewhere. It is never skipped: these events are on somebody's bill."""
    what = f"{topics.EVENTS}/{row.partition}, offset {row.start}: {row.found}; it holds the offsets up to {row.end}"
    whole = [found for _, found in snapshots.inspect(processor.name, row.partition) if not isinstance(found, str)]
    included = bool(whole) and whole[0].position >= row.end
    if included:
        why = (
            "the newest snapshot includes these events, so nothing of the bills is missing and the next start does not "
            "read them; a spend store or an audit that begins anew will stop here"
        )
    else:
        why = "no snapshot includes these events, and the engine will stop here"
    return (
        what,
        f"events cannot be made again: {why}. {_elsewhere(log.folder, row)}. Bring log.sqlite back from a backup",
    )


def _elsewhere(folder: Path, row: DamagedEvents) -> str:
    """What the archive (raw events as Parquet) and the spend store have of a row."""
    found = []
    archive = folder / "archive" / "events"
    if archive.is_dir() and any(archive.rglob("*.parquet")):
        files = f"read_parquet('{archive}/**/*.parquet')"
        query = f'SELECT count(*) FROM {files} WHERE partition = ? AND "offset" >= ? AND "offset" < ?'
        try:
            with duckdb.connect() as memory:
                (count,) = memory.execute(query, [row.partition, row.start, row.end]).fetchone() or (0,)
            found.append(f"The archive {archive} has {count} of them")
        except duckdb.Error as error:
            found.append(f"The archive {archive} cannot be read ({str(error).splitlines()[0]})")
    with suppress(duckdb.Error):
        connection = duckdb.connect(str(folder / "spend.duckdb"), read_only=True)
        try:
            count_rows = "SELECT count(*) FROM events WHERE log_partition = ? AND log_offset >= ? AND log_offset < ?"
            (count,) = connection.execute(count_rows, [row.partition, row.start, row.end]).fetchone() or (0,)
            found.append(f"The spend store has {count} of them")
        finally:
            connection.close()
    return ". ".join(found or ["Neither an archive nor the spend store has them"])


# The spend store -----------------------------------------------------------------------------------------------------


def _repair_store(path: Path, repair: Repair) -> None:
    """A damaged one is put aside: the next start builds it again from the log."""
    if not path.exists():
        return
    try:
        store = DuckdbStore(path)
        try:
            store.check()
        finally:
            store.close()
        return
    except (StoreDamaged, duckdb.Error) as error:
        what = str(error) if isinstance(error, StoreDamaged) else f"{path}: {str(error).splitlines()[0]}"
    aside = path.with_name(path.name + ".damaged") if repair.dry_run else put_aside(path)
    repair.mended(what, f"put aside as {aside.name}; the next start builds it again from the log")
