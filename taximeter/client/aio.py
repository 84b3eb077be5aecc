"""`AsyncClient`: a task of the program's event loop sends what it records."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any

import httpx

from taximeter.client.courier import Courier, Settings, Totals, Unsent


class AsyncClient:
    """As `taximeter.Client`, on an event loop: `async with AsyncClient(url) as client`.

    `record` does not wait and is no coroutine. Only the loop's own thread may use it. Its files are small and are
    written on the loop's thread, and only while the door takes nothing.
    """

    def __init__(self, url: str, settings: Settings | None = None, **options: Any) -> None:
        """See `taximeter.Client`. Raises: BufferInUse; OSError where the buffer's folder cannot be used."""
        self.settings = replace(settings or Settings(), **options)
        self._courier = Courier(self.settings)
        self._url = url.rstrip("/")
        self._http = httpx.AsyncClient(timeout=self.settings.timeout_s)
        self._wake = asyncio.Event()
        self._rested = asyncio.Event()
        """Set while nothing is under way and nothing is left."""
        self._flushing = 0
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "AsyncClient":
        self._task = asyncio.create_task(self._run(), name="taximeter-client")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def totals(self) -> Totals:
        """What became of the events so far."""
        return self._courier.totals

    def record(
        self,
        type: str,
        *,
        subject: str,
        data: Mapping[str, Any] | None = None,
        time: datetime | str | None = None,
        id: str | None = None,
        source: str | None = None,
        **extensions: str,
    ) -> str:
        """See `taximeter.Client.record`. Raises: as it does."""
        if self._closing or self._task is None:
            raise RuntimeError("the client is not open: use it in `async with`")
        id = self._courier.record(type, subject, data, time, id, source, extensions)
        self._rested.clear()
        if self._courier.is_batch_ready:
            self._wake.set()
        return id

    async def flush(self, timeout: float | None = None) -> None:
        """Waits (seconds; None: as long as it takes) until everything recorded is acknowledged. Raises: Unsent."""
        self._flushing += 1
        self._rested.clear()
        self._wake.set()
        try:
            await asyncio.wait_for(self._rested.wait(), timeout)
        except TimeoutError:
            waiting = len(self._courier.outbox)
            said = self._courier.error or "no answer"
            raise Unsent(f"{waiting} events are unsent after {timeout} s: {said}") from None
        finally:
            self._flushing -= 1

    async def spend(self, customer: str, **parameters: str) -> dict[str, Any]:
        """See `taximeter.Client.spend`. Raises: httpx.HTTPError."""
        path, wanted = self._courier.spend_request(self._url, customer, parameters)
        response = await self._http.get(path, params=wanted, headers=self._courier.headers)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    async def close(self) -> None:
        """Sends what is left for at most `flush_s`; what is unsent then stays in the buffer. May be called again."""
        if self._closing or self._task is None:
            return
        with contextlib.suppress(Unsent):
            await self.flush(self.settings.flush_s)
        self._closing = True
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._courier.close()
        await self._http.aclose()

    async def _run(self) -> None:
        while True:
            if not self._flushing and not self._courier.is_batch_ready:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self.settings.linger_s)
            self._wake.clear()
            delay = await self._send()
            if self._courier.is_empty:
                self._rested.set()
                if self._flushing:
                    await asyncio.sleep(0)
            elif delay:
                await asyncio.sleep(delay)

    async def _send(self) -> float:
        """Sends one parcel, if there is one. Returns how many seconds to wait."""
        try:
            parcel = self._courier.next()
        except OSError as error:
            return self._courier.unreadable(error)
        if parcel is None:
            return 0.0
        try:
            response = await self._http.post(
                f"{self._url}/v1/events", content=parcel.body, headers=self._courier.headers
            )
        except httpx.HTTPError as error:
            return self._courier.failed(parcel, str(error) or type(error).__name__)
        except asyncio.CancelledError:
            self._courier.failed(parcel, "the program ends")  # it may have arrived; it has its identity
            raise
        return self._courier.answered(parcel, response.status_code, response.headers, response.content)
