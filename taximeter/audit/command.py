"""`taximeter audit`: what it was asked, what it found, and the exit status."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
from aiokafka.errors import KafkaError

from rating.archive.store import Archive, ArchiveError
from schemas.access import DEFAULT_TENANT
from schemas.times import DAY, SECOND
from streams.embedded.folder import LogError
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable
from taximeter.audit.found import Found
from taximeter.audit.run import Audit, AuditSettings
from taximeter.audit.sources import catch_up, read_embedded, read_kafka
from taximeter.audit.tell import as_json, as_text
from taximeter.options import kafka_settings
from taximeter.process import complain, say

FAILURES = (ArchiveError, LogError, LogUnavailable, KafkaError, duckdb.Error, msgspec.MsgspecError, OSError, ValueError)


class Source(NamedTuple):
    """What there is to audit."""

    archive: Archive
    found: Found
    settings: AuditSettings

    async def open(self, tenant: str, customers: Sequence[str] = ()) -> Audit:
        """The audit of one tenant. Raises: what `FAILURES` lists."""
        return await asyncio.to_thread(Audit, self.archive, self.found, self.settings, customers, tenant)


async def open_source(
    name: str,
    *,
    data: Path | None,
    archive: str | None,
    bootstrap: str | None,
    partitions: int,
    prefix: str,
    security: Sequence[str],
    schema_registry: str,
    lateness: int,
    window: int,
) -> tuple[Source | None, int]:
    """A data folder or Kafka's topics; or None and the exit status, with the reason said."""
    if (data is None) == (bootstrap is None):
        complain(f"taximeter {name}: give either --data (a folder of `taximeter serve`) or --bootstrap (Kafka)")
        return None, 2
    if bootstrap is not None and archive is None:
        complain(f"taximeter {name}: give --archive, where `taximeter archive` writes to")
        return None, 2
    settings = AuditSettings(lateness=lateness * SECOND, window_days=max(window * SECOND // DAY, 1))
    try:
        place = Archive(archive or str((data or Path()) / "archive"), make=data is not None)
        options = (partitions, prefix, 1, security)
        kafka = kafka_settings(bootstrap, *options, schema_registry=schema_registry) if bootstrap else None
        found = await _gather(place, data, kafka)
        if any(found.ahead.values()) and not any(found.through.values()):
            complain(
                f"taximeter {name}: the archive in {place.url} covers nothing of the log yet: try again in a minute"
            )
            return None, 1
        return Source(place, found, settings), 0
    except FAILURES as error:
        complain(f"taximeter {name}: {error}")
        return None, 2 if isinstance(error, ValueError) else 1


async def _gather(archive: Archive, data: Path | None, kafka: KafkaSettings | None) -> Found:
    if data is not None:
        await catch_up(data, archive)
        return await asyncio.to_thread(read_embedded, data, archive)
    assert kafka is not None
    return await read_kafka(kafka, archive)


async def audit(*, customer: Sequence[str], tenant: str | None, json: bool, width: int, **options: Any) -> int:
    """Returns 0 where all is as it should be, 1 where something is not or could not be read, 2 for bad arguments.

    Without `tenant` it audits everybody who has events or documents, one after the other."""
    source, status = await open_source("audit", **options)
    if source is None:
        return status
    try:
        opened = await source.open(tenant or DEFAULT_TENANT, customer)
        report = await asyncio.to_thread(opened.run)
        for other in () if tenant is not None else opened.loaded.tenants[1:]:
            opened = await source.open(other, customer)
            report.add(await asyncio.to_thread(opened.run))
    except FAILURES as error:
        complain(f"taximeter audit: {error}")
        return 2 if isinstance(error, ValueError) else 1
    say(as_json(report) if json else "\n".join(as_text(report, width)))
    return 1 if report.differences else 0
