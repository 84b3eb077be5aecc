"""Mends the journal and the snapshots of one partition of one binding on Kafka. The workers must be stopped.

A record of a topic cannot be written again, so what was damaged stays where it is: the state is made again on a private
processor, and two snapshots of it, under two epochs of our own, stand behind the damage. The next owner begins there.
A worker that runs nonetheless loses its epoch to the repair, as to any other owner, and stops.
"""

import asyncio
from collections.abc import AsyncIterator

from schemas import topics
from schemas.entry import Entry
from streams.journal import Done, JournalError, Open, Place, RecordDamaged, decode_record, encode_record
from streams.kafka.binding import Binding, addressed
from streams.kafka.ownership import StepLimits, entry_of
from streams.kafka.producer import KafkaProducer
from streams.kafka.settings import KafkaSettings
from streams.kafka.source import LogReader
from streams.mending import Cut, Damage, Item, Mended, mend
from streams.processor import Output
from streams.repairing import Beginning, Repair, Rise, begin, check_summary, describe, writer_name
from streams.snapshots import Snapshot, SnapshotError, SnapshotStore


async def repair_partition(
    settings: KafkaSettings,
    producer: KafkaProducer,
    binding: Binding,
    store: SnapshotStore,
    partition: int,
    rise: Rise,
    repair: Repair,
) -> None:
    """Looks at one partition, and mends what it can. Raises: LogUnavailable, SnapshotError, KafkaError."""
    async with LogReader(settings, partition) as reader:
        await _Mender(settings, producer, binding, store, partition, rise, repair, reader).run()


class _Mender:
    def __init__(
        self,
        settings: KafkaSettings,
        producer: KafkaProducer,
        binding: Binding,
        store: SnapshotStore,
        partition: int,
        rise: Rise,
        repair: Repair,
        reader: LogReader,
    ) -> None:
        self._settings = settings
        self._producer = producer
        self._binding = binding
        self._store = store
        self._partition = partition
        self._rise = rise
        self._repair = repair
        self._reader = reader
        self._name = f"{binding.journal}/{partition}"
        self._begin = self._end = 0
        self._key = b"%d" % partition

    async def run(self) -> None:
        self._begin, self._end = await self._reader.bounds(self._binding.journal)
        items = [item async for item in self._items()]
        damages = [record for _, record in items if isinstance(record, Damage)]
        beginning = await asyncio.to_thread(begin, self._store, self._binding.processor, self._partition, self._refuses)
        snapshot = beginning.snapshot
        if snapshot is not None:
            for damage in damages:
                if damage.offset < snapshot.journal_offset:
                    self._repair.note(damage.found, "the newest snapshot stands behind it: it is never read again")
            damages = [damage for damage in damages if damage.offset >= snapshot.journal_offset]
        fresh = snapshot is None and self._begin > 0
        if not damages and not beginning.unusable and not fresh:
            return
        whats = [damage.found for damage in damages] + [f"the snapshot {text}" for text in beginning.unusable]
        if fresh:
            whats.append(f"{self._name}: found no snapshot, and a journal that begins at {self._begin}")
        what = "; ".join(whats)
        try:
            mended = await self._mend(items, beginning)
        except (JournalError, SnapshotError) as error:
            self._repair.lost(what, str(error))
            return
        self._repair.mended(what, describe(mended))

    def _refuses(self, snapshot: Snapshot) -> str | None:
        if self._begin <= snapshot.journal_offset <= self._end:
            return None
        return f"it needs the journal from {snapshot.journal_offset}, found {self._begin} to {self._end}"

    async def _items(self) -> AsyncIterator[Item]:
        async for messages in self._reader.read(self._binding.journal, self._begin, self._end):
            for message in messages:
                place = Place(self._binding.journal, self._partition, message.offset)
                try:
                    yield message.offset, decode_record(message.value, place)
                except RecordDamaged as damage:
                    yield message.offset, Damage(message.offset, str(damage))

    async def _mend(self, items: list[Item], beginning: Beginning) -> Mended:
        """Raises: JournalError, SnapshotError: nothing was changed then."""
        snapshot = beginning.snapshot
        begin, end = await self._reader.bounds(self._binding.source)
        first, epoch, position = (
            (0, 0, begin) if snapshot is None else (snapshot.journal_offset, snapshot.epoch, snapshot.position)
        )
        if snapshot is None and begin > 0:
            raise JournalError(
                f"no snapshot can be used, and {self._binding.source} begins at {begin}, expected 0: bring a "
                "snapshot back from a backup"
            )
        later = snapshot is None and self._begin > 0
        mended = mend([item for item in items if item[0] >= first], epoch, position, begins_later=later)
        if not begin <= position <= mended.position <= end:
            raise JournalError(
                f"the source is needed from {position} to {mended.position}, found {begin} to {end}: it was kept for "
                "too short a time, or is another cluster's"
            )
        outputs = await self._replay(beginning, mended)
        if mended.tail or any(cut.summary is None for cut in mended.cuts):
            emitted = await self._emitted()
            outputs += await asyncio.to_thread(self._rise, beginning.state, emitted)
        if not self._repair.dry_run:
            await self._leave(beginning, mended, outputs)
        return mended

    async def _replay(self, beginning: Beginning, mended: Mended) -> list[Output]:
        """Brings the state to the journal's end. Returns the outputs that are not known to be durable."""
        outputs: list[Output] = []
        for index, cut in enumerate(mended.cuts):
            async for entries in self._parts(cut):
                step = await asyncio.to_thread(beginning.state.process, entries)
                check_summary(self._name, mended, index, step)
                if not cut.done:
                    outputs += step.outputs
        return outputs

    async def _parts(self, cut: Cut) -> AsyncIterator[list[Entry]]:
        """The cut's entries at once, or in parts of some size where the cut is not known."""
        entries: list[Entry] = []
        limits = StepLimits().of(self._binding)
        async for messages in self._reader.read(self._binding.source, cut.start, cut.end):
            for message in messages:
                entries.append(entry_of(self._binding, message))
                if not cut.one_step and len(entries) == limits.entries:
                    yield entries
                    entries = []
        if entries:
            yield entries

    async def _emitted(self) -> list[tuple[bytes, bytes]]:
        """The line items that the topic still has."""
        begin, end = await self._reader.bounds(topics.LINE_ITEMS)
        newest: dict[bytes, list[bytes]] = {}
        async for messages in self._reader.read(topics.LINE_ITEMS, begin, end):
            for message in messages:
                newest.setdefault(message.key, []).append(message.value)
        return [(key, value) for key, values in newest.items() for value in values]

    async def _leave(self, beginning: Beginning, mended: Mended, outputs: list[Output]) -> None:
        """The barrier, what was not emitted, and two snapshots under two epochs.

        Raises: JournalError, SnapshotError.
        """
        state, expected = beginning.state, self._end
        for epoch in (mended.epoch, mended.epoch + 1):
            at = await self._append(Open(epoch, writer_name()))
            if at != expected:
                raise JournalError(f"{self._name}: found another writer at work: stop the workers, then repair")
            messages = [addressed(output, self._partition) for output in outputs]
            offsets = await self._producer.produce_many(messages)
            pairs = zip(messages, offsets, strict=True)
            emitted = {m.topic: offset + 1 for m, offset in pairs if m.partition == self._partition}
            outputs = []
            expected = await self._append(Done(epoch, mended.position, emitted)) + 1
            saved = await asyncio.to_thread(state.snapshot)
            snapshot = Snapshot(mended.position, expected, epoch, saved, state.files())
            await asyncio.to_thread(self._store.save, self._binding.processor.name, self._partition, snapshot)

    async def _append(self, record: Open | Done) -> int:
        return await self._producer.produce(self._binding.journal, self._partition, self._key, encode_record(record))
