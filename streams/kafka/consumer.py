"""Faust's consumer, made to fetch nothing of a partition that is not owned, and to begin where the journal says.

What one fetch brings of a partition goes through Faust in bundles: to Faust a bundle is one message, whose value is the
list of them. What Faust does for a message costs more than all that is done for an event.

Touches private parts of faust-streaming 0.15.3 and aiokafka 0.14.0, both pinned; tests/kafka is the contract test.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, cast

from aiokafka import TopicPartition
from faust.transport.drivers.aiokafka import Consumer, ConsumerRebalanceListener
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.kafka.ownership import StepLimits
from streams.kafka.source import SourceMessage

PositionOf = Callable[[TP], int | None]
"""The offset of the next message to work in."""

_MUCH_BYTES: Final = 16 * 1024
"""In a fetch: of two hundred events in a pack, or more."""
_PLENTY_BYTES: Final = 256 * 1024
"""For this much the broker answers at once."""
_IDLE_WAIT_MS: Final = 1500


class _PausingListener(ConsumerRebalanceListener):
    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Runs in the consumer's thread, before anything of the new assignment is handed on."""
        # Faust's own pause only filters what has been fetched; this one keeps aiokafka from fetching.
        self._thread._ensure_consumer().pause(*assigned)
        await super().on_partitions_assigned(assigned)


class _Forgetful(defaultdict[TP, Any]):
    """Faust's note of the last offset that it delivered, which it uses to drop what it takes for repeated.

    It writes the note after a delivery and so over a seek that came meanwhile, and then drops what was sought. Nothing
    is noted here: `streams.kafka.order` says what is repeated.
    """

    def __setitem__(self, key: TP, value: Any) -> None:
        pass

    def __missing__(self, key: TP) -> Any:
        return None


class OwnedConsumer(Consumer):
    """Begins, goes on and commits where the journal says, and delivers everything that comes."""

    RebalanceListener = _PausingListener
    position_of: PositionOf
    """Where to fetch from; None for a partition that is not owned."""
    journalled_of: PositionOf
    """What to commit; None where nothing is known."""
    bundle_of: Callable[[TP], StepLimits]
    """How much a bundle may hold."""
    gather_s: float = 0.0
    """How long the broker may gather records before it answers, while much comes: a fetch costs this process and the
    broker as much as some hundred events do, and while a step is at work nothing is wanted sooner."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._read_offset = _Forgetful()

    async def perform_seek(self) -> None:
        """Called by Faust after each rebalance when `on_rebalance_complete` has run, and where a fetch was broken off.

        The group's committed offset is not looked at: it is a courtesy to those who watch the lag.
        """
        positions = {tp: self.position_of(tp) for tp in self.assignment()}
        await self.send_to({tp: position for tp, position in positions.items() if position is not None})

    async def send_to(self, positions: dict[TP, int]) -> None:
        """Goes to these positions and fetches from there; what was fetched before is dropped by aiokafka."""
        await self._thread.call_thread(self._go, positions)

    async def _go(self, positions: dict[TP, int]) -> None:
        """In the consumer's thread: seek, then let it fetch. A partition that has gone meanwhile is passed over."""
        consumer = self._thread._ensure_consumer()
        here = consumer.assignment()
        for tp, position in ((TopicPartition(*tp), position) for tp, position in positions.items()):
            if tp in here:
                consumer.seek(tp, position)
                consumer.resume(tp)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[list[SourceMessage]]]:
        """What the next fetch brings, in bundles."""
        found: Mapping[TP, list[Any]] = await super()._getmany(active_partitions, timeout) or {}
        self._let_gather(sum(len(record.value or b"") for records in found.values() for record in records))
        return {tp: self.bundle_of(tp).cut(map(_message, records)) for tp, records in found.items()}

    def _let_gather(self, found_bytes: int) -> None:
        """For the fetches after one that brought so much. Where little comes it is fetched at once."""
        much = found_bytes >= _MUCH_BYTES and self.gather_s > 0
        consumer = self._thread._consumer
        if consumer is not None:  # it may have been stopped meanwhile
            consumer._fetcher._fetch_min_bytes = _PLENTY_BYTES if much else 1
            consumer._fetcher._fetch_max_wait_ms = round(self.gather_s * 1000) if much else _IDLE_WAIT_MS

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        """A bundle as Faust's message."""
        first = cast("list[SourceMessage]", record)[0]
        generation = self.app.consumer_generation_id
        at = first.timestamp_ms / 1000
        return ConsumerMessage(*tp, first.offset, at, 0, None, None, record, None, 0, 0, tp, generation_id=generation)

    # What Faust commits is the journal's position, never what it believes acknowledged: it acknowledges what an
    # exception left undone and what was dropped.

    def ack(self, message: Any) -> bool:
        """Forgets the message."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in self.assignment() if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self.journalled_of(tp)

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: a full buffer makes the fetching wait for room, which is all that is needed.

        Faust would take the partition out of the fetching, and once all are out sleep a whole second: with the small
        buffers that packs need, that is most of the time.
        """

    def check_group(self) -> None:
        """Raises what ended the membership of the group for good. Faust does not notice: it waits for ever."""
        consumer = self._thread._consumer
        coordinator = None if consumer is None else consumer._coordinator  # none yet, where it is about to start
        if coordinator is not None:
            if coordinator._coordination_task.done() and not coordinator._closing.done():
                coordinator._coordination_task.result()
            if coordinator._pending_exception is not None:
                raise coordinator._pending_exception

    def is_member(self) -> bool:
        """Whether the group has this consumer: it has joined, no rebalance waits for it, and its coordinator is known.

        A coordinator that does not answer is noticed after a request's timeout (30 s), one that is gone at once.
        """
        consumer = self._thread._consumer
        if consumer is None or consumer._coordinator is None:
            return False
        coordinator, subscription = consumer._coordinator, consumer._subscription.subscription
        if coordinator.generation < 0 or coordinator.coordinator_id is None or subscription is None:
            return False
        return not coordinator.need_rejoin(subscription)


def _message(record: Any) -> SourceMessage:
    return SourceMessage(record.offset, record.timestamp, record.key or b"", record.value or b"")
