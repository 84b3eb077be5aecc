"""How many events a second a tenant may send: a token bucket for each.

A bucket holds `rate × burst` events and fills at `rate`. A request is let in while there is anything in the bucket, and
all of its events are taken out, so a batch is never too large for a bucket: what is owed afterwards is waited for. The
rate over any longer time is the one that was set.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ingest.door import OverRate

_NANO: Final = 1_000_000_000
_BUCKETS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class RateSettings:
    """`rate`: events a second of every tenant, None: any; `rates`: of tenants by name, over it."""

    rate: int | None = None
    rates: Mapping[str, int] = field(default_factory=dict)
    burst_s: int = 10
    """How many seconds' events may come at once."""

    def of(self, tenant: str) -> int | None:
        """Events a second of this tenant."""
        return self.rates.get(tenant, self.rate)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the headers say of a tenant's bucket: its size, what is in it, and after how many seconds to come again."""

    limit: int
    remaining: int
    reset_s: int


class _Bucket:
    """Levels are events × 10⁹, whole numbers."""

    __slots__ = ("at", "full", "level", "rate")

    def __init__(self, rate: int, burst_s: int, now: int) -> None:
        self.rate, self.full, self.at = rate, rate * burst_s * _NANO, now
        self.level = self.full

    def fill(self, now: int) -> int:
        """The level now (nanoseconds)."""
        self.level = min(self.full, self.level + (now - self.at) * self.rate)
        self.at = now
        return self.level

    def wait_s(self) -> int:
        """Whole seconds until there is an event in it again, 1 at least."""
        return max(-(-(_NANO - self.level) // (self.rate * _NANO)), 1)


class Rates:
    """The buckets. Used on the event loop alone. `clock`: nanoseconds that never go back."""

    def __init__(self, settings: RateSettings, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._settings = settings
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self.bounded = settings.rate is not None or bool(settings.rates)

    def check(self, tenant: str) -> None:
        """Raises: OverRate while nothing is in the tenant's bucket."""
        if self.bounded and (bucket := self._bucket(tenant)) is not None and bucket.fill(self._clock()) < _NANO:
            seconds = bucket.wait_s()
            detail = f"the tenant {tenant} has sent more than its {bucket.rate} events a second, expected none for"
            raise OverRate(f"{detail} {seconds} s", seconds)

    def take(self, tenant: str, events: int) -> None:
        """Takes a request's events out. Raises: OverRate, and takes nothing."""
        if self.bounded and events:
            self.check(tenant)
            if (bucket := self._bucket(tenant)) is not None:
                bucket.level -= events * _NANO

    def standing(self, tenant: str) -> Standing | None:
        """None where the tenant's rate is not bounded."""
        bucket = self._bucket(tenant)
        if bucket is None:
            return None
        level = bucket.fill(self._clock())
        return Standing(bucket.full // _NANO, max(level // _NANO, 0), 0 if level >= _NANO else bucket.wait_s())

    def _bucket(self, tenant: str) -> _Bucket | None:
        bucket = self._buckets.get(tenant)
        if bucket is None and (rate := self._settings.of(tenant)) is not None:
            if len(self._buckets) >= _BUCKETS_MAX:  # full ones say nothing: they are made again
                now = self._clock()
                self._buckets = {name: one for name, one in self._buckets.items() if one.fill(now) < one.full}
            bucket = self._buckets[tenant] = _Bucket(rate, self._settings.burst_s, self._clock())
        return bucket
