"""`taximeter serve`: the embedded parts behind one HTTP server."""

import asyncio
from pathlib import Path

from ingest.door import DoorSettings
from rating.engine import RatingSettings
from schemas.catalogue import CatalogueError
from schemas.times import SECOND
from streams.embedded.folder import LogError
from streams.embedded.host import HostSettings
from streams.log import LogUnavailable
from streams.snapshots import SnapshotError
from taximeter.documents import read_catalogue_file
from taximeter.embedded import Embedded, EmbeddedSettings
from taximeter.http import Unready, make_app, running
from taximeter.process import complain, say, until_signalled

_DAY_SECONDS = 86400


async def serve(
    *,
    host: str,
    port: int,
    data: Path,
    catalogue: Path | None,
    partitions: int,
    snapshots: str | None,
    max_ahead: int,
    lateness: int,
    window: int,
    tick: int,
) -> int:
    """Runs until it is told to stop. Durations are seconds. Returns the exit status."""
    settings = EmbeddedSettings(
        data=data,
        partitions=partitions,
        snapshots=snapshots,
        rating=RatingSettings(partitions, lateness * SECOND, max(window // _DAY_SECONDS, 1)),
        host=HostSettings(tick_seconds=tick or None),
        door=DoorSettings(max_ahead=max_ahead * SECOND if max_ahead else None),
    )
    try:
        documents = None if catalogue is None else read_catalogue_file(catalogue)
        async with Embedded(settings) as parts:
            if documents is not None:
                await parts.apply(documents)
            if not parts.catalogue.catalogue.meters:
                complain("taximeter serve: no catalogue is in force (--catalogue): events are kept, nothing is rated")
            async with running(make_app(parts.routes(), parts.ready), host, port) as url:
                await asyncio.to_thread(parts.host.wait_until_ready)
                say(f"taximeter: ready at {url} (data in {data})")
                return await _until_stopped(parts)
    except CatalogueError as error:
        complain(str(error))
        return 2
    except (LogError, LogUnavailable, SnapshotError, Unready, OSError) as error:
        complain(f"taximeter serve: {error}")
        return 1


async def _until_stopped(parts: Embedded) -> int:
    assert parts.failure is not None
    stopped = asyncio.create_task(until_signalled())
    await asyncio.wait({stopped, parts.failure}, return_when=asyncio.FIRST_COMPLETED)
    if parts.failure.done():
        stopped.cancel()
        complain(f"taximeter serve: the spend store failed: {parts.failure.exception()}")
        return 1
    say("taximeter: stopping")
    return 0
