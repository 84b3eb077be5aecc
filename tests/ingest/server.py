"""A door on an embedded log, as a process of its own: `python -m tests.ingest.server FOLDER PARTITIONS`.

Prints the port it listens on. It has no host and no engine behind it.
"""

import asyncio
import socket
import sys
from collections.abc import Sequence

import uvicorn

from ingest.app import application, health_routes
from ingest.columns import rejection_record
from ingest.door import Door, DoorSettings
from ingest.route import View
from schemas import topics
from schemas.rejection import Rejection
from streams.embedded.log import SqliteLog


class LogRejections:
    """`ingest.door.RejectionSink` on an embedded log."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    async def publish(self, rejections: Sequence[Rejection]) -> None:
        """Appends to partition 0 of the rejections."""
        await self._log.publish(topics.REJECTIONS, 0, map(rejection_record, rejections))


def make_app(log: SqliteLog) -> object:
    """The ASGI application on a log."""
    view = View({"team-a": "acme"}, ["$.tokens"])
    door = Door(log, LogRejections(log), lambda _: view, DoorSettings(max_ahead=None))
    return application(door, others=health_routes(lambda: not log.closed))


async def serve(folder: str, partitions: int) -> None:
    """Serves until it is killed."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    config = uvicorn.Config(make_app(SqliteLog(folder, partitions)), log_level="error", access_log=False)  # type: ignore[arg-type]
    print(listener.getsockname()[1], flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
