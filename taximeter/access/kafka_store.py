"""API keys of a deployment on Kafka: the compacted topic `taximeter.keys`, which every process follows."""

import asyncio
from collections.abc import Iterable

from schemas import topics
from streams.kafka.producer import KafkaProducer, Message
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable
from taximeter.access.keys import Record, encode_record, record_name
from taximeter.access.ring import KeyRing, KeysUnavailable
from taximeter.follower import TopicFollower


class KafkaKeys:
    """`KeyStore` on a topic, from `start` until `stop`. While Kafka is away the keys known stay in force."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.ring = KeyRing()
        self._settings = settings
        self._follower = TopicFollower(settings, topics.KEYS, self.ring.add)

    @property
    def where(self) -> str:
        """The options by which `taximeter keys` finds the same keys."""
        prefix = f" --prefix {self._settings.prefix}" if self._settings.prefix else ""
        return f"--bootstrap {self._settings.bootstrap}{prefix}"

    def start(self) -> None:
        """Reads the topic to its end, and follows it from then on. Blocks. Raises: KeysUnavailable."""
        try:
            self._follower.start()
        except LogUnavailable as error:
            raise KeysUnavailable(f"cannot read the API keys: {error}") from None

    def stop(self) -> None:
        """Ends the following."""
        self._follower.stop()

    async def append(self, records: Iterable[Record]) -> None:
        """See `KeyStore`."""
        messages = [Message(topics.KEYS, 0, record_name(one).encode(), encode_record(one)) for one in records]
        producer = KafkaProducer(self._settings)  # keys change too rarely to hold one
        try:
            await producer.produce_many(messages)
            await asyncio.to_thread(self._follower.catch_up)
        except LogUnavailable as error:
            raise KeysUnavailable(f"the API keys took no change: {error}") from None
        finally:
            await producer.close()
