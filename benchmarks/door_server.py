"""A door as a process of its own, with keys, rates and bounds in front and a durable embedded log behind: no engine.

`python -m benchmarks.door_server FOLDER [--ordinary]`: prints its URL. `--ordinary`: without the fast lane. Meters read
three paths of each event; what they come to is nobody's business here.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ingest.app import routes
from ingest.columns import rejection_record
from ingest.door import Door
from ingest.route import View
from schemas import topics
from schemas.rejection import Rejection
from streams.embedded.log import SqliteLog
from taximeter.access.front import Front, FrontSettings
from taximeter.access.sqlite_store import SqliteKeys
from taximeter.http import make_app
from taximeter.process import run, say, spare_the_collector, until_signalled
from taximeter.request_counts import RequestCounts

PATHS = ("$.tokens", "$.model", "$.kind")


class _Rejections:
    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    async def publish(self, rejections: Sequence[Rejection]) -> None:
        """See `ingest.door.RejectionSink`."""
        await self._log.publish(topics.REJECTIONS, 0, [rejection_record(one) for one in rejections])


async def main(folder: Path, ordinary: bool) -> int:
    """Runs until it is told to stop."""
    log, keys, counts = SqliteLog(folder, 1), SqliteKeys(folder, follow=True), RequestCounts()
    view = View({}, PATHS)
    door = Door(log, _Rejections(log), lambda _: view)
    front = Front("door", FrontSettings(), keys.ring, "127.0.0.1", f"--data {folder}")
    lane = None if ordinary else front.lane(door, counts)
    app = make_app(routes(door), lambda: {}, counts=counts)
    async with front.running(app, "127.0.0.1", 0, lane) as url:
        say(f"ready at {url}")
        await until_signalled()
    await door.drain()
    log.close()
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ordinary", action="store_true")
    given = parser.parse_args()
    spare_the_collector()
    sys.exit(run(main(given.folder, given.ordinary)))
