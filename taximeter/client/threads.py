"""`Client`: a thread of its own sends what the program records."""

import atexit
import contextlib
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any

import httpx

from taximeter.client.courier import Courier, Settings, Totals, Unsent


class Client:
    """Sends usage events to one door. Threads may share it; it is closed at the program's exit, if not before.

    An event is kept from the return of `record` on: in memory, and in the buffer (a folder) as soon as the door takes
    nothing. Every event has an identity before it is first sent, so that however often it is sent, it counts once.
    """

    def __init__(self, url: str, settings: Settings | None = None, **options: Any) -> None:
        """`url`: the door's, such as `http://127.0.0.1:8080`. Options are the fields of `Settings`.

        Raises: BufferInUse; OSError where the buffer's folder cannot be used.
        """
        self.settings = replace(settings or Settings(), **options)
        self._courier = Courier(self.settings)
        self._url = url.rstrip("/")
        self._http = httpx.Client(timeout=self.settings.timeout_s)
        self._changed = threading.Condition()
        self._flushing = 0
        self._under_way = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="taximeter-client", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

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
        """Keeps an event to be sent, and returns its id. Does not wait for the network.

        `time`: with a time zone; by default now. Numbers of `data` may be `Decimal`, and arrive exact.
        Raises: BufferFull; TypeError, ValueError for what cannot be an event; RuntimeError after `close`.
        """
        if self._closing:
            raise RuntimeError("the client is closed: it keeps no more events")
        id = self._courier.record(type, subject, data, time, id, source, extensions)
        if self._courier.is_batch_ready:
            with self._changed:
                self._changed.notify_all()
        return id

    def flush(self, timeout: float | None = None) -> None:
        """Waits (seconds; None: as long as it takes) until everything recorded is acknowledged. Raises: Unsent."""
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            try:
                if not self._changed.wait_for(self._is_idle, timeout):
                    waiting = len(self._courier.outbox)
                    raise Unsent(f"{waiting} events are unsent after {timeout} s: {self._courier.error or 'no answer'}")
            finally:
                self._flushing -= 1

    def spend(self, customer: str, **parameters: str) -> dict[str, Any]:
        """What the customer has spent, everything that this client knows to be acknowledged included.

        `parameters`: those of `GET /v1/customers/{customer}/spend`. Raises: httpx.HTTPError.
        """
        path, wanted = self._courier.spend_request(self._url, customer, parameters)
        response = self._http.get(path, params=wanted, headers=self._courier.headers)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    def close(self) -> None:
        """Sends what is left for at most `flush_s`; what is unsent then stays in the buffer. May be called again."""
        if self._closing:
            return
        atexit.unregister(self.close)
        with contextlib.suppress(Unsent):  # the courier said so when the door first failed, and will if it is lost
            self.flush(self.settings.flush_s)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(self.settings.timeout_s)
        self._courier.close()
        self._http.close()

    def _is_idle(self) -> bool:
        return not self._under_way and self._courier.is_empty

    def _run(self) -> None:
        while True:
            self._wait_for_work()
            if self._closing:
                return
            delay = self._send()
            if delay:
                self._rest(delay)

    def _wait_for_work(self) -> None:
        """Until a batch is full, someone flushes, or the oldest event has waited for long enough."""
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(self._has_work, self.settings.linger_s)

    def _has_work(self) -> bool:
        flush = self._flushing > 0 and len(self._courier.outbox) > 0
        return self._closing or flush or self._courier.is_batch_ready

    def _rest(self, seconds: float) -> None:
        """Before the next try; cut short by `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing, seconds)

    def _send(self) -> float:
        """Sends one parcel, if there is one. Returns how many seconds to wait."""
        self._under_way = True
        try:
            try:
                parcel = self._courier.next()
            except OSError as error:
                return self._courier.unreadable(error)
            if parcel is None:
                return 0.0
            try:
                response = self._http.post(f"{self._url}/v1/events", content=parcel.body, headers=self._courier.headers)
            except httpx.HTTPError as error:
                return self._courier.failed(parcel, str(error) or type(error).__name__)
            return self._courier.answered(parcel, response.status_code, response.headers, response.content)
        finally:
            self._under_way = False
