"""The status of a data folder whose server does not run: from log, journal, snapshots and spend store."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rating.engine import RatingProcessor, RatingSettings
from rating.reconcile import compare
from rating.spend.duckdb_store import DuckdbStore
from rating.spend.proof import reconcile
from rating.spend.view import SpendView
from schemas import topics
from streams.durable import make_folder
from streams.embedded.log import SqliteLog
from streams.journal import Record, decode_record
from streams.processor import COUNTED
from streams.snapshots import Snapshot, SnapshotStore
from streams.sums import Sums
from taximeter.observe import EngineTotals
from taximeter.rerate import PREVIEW
from taximeter.status import Finding, PartitionStatus, SnapshotStatus, SpendStatus, Status, make_status
from taximeter.status_parts import log_differences, store_findings

_LOG = "log.sqlite"


def data_status(data: Path, partitions: int, snapshots: str | None = None) -> Status:
    """Raises: FileNotFoundError where there is no log; LogError, SnapshotError, StoreError where it cannot be read."""
    if not (data / _LOG).exists():
        raise FileNotFoundError(f"found no {_LOG} in {data}, expected a data folder of `taximeter serve`")
    log = SqliteLog(data, partitions)
    try:
        store = SnapshotStore(snapshots or data / "snapshots")
        notes: list[str] = []
        make_folder(data / "identities")
        with TemporaryDirectory(
            prefix=PREVIEW, dir=data / "identities"
        ) as folder:  # what snapshots name is linked there
            settings = RatingSettings(partitions, folder=Path(folder))
            found = [_partition(log, store, settings, number, notes) for number in range(partitions)]
        spend = _spend(data / "spend.duckdb", log, notes)
        return make_status("data folder", found, ready=False, spend=spend, notes=notes)
    finally:
        log.close()


def _partition(
    log: SqliteLog, store: SnapshotStore, settings: RatingSettings, number: int, notes: list[str]
) -> PartitionStatus:
    records = _journal(log, number)
    sums = Sums.of(records)
    differences = journal_findings(number, sums)
    snapshot = store.load(RatingProcessor.name, number)
    if snapshot is None:
        notes.append(f"partition {number}: there is no snapshot: only the journal was looked at")
    else:
        differences += _look_at_state(log, store, settings, snapshot, number, sums, notes)
    end = log.end(topics.EVENTS, number)
    return PartitionStatus(
        partition=number,
        position=sums.position,
        end=end,
        ready=False,
        doing="stopped",
        lag_seconds=None if sums.position < end else 0.0,
        epoch=max((record.epoch for record in records), default=0),
        snapshot=None if snapshot is None else SnapshotStatus(position=snapshot.position),
        totals=sums.counts if sums.claims else None,
        through=sums.position,
        differences=differences,
    )


def _journal(log: SqliteLog, number: int) -> list[Record]:
    records: list[Record] = []
    position = log.begin(topics.JOURNAL, number)
    while found := log.read_records(topics.JOURNAL, number, position):
        records += (decode_record(record.value) for record in found)
        position = found[-1].end
    return records


def journal_findings(partition: int, sums: Sums) -> list[Finding]:
    """What the journal's steps do not add up to."""
    wrong = sums.wrong
    if wrong is None:
        return []
    what = f"journal: {wrong.what}"
    return [
        Finding(partition=partition, position=wrong.position, what=what, expected=wrong.expected, found=wrong.found)
    ]


def _look_at_state(
    log: SqliteLog,
    store: SnapshotStore,
    settings: RatingSettings,
    snapshot: Snapshot,
    number: int,
    sums: Sums,
    notes: list[str],
) -> list[Finding]:
    """The state in the snapshot: by itself, against the log, and against the journal where that stands there too."""
    totals = EngineTotals()
    processor = RatingProcessor(settings, totals)
    engine = processor.open(number, snapshot.state, partial(store.fetch, processor.name, number))
    seen = totals.get(number)
    assert seen is not None  # it is told when it is opened
    found = seen.findings(number)
    for one in compare(engine.tenants, engine.tenants, tables=True):
        if one.expected != one.found and one.what not in seen.broken:
            found.append(_finding(number, snapshot.position, one.what, *one.texts))
    found += log_differences(number, seen, snapshot.position)
    if seen.position != snapshot.position:
        found.append(_finding(number, snapshot.position, "the state's position", snapshot.position, seen.position))
    if sums.position != snapshot.position or not sums.claims:
        notes.append(f"partition {number}: the snapshot is at {snapshot.position}, the journal at {sums.position}")
        return found
    for name in (*COUNTED, "amount"):
        says, is_there = getattr(sums.counts, name), getattr(seen.counts, name)
        if says != is_there:
            found.append(_finding(number, snapshot.position, f"the state's {name}, by the journal", says, is_there))
    return found


def _finding(partition: int, position: int, what: str, expected: object, found: object) -> Finding:
    return Finding(partition=partition, position=position, what=what, expected=str(expected), found=str(found))


def _spend(path: Path, log: SqliteLog, notes: list[str]) -> SpendStatus | None:
    if not path.exists():
        notes.append("there is no spend store")
        return None
    store = DuckdbStore(path)
    try:
        verdict = reconcile(store)
        return SpendStatus(
            through=SpendView(store, log).through(),
            compared=verdict.positions,
            amounts_compared=verdict.amounts,
            checked_seconds_ago=0.0,
            differences=list(store_findings(verdict.differences)),
        )
    finally:
        store.close()
