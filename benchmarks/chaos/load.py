"""The clients: they send events over HTTP, send again what got no answer, and remember what was acknowledged.

Among the events are deliberate duplicates, some of which say something else than the first, late ones, and voids, of
what was sent before and of what is still to come.
"""

import json
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Final, NamedTuple

from confluent_kafka import Producer

from benchmarks.chaos import book
from benchmarks.chaos.expected import Identity

CUSTOMERS: Final = 40
ANSWER_S: Final = 4.0
"""How long a client waits before it takes a request for lost and sends it again."""
_MODELS: Final = ("small", "large", "vision")
_HISTORY: Final = 3000


@dataclass(frozen=True)
class Sent:
    """One event as a client sent it."""

    identity: Identity
    text: str
    amount: str
    """The tokens; empty for voids."""


class _Ack(NamedTuple):
    """An answer: when the request was sent and answered (monotonic), and the position after its events."""

    sent: float
    at: float
    position: str


class _Maker:
    """Events of one client, from a seed. Their customer follows from their number, so that a void can come first."""

    def __init__(self, name: str, seed: int) -> None:
        self._random = random.Random(f"{seed}-{name}")
        self._name = name
        self._number = 0
        self._sent: deque[tuple[int, Sent]] = deque(maxlen=_HISTORY)

    def make(self) -> Sent:
        """The next event: mostly usage."""
        chance = self._random.random()
        if chance < 0.04 and self._sent:
            return self._random.choice(self._sent)[1]
        if chance < 0.045 and self._sent:
            number, again = self._random.choice(self._sent)
            return Sent(again.identity, self._usage(number)[0], again.amount)
        self._number += 1
        if chance < 0.065 and self._sent:
            return self._void(self._random.choice(self._sent)[0])
        if chance < 0.07:
            return self._void(self._number + self._random.randrange(1, 40))
        text, amount = self._usage(self._number)
        sent = Sent(
            (self._customer(self._number), f"client/{self._name}", f"{self._name}-{self._number}"), text, amount
        )
        self._sent.append((self._number, sent))
        return sent

    def _customer(self, number: int) -> str:
        return f"cust-{(number * 2654435761 >> 7) % CUSTOMERS}"

    def _usage(self, number: int) -> tuple[str, str]:
        late = self._random.random() < 0.2
        day = self._random.randrange(1, 29) if late else 1 + number // 40 % 28
        amount = f"{self._random.randrange(1, 400)}"
        if self._random.random() < 0.3:
            amount += f".{self._random.randrange(1, 1000):03d}"
        data = f'{{"n": {amount}, "model": "{self._random.choice(_MODELS)}"}}'
        at = f"{book.MONTH}-{day:02d}T{number % 24:02d}:{number % 60:02d}:00Z"
        return self._event(f"{self._name}-{number}", number, book.EVENT_TYPE, data, f'"time": "{at}", '), amount

    def _void(self, number: int) -> Sent:
        source = f"client/{self._name}"
        data = json.dumps({"source": source, "id": f"{self._name}-{number}", "reason": "chaos"})
        id = f"void-{self._name}-{self._number}"
        identity = self._customer(number), source, id
        return Sent(identity, self._event(id, number, "taximeter.void", data, ""), "")

    def _event(self, id: str, number: int, type: str, data: str, time: str) -> str:
        return (
            f'{{"specversion": "1.0", "id": "{id}", "source": "client/{self._name}", "type": "{type}", '
            f'"subject": "{self._customer(number)}", {time}"data": {data}}}'
        )


class Load:
    """Some clients. `start`, then `stop`; the counters may be read at any time."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        rate: float = 400.0,
        clients: int = 4,
        batch: int = 20,
        seed: int = 1,
        json_topic: tuple[str, str] | None = None,
        mirror: "Mirror | None" = None,
    ) -> None:
        """`rate`: events a second. `json_topic`: bootstrap and topic for a client that writes to Kafka itself."""
        self.urls = list(urls)
        self.sent = 0
        """Events handed to the clients for sending, each request once."""
        self.acknowledged: dict[Identity, float] = {}
        """What was acknowledged, and when (monotonic)."""
        self.again = 0
        """Requests sent again."""
        self.refused: list[str] = []
        """Answers that no fault explains."""
        self._rate, self._clients, self._batch, self._seed = rate, clients, batch, seed
        self._json_topic, self.mirror = json_topic, mirror
        self._acks: dict[str, list[_Ack]] = {url: [] for url in self.urls}
        self._answered = 0
        self._stopping = threading.Event()
        self._finishing = False
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._round = 0

    def start(self) -> None:
        """Begins to send; may be called again after `stop`."""
        self._stopping, self._finishing = threading.Event(), False
        self._round += 1
        self._threads = [
            threading.Thread(target=self._send, args=(f"{self._round}.{number}",), name=f"client-{number}", daemon=True)
            for number in range(self._clients)
        ]
        if self._json_topic is not None:
            self._threads.append(threading.Thread(target=self._write, args=(f"{self._round}.kafka",), daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self, finish: bool = False) -> None:
        """Ends the clients. A request under way is given up, so it may have been taken or not; with `finish` it is

        sent until it is acknowledged."""
        self._finishing = finish
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def unanswered(self) -> int:
        """Events sent and not answered so far."""
        return max(self.sent - self._answered, 0)

    def first_ack(self, url: str, after: float) -> "_Ack | None":
        """A door's first answer to a request that was sent after a moment (monotonic)."""
        later = [ack for ack in self._acks[url][-2000:] if ack.sent > after]
        return min(later, key=lambda ack: ack.at) if later else None

    def _send(self, name: str) -> None:
        maker = _Maker(name, self._seed)
        chance = random.Random(name)
        pause = self._batch * self._clients / self._rate
        connections: dict[str, HTTPConnection] = {}
        due = time.monotonic()
        while not self._stopping.is_set():
            events = [maker.make() for _ in range(chance.randrange(1, 2 * self._batch))]
            body = ("[" + ",".join(event.text for event in events) + "]").encode()
            with self._lock:
                self.sent += len(events)
            if self._deliver(body, events, chance, connections):
                with self._lock:
                    self._answered += len(events)
            due = max(due + pause, time.monotonic() - 1.0)
            self._stopping.wait(max(0.0, due - time.monotonic()))
        for connection in connections.values():
            connection.close()

    def _deliver(
        self, body: bytes, events: list[Sent], chance: random.Random, connections: dict[str, HTTPConnection]
    ) -> bool:
        """Sends the same until it is acknowledged; False where the clients were stopped meanwhile."""
        while not self._stopping.is_set() or self._finishing:
            url = chance.choice(self.urls)
            begun = time.monotonic()
            status, answer = _post(url, body, connections)
            if status == 200 and answer["accepted"] + answer["duplicates"] == len(events):
                now = time.monotonic()
                self._acks[url].append(_Ack(begun, now, answer["position"]))
                with self._lock:
                    fresh = [event for event in events if event.identity not in self.acknowledged]
                    for event in events:
                        self.acknowledged.setdefault(event.identity, now)
                if self.mirror is not None:
                    self.mirror.add(fresh)
                return True
            if status not in (0, 503):
                self.refused.append(f"{url} answered {status}: {answer}")
            with self._lock:
                self.again += 1
            self._stopping.wait(chance.uniform(0.05, 0.3))
        return False

    def _write(self, name: str) -> None:
        """The client that writes single events to `taximeter.events.json`."""
        assert self._json_topic is not None
        bootstrap, topic = self._json_topic
        maker = _Maker(name, self._seed)
        producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "delivery.timeout.ms": 10_000})

        def send(event: Sent) -> None:
            def delivered(error: Any, _: Any) -> None:
                if error is not None:
                    if not self._stopping.is_set():
                        send(event)
                    return
                with self._lock:
                    self._answered += 1
                    self.acknowledged.setdefault(event.identity, time.monotonic())

            producer.produce(topic, event.text.encode(), on_delivery=delivered)

        while not self._stopping.is_set():
            with self._lock:
                self.sent += 1
            with suppress(BufferError):
                send(maker.make())
            producer.poll(0.05)
        producer.flush(5.0)


def _post(url: str, body: bytes, connections: dict[str, HTTPConnection]) -> tuple[int, Any]:
    """The status and the answer's object; 0 where there was none."""
    connection = connections.get(url)
    if connection is None:
        host, _, port = url.removeprefix("http://").partition(":")
        connection = connections[url] = HTTPConnection(host, int(port), timeout=ANSWER_S)
    try:
        connection.request("POST", "/v1/events", body, {"Content-Type": "application/cloudevents-batch+json"})
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content)
    except (OSError, HTTPException, ValueError) as error:
        connection.close()
        del connections[url]
        return 0, str(error)


class Mirror:
    """The acknowledged usage again, each event once, for the agent that the run is compared with."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 50})
        self._topic = topic
        self._lock = threading.Lock()

    def add(self, events: Sequence[Sent]) -> None:
        """Writes events that were acknowledged for the first time."""
        with self._lock:
            for event in {event.identity: event for event in events if event.amount}.values():
                value = json.dumps({"customer": event.identity[0], "milli_tokens": _milli(event.amount)})
                self._producer.produce(self._topic, value.encode(), key=event.identity[0].encode())
            self._producer.poll(0)

    def close(self) -> None:
        """Waits until all is written."""
        self._producer.flush(30.0)


def _milli(amount: str) -> int:
    whole, _, part = amount.partition(".")
    return int(whole) * 1000 + int(part.ljust(3, "0") or 0)
