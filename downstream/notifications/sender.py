"""The queue to one endpoint: signed, again where it was not taken, given up after three days."""

import asyncio
import contextlib
import logging
import random
import time
from typing import Final

import httpx

from downstream.notifications.endpoints import Endpoint
from downstream.notifications.queue import Message, Queue
from downstream.notifications.signing import sign

RETRIES_S: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""The pauses between tries, as the Standard Webhooks specification proposes them; then a message is a dead letter."""
_AT_ONCE: Final = 8
_GONE: Final = 410
_LOOK_S: Final = 10.0
"""How soon what another process has put back is seen."""

_logger = logging.getLogger(__name__)


class Sender:
    """Delivers one endpoint's messages: several at once, so a receiver must not rely on their order."""

    def __init__(self, name: str, endpoint: Endpoint, queue: Queue, http: httpx.AsyncClient) -> None:
        self._name = name
        self._endpoint = endpoint
        self._queue = queue
        self._http = http
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There may be something new."""
        self._woken.set()

    async def run(self) -> None:
        """Sends for ever."""
        while True:
            self._woken.clear()
            due = await asyncio.to_thread(self._queue.due, self._name, time.time(), _AT_ONCE)
            if due:
                await asyncio.gather(*map(self._deliver, due))
                continue
            next_due = await asyncio.to_thread(self._queue.next_due, self._name)
            pause = _LOOK_S if next_due is None else min(_LOOK_S, max(0.0, next_due - time.time()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)

    async def _deliver(self, message: Message) -> None:
        error, retry_after = await self._post(message)
        if not error:
            await asyncio.to_thread(self._queue.delivered, message)
            return
        left = RETRIES_S[message.attempts :]
        due = None
        if left and not error.startswith(f"{_GONE} "):
            due = time.time() + max(left[0] * random.uniform(1, 1.1), retry_after)
        else:
            _logger.error(
                "webhook %s: %s is a dead letter after %d tries: %s",
                self._name,
                message.id,
                message.attempts + 1,
                error[:3] if error[:3].isdigit() else error,  # what a receiver answers may repeat what it was sent
            )
        await asyncio.to_thread(self._queue.failed, message, error, due)

    async def _post(self, message: Message) -> tuple[str, float]:
        """What is wrong, empty where it was taken; and how long the receiver asks to be left alone, in seconds."""
        headers = sign(message.id, int(time.time()), message.body, self._endpoint.secrets)
        try:
            response = await self._http.post(
                self._endpoint.url,
                content=message.body,
                headers=headers | {"content-type": "application/json", "user-agent": "taximeter-webhooks"},
                timeout=self._endpoint.timeout_s,
                follow_redirects=False,
            )
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__, 0.0
        if response.is_success:
            return "", 0.0
        asked = response.headers.get("retry-after", "")
        return f"{response.status_code} {response.text[:200]}", float(asked) if asked.isdigit() else 0.0
