"""What stands in front of every HTTP server: its settings, who may start without keys, and the server itself."""

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.applications import Starlette
from starlette.types import ASGIApp

from ingest.door import Door
from ingest.singles import Singles
from schemas.identity import IDENTIFIER
from schemas.limits import BODIES_BYTES_MAX
from taximeter.access.bodies import Bodies
from taximeter.access.gate import Gate
from taximeter.access.lane import Lane
from taximeter.access.layer import Layer
from taximeter.access.rates import Rates, RateSettings
from taximeter.access.ring import KeyRing
from taximeter.http import running
from taximeter.process import complain, say
from taximeter.request_counts import RequestCounts
from taximeter.tls import Tls, TlsRefused, TlsSettings

if TYPE_CHECKING:  # whoever needs no Kafka does not load it
    from taximeter.access.kafka_store import KafkaKeys

_RATE_MAX: Final = 10**9


class FrontRefused(ValueError):
    """A server cannot start like this; the message says what to do."""


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """What the options `fronted` say."""

    tls: TlsSettings | None = None
    insecure: bool = False
    public_watching: bool = False
    rates: RateSettings = field(default_factory=RateSettings)
    bodies_bytes_max: int = BODIES_BYTES_MAX
    slow_s: int = 20

    @classmethod
    def of(
        cls,
        *,
        tls_cert: Path | None,
        tls_key: Path | None,
        tls_client_ca: Path | None,
        insecure_no_keys: bool,
        public_metrics: bool,
        tenant_rate: Sequence[str],
        tenant_burst: int,
        body_memory: int,
        slow_client: int,
    ) -> "FrontSettings":
        """Raises: FrontRefused where they contradict each other."""
        try:
            tls = TlsSettings.of(tls_cert, tls_key, tls_client_ca)
        except TlsRefused as error:
            raise FrontRefused(str(error)) from None
        rates = _read_rates(tenant_rate, tenant_burst)
        return cls(tls, insecure_no_keys, public_metrics, rates, body_memory * 1024 * 1024, slow_client)


class Front:
    """Stands in front of one server. Raises: FrontRefused, TlsRefused."""

    def __init__(self, name: str, settings: FrontSettings, ring: KeyRing, host: str, where: str) -> None:
        """`name`: the command; `where`: the options by which `taximeter keys` finds the same keys."""
        self.gate = Gate(ring, insecure=settings.insecure, public_watching=settings.public_watching)
        self.rates = Rates(settings.rates)
        self._bodies = Bodies(settings.bodies_bytes_max, settings.slow_s)
        self._settings = settings
        self._tls = None if settings.tls is None else Tls(settings.tls)
        self._notice = check_keys(name, self.gate, ring, host, where)

    def around(self, app: ASGIApp) -> ASGIApp:
        """The application behind keys, rates and bounds."""
        return Layer(app, self.gate, self._bodies, self.rates)

    def lane(self, door: Door, counts: RequestCounts) -> Lane:
        """What takes plain requests with events past the application, with the same keys, rates and bounds."""
        return Lane(Singles(door), self.gate, self._bodies, self.rates, counts)

    @contextlib.asynccontextmanager
    async def running(self, app: Starlette, host: str, port: int, lane: Lane | None = None) -> AsyncIterator[str]:
        """Serves the application while the block runs; yields its URL. Raises: Unready."""
        tls = self._tls
        context = None if tls is None else tls.context
        watching = None if tls is None else asyncio.create_task(tls.watch(), name="certificate")
        try:
            async with running(app, host, port, self.around, context, self._settings.slow_s, lane) as url:
                self._notice.tell()
                yield url
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)


class HealthFront(NamedTuple):
    """What stands in front of a rating worker's health port."""

    gate: Gate
    tls: Tls | None


def health_front(
    keys: "KafkaKeys",
    host: str,
    *,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    insecure_no_keys: bool,
    public_metrics: bool,
) -> HealthFront:
    """Starts to follow the keys. Blocks. Raises: FrontRefused, TlsRefused, KeysUnavailable."""
    tls = TlsSettings.of(tls_cert, tls_key, tls_client_ca)
    found = HealthFront(
        Gate(keys.ring, insecure=insecure_no_keys, public_watching=public_metrics), None if tls is None else Tls(tls)
    )
    keys.start()
    check_keys("rate", found.gate, keys.ring, host, keys.where).tell()
    return found


class Notice(NamedTuple):
    """What is to be said of a server's keys when it listens; a warning goes to standard error."""

    text: str = ""
    warning: bool = False

    def tell(self) -> None:
        """Says it."""
        if self.text:
            (complain if self.warning else say)(self.text)


def check_keys(name: str, gate: Gate, ring: KeyRing, host: str, where: str) -> Notice:
    """Whether a server may start. Raises: FrontRefused where others than this machine could do everything."""
    create = f"taximeter keys create {where} --name NAME --scope admin"
    if gate.insecure:
        what = f"whoever reaches {host} may do everything, as any tenant"
        return Notice(f"taximeter {name}: WARNING: --insecure-no-keys: {what}", True)
    if ring.any_valid(time.time_ns() // 1000):
        return Notice()
    if ring.empty and is_loopback(host):
        what = "everybody on this machine may do everything"
        return Notice(f"taximeter: no API keys: {what} (`{create}` ends that)")
    found = "no API key" if ring.empty else "no API key that is valid: all have expired or are revoked"
    if is_loopback(host):
        return Notice(f"taximeter {name}: found {found}; make one with `{create}`", True)
    raise FrontRefused(
        f"--host {host}: found {found}, and others than this machine can reach this address. Make a key with "
        f"`{create}`, or listen on 127.0.0.1; behind a proxy that asks for keys itself: --insecure-no-keys"
    )


def _read_rates(texts: Sequence[str], burst_s: int) -> RateSettings:
    """`RATE` of every tenant, `TENANT=RATE` of one. Raises: FrontRefused."""
    rates: dict[str, int] = {}
    for text in texts:
        tenant, named, rate = text.rpartition("=")
        good = rate.isascii() and rate.isdigit() and len(rate) < 11 and 0 < int(rate) <= _RATE_MAX
        if not good or (named and not IDENTIFIER.match(tenant)):
            raise FrontRefused(
                f"--tenant-rate: found {text!r}, expected events a second (1 to {_RATE_MAX}), such as 5000 or acme=5000"
            )
        rates[tenant] = int(rate)
    return RateSettings(rates.pop("", None), rates, burst_s)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address that a server listens on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
