"""Requests that are made before the clock starts, and what they must cost: worked out here, in whole numbers.

A template is a whole HTTP request with 1,000 events. Sent again, it gets a new number, which stands at the end of every
event's id: one numpy assignment a request, no work in Python for an event. The prices are written down here once more,
on their own: nothing of `rating/` is used, so that what the engine comes to can be held against it.
"""

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.workload import CATALOGUE, MODELS
from schemas.times import format_time

BOOK: Final = CATALOGUE
"""The price book of the default workload; `amounts` knows its prices by heart."""
BODY_EVENTS: Final = 1000
NUMBER_DIGITS: Final = 10
TOKENS_OF_PROBE: Final = 1000

_SCALE: Final = 10**12
_HOLDER: Final = "#" * NUMBER_DIGITS

LineKey = tuple[str, str, str]
"""Customer, charge, and what the charge is grouped by: the model, the kind of GPU, or nothing."""


class Usage(NamedTuple):
    """What some events come to, by customer. GPU time is in thousandths of a second."""

    tokens: Counter[tuple[str, str, str]]
    """(customer, model, input or output) -> tokens."""
    requests: Counter[str]
    gpu: Counter[tuple[str, str]]
    """(customer, kind of GPU) -> milliseconds."""

    @classmethod
    def none(cls) -> "Usage":
        """Of no events."""
        return cls(Counter(), Counter(), Counter())

    def add(self, other: "Usage", times: int = 1) -> None:
        """Adds what some events come to that were sent so many times."""
        for mine, others in zip(self, other, strict=True):
            for key, value in others.items():
                mine[key] += value * times


class Template:
    """One request, ready to be sent, and what its events come to. `take` changes it: one sender at a time."""

    def __init__(self, texts: Iterable[bytes], usage: Usage, address: str) -> None:
        body = b"[" + b",".join(texts) + b"]"
        head = (
            f"POST /v1/events HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/cloudevents-batch+json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self.usage = usage
        self._request = np.frombuffer(bytearray(head.encode() + body), np.uint8)
        digits = np.flatnonzero(self._request == ord("#"))
        self.events = len(digits) // NUMBER_DIGITS
        self._places: NDArray[np.int64] = digits.reshape(self.events, NUMBER_DIGITS)

    def take(self, number: int) -> memoryview:
        """The whole request with this number in every event's id."""
        self._request[self._places] = np.frombuffer(f"{number:0{NUMBER_DIGITS}}".encode(), np.uint8)
        return memoryview(self._request)  # type: ignore[arg-type]  # an array is a buffer


def make_templates(count: int, customers: int, address: str, seed: int = 7) -> list[Template]:
    """Events of about 220 bytes, customers by a power law, times within the last hour of this month."""
    dice = random.Random(seed)
    owners = range(customers)
    weights = [1 / rank for rank in range(1, customers + 1)]
    begin = max(_month_start(), time.time_ns() // 1000 - 3_600_000_000)
    span = max(time.time_ns() // 1000 - begin, 1)
    return [_template(dice, dice.choices(owners, weights, k=BODY_EVENTS), begin, span, address) for _ in range(count)]


def _month_start() -> int:
    now = time.gmtime()
    return int(time.time() - ((now.tm_mday - 1) * 24 + now.tm_hour) * 3600 - now.tm_min * 60 - now.tm_sec) * 1_000_000


def _template(dice: random.Random, owners: list[int], begin: int, span: int, address: str) -> Template:
    usage, texts = Usage.none(), []
    for i, owner in enumerate(owners):
        customer, at = f"customer-{owner:06d}", format_time(begin + dice.randrange(span))
        if dice.random() < 0.3:
            millis, gpu = dice.randrange(1, 60_000), dice.choice(("a100", "h100"))
            kind, data = "gpu.session", f'{{"seconds":{millis / 1000},"gpu":"{gpu}"}}'
            usage.gpu[customer, gpu] += millis
        else:
            tokens, model, way = dice.randrange(1, 5000), dice.choice(MODELS), dice.choice(("input", "output"))
            kind, data = "llm.request", f'{{"tokens":{tokens},"model":"{model}","kind":"{way}"}}'
            usage.tokens[customer, model, way] += tokens
            usage.requests[customer] += 1
        texts.append(
            f'{{"specversion":"1.0","id":"{i:04d}-{_HOLDER}","source":"/bench/gateway","type":"{kind}",'
            f'"subject":"{customer}","time":"{at}","data":{data}}}'.encode()
        )
    return Template(texts, usage, address)


def probe(number: int, address: str) -> Template:
    """A request with the first and only event of a customer of its own."""
    customer, usage = probe_customer(number), Usage.none()
    usage.tokens[customer, "large", "output"] = TOKENS_OF_PROBE
    usage.requests[customer] = 1
    text = (
        f'{{"specversion":"1.0","id":"p-{_HOLDER}","source":"/bench/probe","type":"llm.request",'
        f'"subject":"{customer}","time":"{format_time(time.time_ns() // 1000)}",'
        f'"data":{{"tokens":{TOKENS_OF_PROBE},"model":"large","kind":"output"}}}}'
    )
    return Template([text.encode()], usage, address)


def probe_customer(number: int) -> str:
    """Whose a probe is."""
    return f"probe-{number:06d}"


# What it costs -----------------------------------------------------------------------------------------------------


def amounts(usage: Usage) -> dict[LineKey, int]:
    """Every line that is not nought, in units of 10^-12 USD, by the prices of `BOOK`. All of one month."""
    found: defaultdict[LineKey, int] = defaultdict(int)
    for (customer, model, way), tokens in usage.tokens.items():
        found[customer, "tokens", model] += tokens * (15 if way == "output" else 3) * _SCALE // 1_000_000
    for customer, requests in usage.requests.items():
        counted = max(requests - 100, 0)
        found[customer, "requests", ""] += (min(counted, 1000) * 2 + max(counted - 1000, 0)) * 5 * _SCALE // 1000
    seconds: Counter[str] = Counter()
    for (customer, gpu), millis in usage.gpu.items():
        seconds[customer] += millis
        found[customer, "capacity", gpu] += millis * (10 if millis <= 10_000_000 else 8) * _SCALE // 10_000_000
    for customer, millis in seconds.items():
        found[customer, "gpu", ""] += -(-millis // 60_000) * 5 * _SCALE // 100
    for customer in usage.requests.keys() | seconds.keys():
        found[customer, "platform", ""] += 20 * _SCALE
    return {key: amount for key, amount in found.items() if amount}


def differences(expected: Mapping[LineKey, int], found: Mapping[LineKey, int]) -> list[str]:
    """Lines that differ, each in words; nothing where every cent is right."""
    return [
        f"{'/'.join(key)}: found {found.get(key, 0)}, expected {expected.get(key, 0)} (10^-12 USD)"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key, 0) != found.get(key, 0)
    ]
