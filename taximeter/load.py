"""`taximeter load`: a file's rows as usage events, to a running door or straight into an embedded log."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ingest.content import BodyRefused
from ingest.receipt import Answer
from schemas.times import format_time
from streams.embedded.folder import LogError
from streams.log import LogUnavailable
from streams.snapshots import SnapshotError
from taximeter.client.courier import authorization
from taximeter.load_fields import EventMaker, RowRefused
from taximeter.load_mapping import Mapping, MappingError, read_mapping
from taximeter.load_rows import FileError, Rows, format_of
from taximeter.post import EXAMPLES_MAX, NDJSON, DoorClient, DoorRefused, DoorUnavailable, Totals, send_all
from taximeter.process import complain, say

_BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
_TIMEOUT_S: Final = 60.0
_SETTLE_S: Final = 3600.0
_LINE_EVERY_S: Final = 5.0
_TENANT: Final = "default"
_UNREADABLE: Final = "unreadable_row"
_HEADERS: Final = [(b"content-type", NDJSON.encode())]


async def load(
    *,
    file: Path,
    mapping: Path | None,
    url: str | None,
    data: Path | None,
    catalogue: Path | None,
    batch: int,
    concurrency: int,
    tick: int | None,
    limit: int | None,
) -> int:
    """Sends the file. Returns 0, 1 where it could not be sent whole, 2 for bad arguments, 3 where some were rejected.

    Raises: OSError; CatalogueError.
    """
    if (url is None) == (data is None):
        complain("taximeter load: give either --url (a running door) or --data (a folder)")
        return 2
    if catalogue is not None and data is None:
        complain("taximeter load: --catalogue goes with --data; a running door has its own")
        return 2
    try:
        job = _Job(file, None if mapping is None else read_mapping(mapping), batch, limit)
    except (MappingError, FileError) as error:
        complain(str(error))
        return 2
    try:
        with job.rows, _Shown(job):
            if data is not None:
                await _to_folder(job, data, catalogue, concurrency, tick)
            else:
                await _to_door(job, url or "", concurrency, tick)
    except FileError as error:
        complain(str(error))
        return _report(job, 1) if job.totals.sent else 2
    except (DoorRefused, DoorUnavailable, LogError, LogUnavailable, SnapshotError, BodyRefused, TimeoutError) as error:
        complain(f"taximeter load: {error}")
        return _report(job, 1)
    return _report(job, 3 if job.totals.rejected else 0)


class _Job:
    """One file on its way. Raises: MappingError, FileError, OSError."""

    def __init__(self, file: Path, mapping: Mapping | None, batch: int, limit: int | None) -> None:
        found = (mapping.format if mapping else None) or format_of(file)
        if mapping is None and found != "ndjson":
            raise FileError(f"{file}: a {found} file needs --mapping, which says what column is what field of an event")
        said = mapping.compression if mapping else None
        gzipped = said == "gzip" or (said is None and file.suffix.lower() in (".gz", ".gzip"))
        self.file = file
        self.totals = Totals()
        self._maker = None if mapping is None else EventMaker(mapping, found == "ndjson")
        self.rows = Rows(
            file, found, gzipped, mapping.delimiter if mapping else None, bool(self._maker and self._maker.whole)
        )
        self._batch = batch
        self._limit = limit
        self._refused: list[int] = []

    def batches(self) -> Iterator[list[bytes]]:
        """The events' JSON texts, so many at a time. Raises: FileError, OSError."""
        lines: list[bytes] = []
        size = 0
        for line in itertools.islice(self._events(), self._limit):
            lines.append(line)
            size += len(line)
            if len(lines) == self._batch or size > _BATCH_BYTES_MAX:
                yield lines
                lines, size = [], 0
        if lines:
            yield lines

    def _events(self) -> Iterator[bytes]:
        if self._maker is None:
            yield from self.rows.lines()
            return
        for row in self.rows.read(self._maker.columns):
            try:
                yield self._maker.make(row)
            except RowRefused as refused:
                self._refused.append(row.number)
                self.totals.rejected += 1
                self.totals.codes[_UNREADABLE] += 1
                if len(self.totals.examples) < EXAMPLES_MAX:
                    self.totals.examples.append((0, str(refused)))

    def row_of(self, number: int) -> int:
        """The row of the event of that number: rows of which no event was made stand between."""
        for refused in self._refused:
            number += refused <= number
        return number


async def _to_door(job: _Job, url: str, concurrency: int, tick: int | None) -> None:
    def again() -> None:
        job.totals.retries += 1

    async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, headers=authorization()) as client:
        door = DoorClient(client, url, on_retry=again)
        await send_all(job.batches(), door.take, job.totals, concurrency)
        if tick is not None:
            await door.tick(format_time(tick))


async def _to_folder(job: _Job, data: Path, catalogue: Path | None, concurrency: int, tick: int | None) -> None:
    from streams.embedded.host import HostSettings  # the engine, which a door elsewhere does not need
    from taximeter.documents import read_catalogue_file
    from taximeter.embedded import Embedded, EmbeddedSettings

    documents = None if catalogue is None else read_catalogue_file(catalogue)
    # No tick but the one that is asked for: the file's time is not the clock's.
    async with Embedded(EmbeddedSettings(data=data, host=HostSettings(tick_seconds=None))) as parts:
        if documents is not None:
            await parts.apply(documents)

        async def take(body: bytes) -> Answer:
            return (await parts.door.take(body, _HEADERS, _TENANT)).answer()

        await send_all(job.batches(), take, job.totals, concurrency)
        if tick is not None:
            await parts.door.tick(tick)
        await parts.settle(_SETTLE_S)


class _Shown:
    """Progress while the block runs: a bar on a terminal, else a line now and then."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._console = Console(stderr=True)

    def __enter__(self) -> "_Shown":
        self._task = asyncio.create_task(self._bar() if self._console.is_terminal else self._lines())
        return self

    def __exit__(self, *_: object) -> None:
        self._task.cancel()

    async def _bar(self) -> None:
        job = self._job
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(job.file.name, total=job.rows.bytes_total, said="")
            while True:
                progress.update(task, completed=job.rows.bytes_read, said=_progress(job.totals))
                await asyncio.sleep(0.2)

    async def _lines(self) -> None:
        while True:
            await asyncio.sleep(_LINE_EVERY_S)
            complain(_progress(self._job.totals))


def _progress(totals: Totals) -> str:
    return f"{totals.sent:,} events, {totals.sent / max(totals.seconds, 0.001):,.0f}/s"


def _report(job: _Job, status: int) -> int:
    """Says what became of the file. Returns the status."""
    totals = job.totals
    for number, text in totals.examples:
        complain(text if number == 0 else f"row {job.row_of(number)}: {text}")
    if totals.rejected > len(totals.examples):
        complain(f"... and {totals.rejected - len(totals.examples):,} more rejected")
    codes = ", ".join(f"{count:,} {code}" for code, count in totals.codes.most_common())
    say(
        f"{totals.sent + totals.codes[_UNREADABLE]:,} rows in {totals.seconds:.1f} s: {totals.accepted:,} accepted, "
        f"{totals.duplicates:,} duplicates ({totals.conflicts:,} with other content), "
        f"{totals.rejected:,} rejected{f' ({codes})' if codes else ''}"
        + (f"; {totals.retries:,} requests were sent again" if totals.retries else "")
    )
    if status == 1:
        say("the file was not sent whole; sending it again is safe, what was taken counts once")
    return status
