"""Sends batches of events to a door over HTTP, several at once, and again where the door could not take them.

A batch that is sent again has the same ids, so nothing counts twice, whatever became of the first try.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx
import msgspec

from ingest.receipt import Answer
from streams.log import decode_position, encode_position

NDJSON: Final = "application/x-ndjson"
EXAMPLES_MAX: Final = 5
_BACKOFF_FIRST_S, _BACKOFF_MAX_S = 0.1, 5.0
_ANSWER = msgspec.json.Decoder(Answer)


class DoorRefused(Exception):
    """The door will not take a request whole, and would not the next time either. The message says why."""


class DoorUnavailable(Exception):
    """The door did not answer, or took nothing, for as long as was allowed. The message says what it said last."""


@dataclass(slots=True)
class Totals:
    """What became of everything that was sent so far."""

    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    retries: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[int, str]] = field(default_factory=list)
    """The number (from 1) of the first few rejected events, and what was said of each."""
    position: dict[int, int] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    def add(self, answer: Answer, first: int) -> None:
        """Counts one answer. `first`: the number of the batch's first event, from 0."""
        self.sent += answer.accepted + answer.duplicates + answer.rejected
        self.accepted += answer.accepted
        self.duplicates += answer.duplicates
        self.rejected += answer.rejected
        for verdict in answer.events:
            self.conflicts += verdict.conflict
            if verdict.verdict == "rejected":
                self.codes[verdict.code or "?"] += 1
                if len(self.examples) < EXAMPLES_MAX:
                    at = first + (verdict.line - 1 if verdict.line is not None else verdict.index or 0) + 1
                    self.examples.append((at, f"{verdict.path or 'event'}: {verdict.message}"))
        for partition, offset in decode_position(answer.position).items():
            self.position[partition] = max(offset, self.position.get(partition, 0))

    @property
    def token(self) -> str:
        """The position that includes everything sent so far."""
        return encode_position(self.position)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.begun


Take = Callable[[bytes], Awaitable[Answer]]
"""Takes a body of NDJSON and answers for it."""


class DoorClient:
    """One door. `patience_s`: how long a batch is tried again before it is given up."""

    def __init__(
        self, client: httpx.AsyncClient, url: str, patience_s: float = 60.0, on_retry: Callable[[], None] | None = None
    ) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._patience_s = patience_s
        self._on_retry = on_retry or (lambda: None)

    async def take(self, body: bytes) -> Answer:
        """Sends one body of NDJSON until it is taken. Raises: DoorRefused, DoorUnavailable."""
        response = await self._post("/v1/events", body, NDJSON)
        if response.status_code == 400 and not _is_problem(response):
            return _ANSWER.decode(response.content)  # every event of it was rejected
        if response.status_code != 200:
            raise DoorRefused(_explain(response))
        return _ANSWER.decode(response.content)

    async def tick(self, time: str) -> str:
        """Says that it is this time. Returns the position after it. Raises: DoorRefused, DoorUnavailable."""
        response = await self._post("/v1/ticks", msgspec.json.encode({"time": time}), "application/json")
        if response.status_code != 200:
            raise DoorRefused(_explain(response))
        return str(msgspec.json.decode(response.content)["position"])

    async def _post(self, path: str, body: bytes, content_type: str) -> httpx.Response:
        deadline = time.monotonic() + self._patience_s
        pause = _BACKOFF_FIRST_S
        while True:
            wait = pause
            try:
                response = await self._client.post(
                    self._url + path, content=body, headers={"content-type": content_type}
                )
                if response.status_code not in (429, 502, 503, 504):
                    return response
                said = _explain(response)
                asked = response.headers.get("retry-after", "")
                wait = float(asked) if asked.isdigit() else pause
            except httpx.TransportError as error:
                said = f"{self._url}: {str(error) or type(error).__name__}"
            if time.monotonic() + wait > deadline:
                raise DoorUnavailable(f"gave up after {self._patience_s:.0f} s: {said}")
            self._on_retry()
            await asyncio.sleep(wait)
            pause = min(pause * 2, _BACKOFF_MAX_S)


async def send_all(
    batches: Iterator[Sequence[bytes]],
    take: Take,
    totals: Totals,
    concurrency: int,
    before: Callable[[int], Awaitable[None]] | None = None,
) -> None:
    """Sends every batch of lines, `concurrency` at once, and counts the answers in `totals`.

    `before` is awaited with the number of events handed out so far before each batch. Raises: what `take` and the
    iterator raise.
    """
    handed = 0

    async def work() -> None:
        nonlocal handed
        for lines in batches:
            first = handed
            handed += len(lines)
            if before is not None:
                await before(first)
            totals.add(await take(b"\n".join(line.rstrip(b"\n") for line in lines)), first)

    tasks = [asyncio.create_task(work()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_problem(response: httpx.Response) -> bool:
    return response.headers.get("content-type", "").startswith("application/problem+json")


def _explain(response: httpx.Response) -> str:
    try:
        said = msgspec.json.decode(response.content)["detail"]
    except (msgspec.MsgspecError, KeyError, TypeError):
        said = response.text[:200]
    return f"{response.request.url} answered {response.status_code}: {said}"
