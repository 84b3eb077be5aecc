"""The shelf: the segments of one partition, and which rows become one when.

When so many rows are in memory as are allowed, those of every tenant are sealed: a `Worker` writes them into one file,
a section for each tenant, and the next `tend` takes it over; until then they are read in memory. A file goes when
nobody asks for any of its sections any more. Without a folder nothing is ever sealed.

Memory: 48 bytes for each row that is not sealed or not written yet, at most `rows_max` and a step's of the former and
`WAITING_MAX` times as many of the latter; of a sealed row nothing, 12 bytes where it has moved. Where a file cannot be
written (a full disk) rows stay in memory until one can be.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from rating.identities.work import Background, Job, Worker
from rating.segments.file import SUFFIX, Section, Segment, write_segment
from rating.segments.parts import Loose, Sealed
from rating.table import Table
from streams.durable import is_whole, make_folder
from streams.processor import Fetch, no_files

ROWS_MAX: Final = 131_072
WAITING_MAX: Final = 4
RETRY_SECONDS: Final = 10.0

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sealing:
    parts: list[Sealed]
    job: Job[Segment]


class Shelf:
    """The segments of one partition. One thread uses it; only jobs run elsewhere, on what does not change any more."""

    def __init__(
        self,
        folder: Path | None = None,
        rows_max: int = ROWS_MAX,
        worker: Worker | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """`folder`: for files that end in `.rows`, this shelf's alone. Raises: OSError."""
        self.folder = folder
        self.loose = 0
        """How many rows the ledgers hold that were not sealed: they count them here."""
        self._rows_max = rows_max
        self._retry_seconds = retry_seconds
        self._worker = Background() if worker is None else worker
        self._sealing: list[_Sealing] = []
        self._used: Counter[str] = Counter()
        """How many sections of each file somebody asks for."""
        self._files: dict[str, Segment] = {}
        self._named: frozenset[str] = frozenset()
        """The files that the last snapshot rests on."""
        self._refused_at: float | None = None
        """When the disk last took nothing, if it has taken nothing since."""
        if folder is not None:
            make_folder(folder)

    @property
    def file_bytes(self) -> int:
        """Bytes on disk, without files that only wait for the next snapshot to go."""
        return sum(segment.file_bytes for name, segment in self._files.items() if self._used[name])

    @property
    def is_full(self) -> bool:
        """Whether the rows that were not sealed are to be sealed now."""
        return self.folder is not None and self.loose >= self._rows_max and self._refused_at is None

    def seal(self, parts: Iterable[Sealed]) -> None:
        """Has parts written that are in memory: all rows that were not sealed."""
        self.loose = 0
        known = list(parts)
        self._sealing.append(_Sealing(known, self._submit(known)))

    def _submit(self, parts: list[Sealed]) -> Job[Segment]:
        assert self.folder is not None
        tables = [part.base.table for part in parts if isinstance(part.base, Loose)]
        job = Job(partial(_write, self.folder, tables), is_urgent=True)
        self._worker.submit(job)
        return job

    def tend(self) -> None:
        """Takes over what was written, and waits where the disk does not follow."""
        self._collect()
        while self._refused_at is None and len(self._sealing) > WAITING_MAX:
            self._worker.wait(self._sealing[0].job)
            self._collect()

    def _collect(self) -> None:
        """In the order in which they were sealed: what is in memory of a ledger is always the end of it."""
        while self._sealing and (one := self._sealing[0]).job.done.is_set():
            if isinstance(one.job.error, OSError):
                self._refuse(one)
                return
            self._sealing.remove(one)
            if one.job.error is not None:
                raise one.job.error
            assert one.job.result is not None
            self._take_over(one.job.result, one.parts)

    def _refuse(self, sealing: _Sealing) -> None:
        """The disk did not take it: it is asked again after a while."""
        now = time.monotonic()
        if self._refused_at is None:
            _logger.error("rows of the ledger stay in memory until the disk takes them: %s", sealing.job.error)
            self._refused_at = now
        if now - self._refused_at >= self._retry_seconds:
            self._refused_at = now
            sealing.job = self._submit(sealing.parts)

    def _take_over(self, segment: Segment, parts: Sequence[Sealed]) -> None:
        if self._refused_at is not None:
            _logger.warning("the disk takes rows of the ledger again")
        self._refused_at = None
        self._files[segment.name] = segment
        for part, section in zip(parts, segment.sections(), strict=True):
            if not part.is_dropped:
                self.use(part, section)
        self._remove_unused([segment.name])

    def use(self, part: Sealed, base: Loose | Section) -> None:
        """The rows of a part lie there from now on."""
        part.base = base
        if isinstance(base, Section):
            self._used[base.segment.name] += 1

    def release(self, part: Sealed) -> None:
        """Nobody asks for a part any more."""
        part.is_dropped = True
        if isinstance(part.base, Section):
            self._used[part.base.segment.name] -= 1
            self._remove_unused([part.base.segment.name])

    def _remove_unused(self, names: Iterable[str]) -> None:
        """Removes files that nobody asks for, unless the last snapshot rests on them: then at the next one."""
        for name in names:
            if not self._used[name] and name not in self._named:
                _remove(self._files.pop(name).path)

    # Snapshots ---------------------------------------------------------------------------------------------------

    def name_files(self) -> list[str]:
        """The names of the files that are used, for a snapshot: they stay until this is called again."""
        self._named = frozenset(name for name in self._files if self._used[name])
        self._remove_unused(list(self._files))
        return sorted(self._named)

    def files(self) -> Mapping[str, Path]:
        """The files that `name_files` named last."""
        return {name: self._files[name].path for name in self._named}

    def open(self, names: Iterable[str], fetch: Fetch = no_files, folder: Path | None = None) -> None:
        """Takes up the files of a snapshot. `folder`: where they are brought to if this shelf has none.

        Raises: SegmentRefused, OSError, and what `fetch` raises."""
        home = self.folder or folder
        wanted = frozenset(names)
        self.clear_folder(wanted)
        assert home is not None or not wanted
        self._files = {name: _open_segment(home / name, fetch) for name in sorted(wanted)} if home is not None else {}
        self._named = wanted if self.folder is not None else frozenset()

    def section(self, name: str, number: int) -> Section:
        """A section of a file that was taken up."""
        return Section(self._files[name], number)

    def clear_folder(self, needed: frozenset[str] = frozenset()) -> None:
        """Removes what an earlier state has left in the folder, but for the files named. Raises: OSError."""
        for path in self.folder.glob("*" + SUFFIX) if self.folder is not None else ():
            if path.name not in needed:
                path.unlink()

    def close(self) -> None:
        """Ends what is under way. Nothing is sealed any more."""
        for one in self._sealing:
            one.job.is_cancelled = True
        for one in self._sealing:
            self._worker.wait(one.job)
            if one.job.result is not None:
                _remove(one.job.result.path)
        self._sealing.clear()
        self.folder = None


def _open_segment(path: Path, fetch: Fetch) -> Segment:
    """A file of a snapshot: as it stands in the folder, if it is whole there, and brought from the snapshots if not."""
    if not (path.is_file() and is_whole(path, path.name)):
        fetch(path.name, path)
    return Segment(path)


def _write(folder: Path, tables: Sequence[Table], _pause: object) -> Segment:
    return write_segment(folder, tables)


def _remove(path: Path) -> None:
    with suppress(OSError):  # a file too many is no harm; the next start removes it
        path.unlink()
