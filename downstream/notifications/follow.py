"""The topics into the queue: what an endpoint wants to be told of."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from downstream.notifications.endpoints import Endpoint
from downstream.notifications.queue import Queue
from schemas import topics
from streams.log import Positions, Source, TopicRecord, parts_of

Ends = Callable[[Sequence[str]], Awaitable[Positions]]
"""(topic, partition) -> the offset after the newest record, for some topics."""

_PREFIX: Final = {topics.INVOICES: "invoice", topics.ALERTS: "alert", topics.LINE_ITEMS: "line_item"}
_decoder = msgspec.json.Decoder(dict[str, Any])


def topics_of(endpoint: Endpoint) -> list[str]:
    """The topics that hold something for it. They do not change for an endpoint without a new position for each."""
    items = any(event.startswith("line_item") for event in endpoint.events)
    return [topics.INVOICES, topics.ALERTS] + ([topics.LINE_ITEMS] if items else [])


async def follow(
    name: str, endpoint: Endpoint, source: Source, queue: Queue, ends: Ends, wake: Callable[[], None]
) -> None:
    """Reads for ever. What it has read survives a restart with its position. Raises: LogUnavailable."""
    wanted = topics_of(endpoint)
    positions = await asyncio.to_thread(queue.positions, name)
    fresh = [topic for topic in wanted if not any(where[0] == topic for where in positions)]
    if fresh and endpoint.start == "now":
        begin = dict(await ends(fresh))
        await asyncio.to_thread(queue.add, name, [], begin, 0.0)
        positions |= begin
    async for records in source.read(wanted, positions):
        messages = [message for record in records if (message := message_of(endpoint, record)) is not None]
        moved = {(part.topic, part.partition): part.end for part in parts_of(records)}
        await asyncio.to_thread(queue.add, name, messages, moved, time.time())
        if messages:
            wake()


def message_of(endpoint: Endpoint, record: TopicRecord) -> tuple[str, str, bytes] | None:
    """The message (id, kind, body) that a record makes; None where the endpoint does not want it.

    A function of the record alone: read again, it makes the same message under the same id.
    """
    if not record.value:
        return None  # a compacted topic's mark that a key is gone
    output = _decoder.decode(record.value)
    prefix = _PREFIX[record.topic]
    suffix = {"invoice": output.get("status"), "alert": output.get("kind"), "line_item": "changed"}[prefix]
    kind = f"{prefix}.{suffix}"
    if not endpoint.wants(kind, output.get("customer", "")):
        return None
    revision = f".{output['revision']}" if "revision" in output else ""
    # The record goes in as it stands: no number of it is read and written again.
    body = b'{"type":"%s","data":%s}' % (kind.encode(), record.value)
    return f"{output['id']}{revision}", kind, body
