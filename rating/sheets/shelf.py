"""The shelf: the sheets of one partition, and which rows become one when.

When so many rows are in memory as are allowed, those of every tenant that has some are sealed: a `Worker` writes them
into one file, a section for each tenant, and the next `tend` takes it over; until then they are read in memory. Small
files that follow each other are merged into one, and one half of whose rows count no more is written again without
them. A file goes when nobody asks for any of its sections any more. Without a folder nothing is ever sealed.

Memory: 48 bytes for each row that is not sealed or not written yet, at most `rows_max` and a step's of the former, and
fewer than `SECTION_MIN` of each tenant, `WAITING_MAX` times `rows_max` of the latter; of a sealed row nothing, 8 bytes
where it has moved; 12 bytes for each row of a merge, and 16 for each that it leaves out. Where a file cannot be written
(a full disk) rows stay in memory until one can be.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from rating.sheets.merging import Asked, Merged, Old, Source, merge, places_of
from rating.sheets.parts import Loose, Sealed
from rating.sheets.sheet import SUFFIX, Section, Sheet, sort_rows, write_sheet
from rating.table import Table
from rating.work import Background, Job, Worker
from streams.durable import is_whole, make_folder
from streams.processor import Fetch, no_files

ROWS_MAX: Final = 131_072
SECTION_MIN: Final = 128
WAITING_MAX: Final = 4
RETRY_SECONDS: Final = 10.0
SMALL: Final = 2 * ROWS_MAX
"""A sheet with so many rows is not merged with others."""
MANY: Final = 64
"""So many small ones that follow each other are: a lookup takes some microseconds in each, a merge 0.2 for each row."""
MERGED_AT_ONCE: Final = 32

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Shelved:
    sheet: Sheet
    parts: dict[int, Sealed] = field(default_factory=dict)
    """By section, who asks for it."""

    @property
    def left(self) -> int:
        return sum(part.left for part in self.parts.values())


@dataclass(slots=True)
class _Sealing:
    parts: list[Sealed]
    job: Job[Sheet]


@dataclass(slots=True)
class _Merging:
    names: list[str]
    """The files that become one."""
    parts: list[list[Sealed]]
    """Theirs, those of each tenant by themselves."""
    job: Job[Merged]


class Shelf:
    """The sheets of one partition. One thread uses it; only jobs run elsewhere, on what does not change any more."""

    def __init__(
        self,
        folder: Path | None = None,
        rows_max: int = ROWS_MAX,
        worker: Worker | None = None,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """`folder`: for files that end in `.rows`, this shelf's alone. Raises: OSError."""
        self.folder = folder
        self.serial = 0
        """The number of the next file."""
        self.loose = 0
        """How many rows the ledgers were given since the last ones were sealed: they count them here."""
        self.is_settled = True
        """Whether there was nothing to merge when the shelf last looked, and nothing has changed since."""
        self._rows_max = rows_max
        self.least = min(SECTION_MIN, rows_max)
        """Fewer rows of a tenant are not worth a section: they stay in memory."""
        self._retry_seconds = retry_seconds
        self._worker = Background() if worker is None else worker
        self._sealing: list[_Sealing] = []
        self._merging: _Merging | None = None
        self._files: dict[str, _Shelved] = {}
        """Those that are asked for, in the order in which their rows were counted."""
        self._named: dict[str, Path] = {}
        """The files that the last snapshot rests on."""
        self._refused_at: float | None = None
        """When the disk last took nothing, if it has taken nothing since."""
        self._merged_from = 0.0
        """When the next merge may begin."""
        if folder is not None:
            make_folder(folder)

    @property
    def file_bytes(self) -> int:
        """Bytes on disk, without files that only wait for the next snapshot to go."""
        return sum(one.sheet.file_bytes for one in self._files.values())

    @property
    def is_full(self) -> bool:
        """Whether the rows that were not sealed are to be sealed now."""
        return self.folder is not None and self.loose >= self._rows_max and self._refused_at is None

    def seal(self, parts: Iterable[Sealed]) -> None:
        """Has parts written that are in memory: all rows that were not sealed."""
        self.loose = 0
        if known := list(parts):
            self._sealing.append(_Sealing(known, self._submit(known)))

    def _submit(self, parts: list[Sealed]) -> Job[Sheet]:
        assert self.folder is not None
        tables = [part.base.table for part in parts if isinstance(part.base, Loose)]
        job = Job(partial(_seal, self.folder, self._next_serial(), tables), is_urgent=True)
        self._worker.submit(job)
        return job

    def _next_serial(self) -> int:
        self.serial += 1
        return self.serial - 1

    def tend(self) -> None:
        """Takes over what was written, waits where the disk does not follow, and has merged what is due."""
        self._collect()
        while self._refused_at is None and len(self._sealing) > WAITING_MAX:
            self._worker.wait(self._sealing[0].job)
            self._collect()
        self._collect_merged()
        if not self.is_settled and self._merging is None and self._may_merge():
            self._begin_merge()

    def _collect(self) -> None:
        """In the order in which they were sealed: what is in memory of a ledger is always the end of it."""
        while self._sealing and (one := self._sealing[0]).job.done.is_set():
            if isinstance(one.job.error, OSError):
                self._refuse(one, one.job.error)
                return
            self._sealing.remove(one)
            if one.job.error is not None:
                raise one.job.error
            assert one.job.result is not None
            self._take_sealed(one.job.result, one.parts)

    def _refuse(self, sealing: _Sealing, error: OSError) -> None:
        """The disk did not take it: it is asked again after a while."""
        now = time.monotonic()
        if self._refused_at is None:
            _logger.error("rows of the ledger stay in memory until the disk takes them: %s", error)
            self._refused_at = now
        if now - self._refused_at >= self._retry_seconds:
            self._refused_at = now
            sealing.job = self._submit(sealing.parts)

    def _take_sealed(self, sheet: Sheet, parts: Sequence[Sealed]) -> None:
        if self._refused_at is not None:
            _logger.warning("the disk takes rows of the ledger again")
        self._refused_at = None
        self.is_settled = False
        self._files[sheet.name] = shelved = _Shelved(sheet)
        for part, section in zip(parts, sheet.sections(), strict=True):
            if not part.is_dropped:
                part.lie(section)
                shelved.parts[section.number] = part
        self._let_go(sheet.name)

    def take(self, part: Sealed) -> None:
        """A part asks for its section of a file that was taken up."""
        assert isinstance(part.base, Section)
        self._files[part.base.sheet.name].parts[part.base.number] = part

    def release(self, part: Sealed) -> None:
        """Nobody asks for a part any more."""
        part.is_dropped = True
        if isinstance(part.base, Section):
            del self._files[part.base.sheet.name].parts[part.base.number]
            self._let_go(part.base.sheet.name)

    def _let_go(self, name: str) -> None:
        """Removes a file if nobody asks for it, at the next snapshot if the last one rests on it."""
        shelved = self._files.get(name)
        if shelved is not None and not shelved.parts:
            del self._files[name]
            if name not in self._named:
                _remove(shelved.sheet.path)

    # Merges ------------------------------------------------------------------------------------------------------

    def _may_merge(self) -> bool:
        """A disk that refuses anything is not asked for room that a merge takes, until a while has passed."""
        return self.folder is not None and self._refused_at is None and time.monotonic() >= self._merged_from

    def _begin_merge(self) -> None:
        chosen = self._mergeable()
        self.is_settled = not chosen
        if chosen:
            assert self.folder is not None
            parts: dict[int, list[Sealed]] = {}
            for shelved in chosen:
                for part in shelved.parts.values():
                    parts.setdefault(id(part.owner), []).append(part)
            asked = [Asked([_old(part) for part in own], own[0].owner.over.copy()) for own in parts.values()]
            job = Job(partial(merge, self.folder, self._next_serial(), asked), is_urgent=False)
            self._merging = _Merging([one.sheet.name for one in chosen], list(parts.values()), job)
            self._worker.submit(job)

    def _mergeable(self) -> list[_Shelved]:
        near: list[_Shelved] = []
        for shelved in self._files.values():
            if shelved.left * 2 < shelved.sheet.rows:
                return [shelved]
            near = [*near, shelved] if shelved.sheet.rows < SMALL else []
            if len(near) == MANY:
                return near[:MERGED_AT_ONCE]
        return []

    def _collect_merged(self) -> None:
        if self._merging is None or not self._merging.job.done.is_set():
            return
        merging, self._merging = self._merging, None
        if isinstance(merging.job.error, OSError):
            _logger.warning("files of the ledger's rows were not merged: %s", merging.job.error)
            self._merged_from = time.monotonic() + self._retry_seconds
            return
        if merging.job.error is not None:
            raise merging.job.error
        assert merging.job.result is not None
        self.is_settled = False
        self._take_merged(merging, merging.job.result)

    def _take_merged(self, merging: _Merging, merged: Merged) -> None:
        asking: dict[int, Sealed] = {}
        for parts, sources, section in zip(merging.parts, merged.sources, merged.sections(), strict=True):
            living = [part for part in parts if not part.is_dropped]
            if not living:
                continue
            part = None if section is None else _joined(parts, sources, section)
            living[0].owner.replace(living, part)
            if part is not None and section is not None:
                asking[section.number] = part
        if merged.sheet is not None:
            self._put(_Shelved(merged.sheet, asking), merging.names)
        for name in merging.names:
            if name in self._files:
                self._files[name].parts.clear()
                self._let_go(name)

    def _put(self, shelved: _Shelved, names: Sequence[str]) -> None:
        """A file in front of those that it was made of."""
        if not shelved.parts:
            _remove(shelved.sheet.path)
            return
        order = list(self._files.items())
        at = next(at for at, (name, _) in enumerate(order) if name in names)
        self._files = dict([*order[:at], (shelved.sheet.name, shelved), *order[at:]])

    # Snapshots ---------------------------------------------------------------------------------------------------

    def name_files(self) -> list[str]:
        """The names of the files that are asked for, in their order, for a snapshot: they stay until this is called
        again."""
        for name in list(self._files):
            self._let_go(name)
        before, self._named = self._named, {name: one.sheet.path for name, one in self._files.items()}
        for name in before.keys() - self._named.keys():
            _remove(before[name])
        return list(self._named)

    def files(self) -> Mapping[str, Path]:
        """The files that `name_files` named last."""
        return self._named

    def open(self, serial: int, names: Iterable[str], fetch: Fetch = no_files, folder: Path | None = None) -> None:
        """Takes up the files of a snapshot, whose next one had a serial number. `folder`: where they are brought to if
        this shelf has none.

        Raises: SheetRefused, OSError, and what `fetch` raises."""
        home = self.folder or folder
        wanted = list(names)
        self.clear_folder(frozenset(wanted))
        assert home is not None or not wanted
        self.serial = serial
        self._files = {name: _Shelved(_open_sheet(home / name, fetch)) for name in wanted} if home is not None else {}
        self._named = {name: one.sheet.path for name, one in self._files.items()}
        self.is_settled = False

    def section(self, name: str, number: int) -> Section:
        """A section of a file that was taken up."""
        return Section(self._files[name].sheet, number)

    def clear_folder(self, needed: frozenset[str] = frozenset()) -> None:
        """Removes what an earlier state has left in the folder, but for the files named. Raises: OSError."""
        for path in self.folder.glob("*" + SUFFIX) if self.folder is not None else ():
            if path.name not in needed:
                path.unlink()

    def close(self) -> None:
        """Ends what is under way. Nothing is sealed or merged any more."""
        jobs: list[Job[Sheet] | Job[Merged]] = [one.job for one in self._sealing]
        if self._merging is not None:
            jobs.append(self._merging.job)
        for job in jobs:
            job.is_cancelled = True
        for job in jobs:
            self._worker.wait(job)
            made = job.result.sheet if isinstance(job.result, Merged) else job.result
            if made is not None:
                _remove(made.path)
        self._sealing.clear()
        self._merging = self.folder = None


def _open_sheet(path: Path, fetch: Fetch) -> Sheet:
    """A file of a snapshot: as it stands in the folder, if it is whole there, and brought from the snapshots if not."""
    if not (path.is_file() and is_whole(path, path.name)):
        fetch(path.name, path)
    return Sheet(path)


def _seal(folder: Path, serial: int, tables: Sequence[Table], _pause: object) -> Sheet:
    return write_sheet(folder, serial, [sort_rows(table) for table in tables])


def _old(part: Sealed) -> Old:
    assert isinstance(part.base, Section)
    return Old(part.base, part.moved, part.cells.copy())


def _joined(parts: Sequence[Sealed], sources: Sequence[Source], section: Section) -> Sealed:
    """One part in place of several, those that nobody asks for any more included: what has moved since their merge was
    asked for has moved."""
    moved: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    cells: list[np.ndarray[tuple[int], np.dtype[np.int32]]] = []
    for which, part in enumerate(parts):
        places = part.moved.astype(np.int64)
        stay = sources[which].stay(places)
        moved.append(places_of(section, sources, which, places[stay]))
        cells.append(part.cells[stay])
    of, to = np.concatenate(moved), np.concatenate(cells)
    order = np.argsort(of)
    return Sealed(parts[0].owner, parts[0].first, section, of[order].astype(np.uint32), to[order])


def _remove(path: Path) -> None:
    with suppress(OSError):  # a file too many is no harm; the next start removes it
        path.unlink()
