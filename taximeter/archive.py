"""`taximeter archive`: raw events on Kafka kept as Parquet, by a process of its own."""

import asyncio
from collections.abc import Sequence

from rating.archive.archiver import Archiver, ArchiveSettings
from rating.archive.store import Archive, ArchiveError
from streams.kafka.admin import TopicError, ensure_topics
from streams.kafka.source import KafkaSource
from streams.log import LogUnavailable
from taximeter.options import kafka_settings
from taximeter.process import complain, say, until_signalled


async def archive(
    *, bootstrap: str, partitions: int, prefix: str, replication: int, security: Sequence[str], to: str, every: int
) -> int:
    """Runs until it is told to stop, and archives what is left. Returns the exit status."""
    try:
        settings = kafka_settings(bootstrap, partitions, prefix, replication, security)
        await asyncio.to_thread(ensure_topics, settings)
        archiver = Archiver(Archive(to), KafkaSource(settings), ArchiveSettings(seconds_max=float(max(every, 1))))
        following = asyncio.create_task(archiver.run())
        stopped = asyncio.create_task(until_signalled())
        say(f"taximeter archive: following {settings.topic('taximeter.events')} to {to}")
        await asyncio.wait({stopped, following}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if following.done():
            await following
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        say("taximeter archive: stopping")
        await archiver.close()
    except (ArchiveError, LogUnavailable, TopicError, OSError, ValueError) as error:
        complain(f"taximeter archive: {error}")
        return 1
    return 0
