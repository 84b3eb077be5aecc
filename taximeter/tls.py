"""TLS of the HTTP servers: one context, whose certificate is read again when its files change."""

import asyncio
import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LOOK_S: Final = 2.0
_logger = logging.getLogger(__name__)


class TlsRefused(ValueError):
    """A certificate, key or authority cannot be used; the message names the option and the file."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """PEM files. `client_ca`: authorities one of which must have signed the client's certificate (mutual TLS)."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def of(cls, cert: Path | None, key: Path | None, client_ca: Path | None) -> "TlsSettings | None":
        """What the options say; None: no TLS. Raises: TlsRefused where one is missing."""
        if cert is None and key is None and client_ca is None:
            return None
        if cert is None or key is None:
            missing = "--tls-cert" if cert is None else "--tls-key"
            raise TlsRefused(f"{missing}: found nothing, expected a file, because TLS needs a certificate and its key")
        return cls(cert, key, client_ca)


class Tls:
    """The context of a server. `watch` keeps its certificate fresh; connections that stand keep theirs."""

    def __init__(self, settings: TlsSettings) -> None:
        """Raises: TlsRefused."""
        self._settings = settings
        self._seen = self._stamp()
        self.context = self._make()

    async def watch(self) -> None:
        """Looks at the files for ever; a pair that does not fit (one of them is still being written) waits."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.reload()

    def reload(self) -> bool:
        """Takes the files if they have changed; returns whether they were taken."""
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        try:
            self._make()  # a context that has failed to load is of no use any more: the live one never tries
            self.context.load_cert_chain(self._settings.cert, self._settings.key)
        except TlsRefused as error:
            _logger.warning("%s; the certificate before stays in use", error)
            return False
        self._seen = stamp
        _logger.info("the certificate was read again")
        return True

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        cert, key, client_ca = self._settings.cert, self._settings.key, self._settings.client_ca
        try:
            context.load_cert_chain(cert, key, password=_no_password)
        except (OSError, ValueError) as error:
            what = "the two do not belong together" if "MISMATCH" in str(error) else _said(error)
            raise TlsRefused(f"--tls-cert {cert}, --tls-key {key}: {what}") from None
        if client_ca is not None:
            try:
                context.load_verify_locations(client_ca)
            except OSError as error:
                raise TlsRefused(f"--tls-client-ca {client_ca}: {_said(error)}") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_file_stamp, (self._settings.cert, self._settings.key)))


def _no_password() -> str:
    raise ValueError("the key is encrypted, expected one without a password")  # OpenSSL would ask the terminal


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "found no PEM of that kind"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
