"""`taximeter demo`: an AI company's day through the whole of Taximeter in one process, every cent checked."""

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from ingest.door import DoorSettings
from streams.embedded.folder import LogError
from streams.embedded.host import HostSettings
from streams.log import LogUnavailable
from streams.snapshots import SnapshotError
from taximeter.demo_day import catalogue_path
from taximeter.demo_run import Place, Run, prepare, run_day, until_done_or_stopped
from taximeter.demo_watch import AnswerMissing
from taximeter.documents import read_catalogue_file
from taximeter.embedded import Embedded, EmbeddedSettings
from taximeter.http import Unready, make_app, running
from taximeter.post import DoorRefused, DoorUnavailable
from taximeter.process import complain

EVENTS_FILE = "demo-events.ndjson"


async def demo(*, customers: int, events: int, seed: int, keep: Path | None, plain: bool) -> int:
    """Runs the demo. Returns 0 where every cent is as it must be, 1 where not or something failed, 130 when stopped."""
    console = Console()
    with ExitStack() as stack:
        if keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taximeter-demo-")))
        else:
            folder = keep
            if folder.exists() and any(folder.iterdir()):
                complain(f"taximeter demo: {folder} is not empty; --keep wants a new folder")
                return 2
            folder.mkdir(parents=True, exist_ok=True)
        run = Run(console, folder / EVENTS_FILE, customers, events, seed, plain)
        try:
            status = await until_done_or_stopped(_demo(run, folder), console)
        except (LogError, LogUnavailable, SnapshotError, Unready, DoorRefused, DoorUnavailable, AnswerMissing) as error:
            complain(f"taximeter demo: {error}")
            return 1
        except OSError as error:
            complain(f"taximeter demo: {error.filename or folder}: {error.strerror or error}")
            return 1
        if status in (0, 1):
            _say_what_next(console, keep)
        return status


async def _demo(run: Run, folder: Path) -> int:
    facts = await asyncio.to_thread(prepare, run)
    settings = EmbeddedSettings(
        data=folder,
        host=HostSettings(tick_seconds=None),  # the demo's clock is its own tick
        door=DoorSettings(max_ahead=None),
    )
    async with Embedded(settings) as parts:
        await parts.apply(read_catalogue_file(catalogue_path()))
        async with running(make_app(parts.routes(), parts.ready), "127.0.0.1", 0) as url:
            await asyncio.to_thread(parts.host.wait_until_ready)
            title = f"taximeter demo · one process · {url}"
            return await run_day(run, facts, Place(url, url, title))


def _say_what_next(console: Console, keep: Path | None) -> None:
    folder = keep or Path("demo-data")
    book = catalogue_path()
    commands = [
        *([] if keep else [(f"taximeter demo --keep {folder}", "keep the data of a run")]),
        (f"taximeter serve --data {folder}", "open it again, then in another terminal:"),
        (
            "curl http://127.0.0.1:8080/v1/customers/northwind-labs/spend?period=all",
            "ask what a customer's usage costs",
        ),
        (
            f"taximeter rate-file --catalogue {book} --events {folder / EVENTS_FILE} "
            "--as-of 2026-11-02T00:00:00Z --out demo-bills",
            "the same day, rated from its file",
        ),
        (f"taximeter check {book}", "the price book explained; copy it and change it"),
    ]
    console.print("\n[bold]What to try next[/]")
    for command, why in commands:
        console.print(f"  [dim]# {why}[/]\n  {command}", highlight=False, soft_wrap=True)
