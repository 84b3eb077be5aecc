"""Faust's consumer, made to fetch nothing of a partition that is not owned, and to begin where the journal says.

Touches private parts of faust-streaming 0.15.3 and aiokafka 0.14.0, both pinned; tests/kafka is the contract test.
"""

from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import TopicPartition
from faust.transport.drivers.aiokafka import Consumer, ConsumerRebalanceListener
from faust.types import TP

PositionOf = Callable[[TP], int | None]
"""The offset of the next message to work in; None for a partition that is not owned."""


class _PausingListener(ConsumerRebalanceListener):
    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Runs in the consumer's thread, before anything of the new assignment is handed on."""
        # Faust's own pause only filters what has been fetched; this one keeps aiokafka from fetching.
        self._thread._ensure_consumer().pause(*assigned)
        await super().on_partitions_assigned(assigned)


class OwnedConsumer(Consumer):
    """Where Faust seeks to the group's committed offsets, this seeks to the journal's positions."""

    RebalanceListener = _PausingListener
    position_of: PositionOf

    async def perform_seek(self) -> None:
        """Called by Faust after each rebalance when `on_rebalance_complete` has run, and where a fetch was broken off.

        The committed offset is not looked at: Faust acknowledges what it drops, so it can be ahead of the state.
        """
        positions = {tp: self.position_of(tp) for tp in self.assignment()}
        await self.send_to({tp: position for tp, position in positions.items() if position is not None})

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: a full buffer makes the fetching wait for room, which is all that is needed.

        Faust would take the partition out of the fetching, and once all are out sleep a whole second: with the small
        buffers that packs need, that is most of the time.
        """

    def check_group(self) -> None:
        """Raises what ended the membership of the group for good. Faust does not notice: it waits for ever."""
        consumer = self._thread._consumer
        if consumer is not None:
            coordinator = consumer._coordinator
            if coordinator._coordination_task.done() and not coordinator._closing.done():
                coordinator._coordination_task.result()
            if coordinator._pending_exception is not None:
                raise coordinator._pending_exception

    async def send_to(self, positions: dict[TP, int]) -> None:
        """Goes to these positions and fetches from there; what was fetched before is dropped by aiokafka."""
        for tp, position in positions.items():
            self._acked.pop(tp, None)
            self._acked_index.pop(tp, None)
            self._gap.pop(tp, None)
            # Without it Faust would never commit where the group's committed offset is behind the journal.
            self._committed_offset[tp] = position or None
        await self._thread.call_thread(self._go, positions)
        for tp, position in positions.items():
            if position == 0:
                self._read_offset.pop(tp, None)
            else:
                self._read_offset[tp] = position

    async def _go(self, positions: dict[TP, int]) -> None:
        """In the consumer's thread: seek, then let it fetch. A partition that has gone meanwhile is passed over."""
        consumer = self._thread._ensure_consumer()
        here = consumer.assignment()
        for tp, position in ((TopicPartition(*tp), position) for tp, position in positions.items()):
            if tp in here:
                consumer.seek(tp, position)
                consumer.resume(tp)
