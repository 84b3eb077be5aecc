"""What to send next, what an answer means, and when to try again. The same for both clients; knows no network."""

import logging
import os
import random
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from taximeter.client.outbox import Outbox, Parcel

NDJSON: Final = "application/x-ndjson"
_PROBLEM: Final = "application/problem+json"
_AGAIN: Final = frozenset({401, 403, 404, 408, 425, 429})
"""Besides 5xx: what the next try may get past, a key or an address being mended meanwhile. The events are kept."""
_encoder = msgspec.json.Encoder(decimal_format="number")
_logger = logging.getLogger("taximeter.client")


class Unsent(RuntimeError):
    """`flush` ended before everything was acknowledged. What is unsent is still kept. The message says why."""


def authorization(key: str | None = None) -> dict[str, str]:
    """The header that says who asks: with this key, or the environment's TAXIMETER_KEY. None of either: nothing."""
    key = key or os.environ.get("TAXIMETER_KEY")
    return {"authorization": f"Bearer {key}"} if key else {}


class Refused(NamedTuple):
    """An event that the door will never take, and why. `event` is its JSON."""

    event: bytes
    code: str
    path: str
    message: str


def log_refused(refused: Refused) -> None:
    """What is done with a refused event unless the program says otherwise."""
    # Not the message: it shows what was found in the event.
    _logger.error("the door refused an event: %s at %s", refused.code, refused.path or "the whole")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a program may choose."""

    source: str = ""
    """The `source` of its events; by default `python:<the name of the program>`. With `id` it identifies an event."""
    key: str | None = None
    """Sent as `Authorization: Bearer <key>`; by default the environment's TAXIMETER_KEY."""
    batch_events: int = 1000
    batch_bytes: int = 1024 * 1024
    linger_s: float = 0.5
    """How long an event waits for others to go with it."""
    timeout_s: float = 30.0
    """How long the door may take to answer."""
    backoff_first_s: float = 0.1
    backoff_max_s: float = 30.0
    """A try that failed is repeated after a random part of a time that doubles from the first to the last of these."""
    memory_bytes: int = 16 * 1024 * 1024
    """Unsent events that are held in memory. What is more goes to the buffer; without one it is refused."""
    buffer: Path | str | None = None
    """A folder for unsent events: of this process alone. None: they live in memory only."""
    buffer_bytes: int = 256 * 1024 * 1024
    flush_s: float = 5.0
    """How long `close` tries to send what is left, before it is left in the buffer for the next start."""
    on_refused: Callable[[Refused], object] = log_refused


@dataclass(slots=True)
class Totals:
    """What became of the events so far. `accepted` are those that the door took for new."""

    recorded: int = 0
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    retries: int = 0
    position: dict[int, int] = field(default_factory=dict)
    """By partition, what a query must include to show all that was acknowledged."""

    @property
    def token(self) -> str:
        """The position as queries take it."""
        return ",".join(f"{partition}:{offset}" for partition, offset in sorted(self.position.items()))


class _Verdict(msgspec.Struct):
    verdict: str
    index: int = 0
    line: int | None = None
    code: str = ""
    path: str = ""
    message: str = ""


class _Answer(msgspec.Struct):
    """What the client reads of the door's answer (`ingest.receipt.Answer`)."""

    accepted: int
    duplicates: int
    position: str
    events: list[_Verdict]


class Courier:
    """One program's unsent events, and what is known of its door."""

    def __init__(self, settings: Settings) -> None:
        """Raises: BufferInUse, OSError."""
        self.settings = settings
        self.totals = Totals()
        self.error = ""
        """Why the last try failed; empty where it did not."""
        folder = None if settings.buffer is None else Path(settings.buffer)
        self.outbox = Outbox(folder, settings.memory_bytes, settings.buffer_bytes)
        self._counting = Lock()
        self._failures = 0
        self._source = settings.source or f"python:{Path(sys.argv[0] or 'python').name}"
        self._halves: list[Parcel] = []
        """Parts of a parcel that was too large, to be sent before anything else."""

    @property
    def headers(self) -> dict[str, str]:
        """Of every request."""
        return {"content-type": NDJSON} | authorization(self.settings.key)

    def record(
        self,
        type: str,
        subject: str,
        data: Mapping[str, Any] | None,
        time: datetime | str | None,
        id: str | None,
        source: str | None,
        extensions: Mapping[str, str],
    ) -> str:
        """Keeps an event, and returns its id. Raises: BufferFull; TypeError, ValueError for what is no JSON."""
        id = id or str(uuid.uuid4())
        moment = time if time is not None else datetime.now(UTC)
        if isinstance(moment, datetime) and moment.tzinfo is None:
            raise ValueError(f"time: found {moment.isoformat()} without a time zone, expected one with it")
        event: dict[str, Any] = {
            "id": id,
            "source": source or self._source,
            "type": type,
            "subject": subject,
            "time": moment,
            **extensions,
        }
        event["specversion"] = "1.0"
        if data is not None:
            event["data"] = data
        self.outbox.put(_encoder.encode(event))
        with self._counting:
            self.totals.recorded += 1
        return id

    def next(self) -> Parcel | None:
        """What is to be sent now, the oldest first. Raises: OSError where the buffer cannot be read."""
        if self._halves:
            return self._halves.pop(0)
        return self.outbox.take(self.settings.batch_events, self.settings.batch_bytes)

    @property
    def is_batch_ready(self) -> bool:
        """Whether there is no point in waiting for more."""
        waiting = self.outbox.waiting >= self.settings.batch_events
        return waiting or self.outbox.on_disk or bool(self._halves)

    @property
    def is_empty(self) -> bool:
        """Whether everything that was recorded is acknowledged (a parcel under way is neither)."""
        return not self._halves and not len(self.outbox)

    def answered(self, parcel: Parcel, status: int, headers: Mapping[str, str], body: bytes) -> float:
        """Takes an answer in. Returns how many seconds to wait before the next try."""
        if status == 413 and len(parcel.events) > 1:
            half = len(parcel.events) // 2
            self._halves[:0] = [
                Parcel(parcel.events[:half], parcel.file, last=False),
                Parcel(parcel.events[half:], parcel.file, parcel.last),
            ]
            return 0.0
        problem = headers.get("content-type", "").startswith(_PROBLEM)
        if status >= 500 or status in _AGAIN:
            return self._again(parcel, _detail(status, body), headers.get("retry-after", ""))
        if problem or status not in (200, 400):
            for event in parcel.events:
                self._refuse(Refused(event, str(status), "", _detail(status, body)))
        else:
            try:
                answer = msgspec.json.decode(body, type=_Answer)
            except msgspec.MsgspecError:
                return self._again(parcel, f"{_detail(status, body)} is no answer of a door", "")
            self._count(parcel, answer)
        self._failures, self.error = 0, ""
        self.outbox.done(parcel)
        return 0.0

    def unreadable(self, error: OSError) -> float:
        """The buffer could not be read. Returns how many seconds to wait before the next try."""
        if not self.error:
            _logger.error("the buffer cannot be read, %d events wait: %s", len(self.outbox), error)
        self.error = f"the buffer cannot be read: {error}"
        return self.settings.backoff_max_s

    def spend_request(self, url: str, customer: str, parameters: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """The URL and parameters that ask for a customer's spend, all that was acknowledged included."""
        wanted = {"position": self.totals.token, **parameters}
        return f"{url}/v1/customers/{quote(customer, safe='')}/spend", {k: v for k, v in wanted.items() if v}

    def failed(self, parcel: Parcel, why: str) -> float:
        """There was no answer. Returns how many seconds to wait before the next try."""
        return self._again(parcel, why, "")

    def _again(self, parcel: Parcel, why: str, retry_after: str) -> float:
        self._give_back(parcel)
        if not self.error:
            _logger.warning("the door took nothing, %d events wait: %s", len(self.outbox), why)
        self.error = why
        self.totals.retries += 1
        settings = self.settings
        longest = min(settings.backoff_max_s, settings.backoff_first_s * 2 ** min(self._failures, 20))
        self._failures += 1
        asked = float(retry_after) if retry_after.isdigit() else 0.0
        return asked + random.uniform(0, longest)

    def _give_back(self, parcel: Parcel) -> None:
        """The parcel comes first again; all that waits is put on disk, where a crash cannot take it."""
        for part in [*reversed(self._halves), parcel]:  # those of a parcel on disk stand there still
            self.outbox.give_back(part)
        self._halves.clear()
        self.outbox.spill()

    def _count(self, parcel: Parcel, answer: _Answer) -> None:
        totals = self.totals
        totals.accepted += answer.accepted
        totals.duplicates += answer.duplicates
        for part in filter(None, answer.position.split(",")):
            partition, offset = map(int, part.split(":"))
            totals.position[partition] = max(offset, totals.position.get(partition, 0))
        for verdict in answer.events:
            if verdict.verdict == "rejected":
                event = parcel.events[verdict.index if verdict.line is None else verdict.line - 1]
                self._refuse(Refused(event, verdict.code, verdict.path, verdict.message))

    def _refuse(self, refused: Refused) -> None:
        self.totals.refused += 1
        try:
            self.settings.on_refused(refused)
        except Exception:
            _logger.exception("on_refused failed for an event refused with %s", refused.code)

    def close(self) -> None:
        """Leaves what is unsent in the buffer. Logs what is lost, for there is no buffer or it is full."""
        lost = self.outbox.close()
        if lost:
            _logger.error("%d events were never acknowledged and end with this process: %s", lost, self.error)


def _detail(status: int, body: bytes) -> str:
    try:
        return f"{status}: {msgspec.json.decode(body)['detail']}"
    except (msgspec.MsgspecError, KeyError, TypeError):
        return f"{status}: {body[:200].decode(errors='replace')}"
