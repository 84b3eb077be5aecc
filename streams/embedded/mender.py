"""Mends the journal and the snapshots of one partition of an embedded log. Nothing else may hold the folder.

The state is made again on a private processor: the newest snapshot that can be used, then the source up to where the
journal says that it was worked in (`streams.mending`). Two snapshots of it then stand behind the damage, under two
epochs, so that a restart never goes back to what was damaged; the journal before them is let go of.
"""

from collections.abc import Iterator

import msgspec

from schemas import topics
from schemas.entry import Entry
from streams.embedded.folder import LogError
from streams.embedded.log import SqliteLog
from streams.embedded.rows import unpack
from streams.journal import JournalError, Place, RecordDamaged, decode_record
from streams.mending import Damage, Item, Mended, mend
from streams.processor import Output, Processor
from streams.repairing import Beginning, Repair, Rise, begin, check_summary, describe, writer_name
from streams.snapshots import Snapshot, SnapshotError, SnapshotStore

_ENTRIES_MAX = 4096
_EVENTS_MAX = 100_000
_BYTES_MAX = 32 * 1024 * 1024


def repair_partition(
    log: SqliteLog, processor: Processor, store: SnapshotStore, partition: int, rise: Rise, repair: Repair
) -> bool:
    """Looks at one partition, and mends what it can. Returns whether its journal and snapshots are whole now."""
    return _Mender(log, processor, store, partition, rise, repair).run()


def records_of(topic: str, partition: int, position: int, value: bytes) -> list[tuple[bytes, bytes]] | str:
    """The records of a row, or what is wrong with it."""
    try:
        return list(unpack(value))
    except (ValueError, OSError, msgspec.MsgspecError) as error:
        return f"{topic}/{partition}, offset {position}: found a row that cannot be unpacked ({error})"


class _Mender:
    def __init__(
        self,
        log: SqliteLog,
        processor: Processor,
        store: SnapshotStore,
        partition: int,
        rise: Rise,
        repair: Repair,
    ) -> None:
        self._log = log
        self._processor = processor
        self._store = store
        self._partition = partition
        self._rise = rise
        self._repair = repair
        self._begin = log.begin(topics.JOURNAL, partition)
        self._end = log.end(topics.JOURNAL, partition)
        self._name = f"{topics.JOURNAL}/{partition}"

    def run(self) -> bool:
        items = list(self._items())
        damages = [record for _, record in items if isinstance(record, Damage)]
        try:
            beginning = begin(self._store, self._processor, self._partition, self._refuses)
        except LogError as error:
            self._repair.lost(f"the log in {self._log.folder}", str(error))
            return False
        fresh = beginning.snapshot is None and self._begin > 0
        if not damages and not beginning.unusable and not fresh:
            return True
        whats = [damage.found for damage in damages] + [f"the snapshot {text}" for text in beginning.unusable]
        if fresh:
            whats.append(f"{self._name}: found no snapshot, and a journal that begins at {self._begin}")
        what = "; ".join(whats)
        try:
            mended = self._mend(items, beginning)
        except (JournalError, LogError, SnapshotError) as error:
            self._repair.lost(what, str(error))
            return False
        self._repair.mended(what, describe(mended))
        return True

    def _refuses(self, snapshot: Snapshot) -> str | None:
        """Raises: LogError on one that includes more than the log has."""
        source = self._log.end(topics.EVENTS, self._partition)
        if snapshot.journal_offset > self._end or snapshot.position > source:
            raise LogError(
                f"partition {self._partition}: a snapshot includes the source up to {snapshot.position} and the "
                f"journal up to {snapshot.journal_offset}, found their ends at {source} and {self._end}: the log has "
                "lost what it had answered for, or the snapshots are another log's. Bring the whole folder back from a "
                "backup"
            )
        if snapshot.journal_offset < self._begin:
            return f"it needs the journal from {snapshot.journal_offset}, found its beginning at {self._begin}"
        return None

    def _items(self) -> Iterator[Item]:
        """The journal's records, those that cannot be read included."""
        for position, after, value, damage in self._log.scan(topics.JOURNAL, self._partition):
            found = records_of(topics.JOURNAL, self._partition, position, value) if damage is None else damage
            if not isinstance(found, str) and len(found) != after - position:
                found = f"found {len(found)} records, expected {after - position}"
            for offset in range(position, after):
                place = Place(topics.JOURNAL, self._partition, offset)
                if isinstance(found, str):
                    yield offset, Damage(offset, f"{place}: {found}")
                    continue
                try:
                    yield offset, decode_record(found[offset - position][1], place)
                except RecordDamaged as error:
                    yield offset, Damage(offset, str(error))

    def _mend(self, items: list[Item], beginning: Beginning) -> Mended:
        """Raises: JournalError, LogError, SnapshotError: nothing was changed then."""
        snapshot = beginning.snapshot
        first, epoch, position = 0, 0, 0
        if snapshot is not None:
            first, epoch, position = snapshot.journal_offset, snapshot.epoch, snapshot.position
        elif (oldest := self._log.begin(topics.EVENTS, self._partition)) > 0:
            raise LogError(
                f"no snapshot can be used, and the source begins at {oldest}, expected 0: bring the folder back from a "
                "backup"
            )
        tail = [item for item in items if item[0] >= first]
        mended = mend(tail, epoch, position, begins_later=snapshot is None and self._begin > 0)
        end = self._log.end(topics.EVENTS, self._partition)
        if mended.position > end:
            raise LogError(f"the journal has worked in the source up to {mended.position}, found its end at {end}")
        outputs = self._replay(beginning, mended)
        if mended.tail or any(cut.summary is None for cut in mended.cuts):
            outputs += self._rise(beginning.state, self._emitted())
        if not self._repair.dry_run:
            self._leave(beginning, mended, outputs)
        return mended

    def _replay(self, beginning: Beginning, mended: Mended) -> list[Output]:
        """Brings the state to the journal's end. Returns the outputs that are not known to be durable."""
        outputs: list[Output] = []
        for index, cut in enumerate(mended.cuts):
            for entries in self._parts(cut.start, cut.end, whole=cut.one_step):
                step = beginning.state.process(entries)
                check_summary(self._name, mended, index, step)
                if not cut.done:
                    outputs += step.outputs
        return outputs

    def _parts(self, start: int, end: int, whole: bool) -> Iterator[list[Entry]]:
        if whole:
            yield self._log.read_cut(self._partition, start, end)
            return
        while start < end:
            bounds = {"entries_max": _ENTRIES_MAX, "events_max": min(_EVENTS_MAX, end - start), "bytes_max": _BYTES_MAX}
            entries = self._log.read_entries(self._partition, start, **bounds)
            if not entries or entries[-1].end > end:
                raise LogError(f"{topics.EVENTS}/{self._partition}: found no entry that ends at {end}")
            yield entries
            start = entries[-1].end

    def _emitted(self) -> Iterator[tuple[bytes, bytes]]:
        """The line items that can be read."""
        for position, _, value, damage in self._log.scan(topics.LINE_ITEMS, self._partition):
            found = records_of(topics.LINE_ITEMS, self._partition, position, value) if damage is None else damage
            if not isinstance(found, str):
                yield from found

    def _leave(self, beginning: Beginning, mended: Mended, outputs: list[Output]) -> None:
        """What was not emitted, two snapshots under two epochs, and a journal that begins behind the damage."""
        log, state = self._log, beginning.state
        for epoch in (mended.epoch, mended.epoch + 1):
            before = log.open_epoch(self._partition, epoch, writer_name()) - 1
            end = log.commit_step(self._partition, None, epoch, mended.position, outputs)
            outputs = []
            snapshot = Snapshot(mended.position, end, epoch, state.snapshot(), state.files())
            self._store.save(self._processor.name, self._partition, snapshot)
        log.trim(topics.JOURNAL, self._partition, before)
