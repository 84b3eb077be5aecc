"""The Python client: usage events from a program to a door, in batches, none lost while there is room to keep them.

It imports nothing of the engine; `httpx` and `msgspec` are all it needs.

- `outbox`: what has not been acknowledged yet, in memory and on disk, within bounds;
- `courier`: what to send next, what an answer means, when to try again. No I/O of its own over the network;
- `threads`: `Client`, for programs without an event loop; `aio`: `AsyncClient`, for those with one.
"""

from taximeter.client.aio import AsyncClient
from taximeter.client.courier import Refused, Settings, Totals, Unsent
from taximeter.client.outbox import BufferFull, BufferInUse
from taximeter.client.threads import Client

__all__ = ["AsyncClient", "BufferFull", "BufferInUse", "Client", "Refused", "Settings", "Totals", "Unsent"]
