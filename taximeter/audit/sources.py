"""Where the audit finds what the engine wrote, and up to which place in the log that is true.

The outputs of a step are whole where the journal says `Done`. So the audit looks at the last such place of each
partition that the archive covers, and at the outputs that were written up to there.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rating.archive.archiver import Archiver
from rating.archive.store import Archive
from schemas import topics
from streams.embedded.folder import FolderRefused
from streams.embedded.log import SqliteLog
from streams.embedded.looking import LogLook
from streams.journal import Batch, Done, Open, decode_record
from streams.kafka.settings import KafkaSettings
from streams.kafka.source import LogReader, SourceMessage
from taximeter.audit.found import Found

OUTPUTS = (topics.LINE_ITEMS, topics.INVOICES)


@dataclass
class Cut:
    """The last place of a partition at which outputs are whole, and within what the archive covers. `last`: the last
    such place of all. `until`: by topic, the offset after the last output of before it; a topic that is not named holds
    none of later steps."""

    through: int = 0
    last: int = 0
    until: dict[str, int] = field(default_factory=dict)


def find_cut(journal: Iterable[bytes], covered: int) -> Cut:
    """The cut of one partition, by its journal as far as it is still held."""
    cut, epoch = Cut(), 0
    emitted: dict[str, int] = {}
    later = {topic: 0 for topic in OUTPUTS}
    for value in journal:
        record = decode_record(value)
        if record.epoch < epoch:
            continue  # of an owner that was fenced off
        epoch = record.epoch
        if isinstance(record, Done):
            emitted.update(record.emitted)
            cut.last = record.end
            if record.end <= covered:
                cut = Cut(record.end, record.end, {topic: emitted[topic] for topic in OUTPUTS if topic in emitted})
                later = dict.fromkeys(OUTPUTS, 0)
                continue
            for topic in OUTPUTS:  # what stood before the first output of a later step
                if topic in record.emitted and topic not in cut.until:
                    cut.until[topic] = record.emitted[topic] - later[topic]
        elif isinstance(record, Batch):
            later[topics.LINE_ITEMS] += record.summary.line_items
            later[topics.INVOICES] += record.summary.invoices
        else:
            assert isinstance(record, Open)
    return cut


# Embedded ------------------------------------------------------------------------------------------------------------


async def catch_up(data: Path, archive: Archive) -> bool:
    """Archives what the log of a folder still holds beyond the archive, if no process holds the folder.

    Returns whether it could. Raises: FolderRefused where there is no log."""
    with LogLook(data) as look:
        partitions = look.partitions
    try:
        log = SqliteLog(data, partitions)
    except FolderRefused:
        return False
    try:
        archiver = Archiver(archive, log)
        task = asyncio.create_task(archiver.run())
        ends = {partition: log.end(topics.EVENTS, partition) for partition in range(partitions)}
        while any(archiver.gathered.get(partition, 0) < end for partition, end in ends.items()):
            await asyncio.sleep(0.01)
            if task.done():
                await task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await archiver.close()
    finally:
        log.close()
    return True


def read_embedded(data: Path, archive: Archive) -> Found:
    """What the engine of a data folder wrote, at the last place that the archive covers. Raises: FolderRefused."""
    found = Found()
    held = archive.coverage()
    with LogLook(data) as look:
        for partition in range(look.partitions):
            covered = held[partition].end if partition in held else 0
            cut = find_cut((record.value for record in look.records(topics.JOURNAL, partition)), covered)
            found.through[partition], found.ahead[partition] = cut.through, cut.last
            for topic in OUTPUTS:
                until = cut.until.get(topic)
                records = look.records(topic, partition)
                found.add(topic, (one.value for one in records if until is None or one.offset < until))
    return found


# Kafka ---------------------------------------------------------------------------------------------------------------


async def read_kafka(settings: KafkaSettings, archive: Archive) -> Found:
    """The same from Kafka's topics. Raises: LogUnavailable, KafkaError."""
    found = Found()
    held = await asyncio.to_thread(archive.coverage)
    for partition in range(settings.partitions):
        covered = held[partition].end if partition in held else 0
        async with LogReader(settings, partition) as reader:
            ends = {topic: await reader.bounds(topic) for topic in OUTPUTS}
            journal = await _all(reader, topics.JOURNAL, *await reader.bounds(topics.JOURNAL))
            cut = find_cut((message.value for message in journal), covered)
            found.through[partition], found.ahead[partition] = cut.through, cut.last
            for topic in OUTPUTS:
                begin, end = ends[topic]
                if cut.until.get(topic, end) > end:
                    begin, end = await reader.bounds(topic)
                messages = await _all(reader, topic, begin, min(end, cut.until.get(topic, end)))
                found.add(topic, (message.value for message in messages if message.value))
    return found


async def _all(reader: LogReader, topic: str, begin: int, end: int) -> list[SourceMessage]:
    found: list[SourceMessage] = []
    async for messages in reader.read(topic, begin, end):
        found += messages
    return found
