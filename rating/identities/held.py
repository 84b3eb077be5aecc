"""All identities that are held: by bucket, tables in memory and runs on disk; and when one becomes the other.

    bucket -> one open table (of the newest bucket), closed tables that are being written, runs

A table is closed when it is full, and when its bucket is not the newest any more; then it is written as a run. Of the
newest bucket eight runs of a kind are merged into one that is eight times as large; an older bucket ends as one run.
Work on files is done by a `Worker` and taken over at the next `tend`: until then the table, or the runs that were
merged, go on to answer. Without a folder nothing is ever written, and each bucket is one table.

Memory: a table of 120,000 identities takes 5.2 MB, and four may wait to be written; a run takes 2.25 bytes an identity
for its filter, a merge 30 MB and the filter of its result. Where a file cannot be written (a full disk) the open table
grows until one can be.
"""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rating.identities.bloom import Probes
from rating.identities.merging import merge, seal
from rating.identities.run import SUFFIX, Run
from rating.index import HashIndex, Keys, without_nought
from rating.work import Background, Job, Worker

IN_MEMORY_MAX: Final = 120_000
_GROWTH: Final = 2.0
"""A table grows from nothing to what goes to disk within minutes: its time counts, and not its spare room."""
ROWS_MAX: Final = 32_768
"""How many rows may be added before `tend`: with these a full table does not come to need a longer one."""
MERGED_AT_ONCE: Final = 8
WAITING_MAX: Final = 4
RETRY_SECONDS: Final = 10.0

_logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where identities may be written, and how many of them are kept in memory before."""

    folder: Path
    in_memory_max: int = IN_MEMORY_MAX
    retry_seconds: float = RETRY_SECONDS


@dataclass(slots=True)
class _Table:
    index: HashIndex
    job: Job[Run] | None = None


@dataclass(slots=True)
class _Bucket:
    number: int
    tables: list[_Table] = field(default_factory=list)
    """The last one of the newest bucket takes what comes."""
    runs: list[Run] = field(default_factory=list)


@dataclass(slots=True)
class _Merge:
    bucket: int
    runs: list[Run]
    job: Job[Run]


class Held:
    """What one partition holds. One thread uses it; only jobs run elsewhere, on what does not change any more."""

    def __init__(self, place: Place | None = None, worker: Worker | None = None) -> None:
        self.place = place
        self._worker = Background() if worker is None else worker
        self._buckets: dict[int, _Bucket] = {}
        self._merge: _Merge | None = None
        self._abandoned: list[Job[Run]] = []
        self._named: frozenset[str] = frozenset()
        """The files that the last snapshot rests on."""
        self._retired: dict[str, Path] = {}
        """Those of them that nothing else needs."""
        self._refused_at: float | None = None
        """When the disk last took nothing, if it has taken nothing since."""
        self._is_closed = False

    def __len__(self) -> int:
        tables = sum(len(table.index) for bucket in self._buckets.values() for table in bucket.tables)
        return tables + sum(run.count for run in self.runs())

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        tables = sum(table.index.nbytes for bucket in self._buckets.values() for table in bucket.tables)
        return tables + sum(run.filter.nbytes for run in self.runs())

    @property
    def file_bytes(self) -> int:
        """Bytes on disk, without files that only wait for the next snapshot to go."""
        return sum(run.file_bytes for run in self.runs())

    def runs(self) -> Iterator[Run]:
        """All runs, of all buckets."""
        for bucket in self._buckets.values():
            yield from bucket.runs

    def numbers(self) -> list[int]:
        """The buckets that are held."""
        return list(self._buckets)

    # What is asked -----------------------------------------------------------------------------------------------

    def add(self, number: int, keys: Keys, contents: NDArray[np.uint32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which rows are the first to bring their key, and which bring another content than is held by then.

        New keys go to the bucket `number`, which must not fall.
        """
        if self._is_closed:
            raise RuntimeError("the identities of this partition were opened again, and are another engine's by now")
        own = self._open_table(number)
        elsewhere = self._find(keys, contents, own)
        if elsewhere is None:
            return own.enter(keys, contents)
        known, conflict = elsewhere
        fresh = np.zeros(len(keys), dtype=np.bool_)
        rows = np.flatnonzero(~known)
        fresh[rows], conflict[rows] = own.enter(keys.take(rows, axis=0), contents[rows])
        return fresh, conflict

    def _find(
        self, keys: Keys, contents: NDArray[np.uint32], own: HashIndex
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
        """Looks everywhere but in `own`: which keys are held, and which with another content. None: none is."""
        known = np.zeros(len(keys), dtype=np.bool_)
        conflict = np.zeros(len(keys), dtype=np.bool_)
        for bucket in self._buckets.values():
            for table in bucket.tables:
                if table.index is not own and len(table.index):
                    places = table.index.find(keys)
                    rows = np.flatnonzero(places >= 0)
                    known[rows] = True
                    conflict[rows] |= table.index.values[places[rows]] != contents[rows]
        if any(bucket.runs for bucket in self._buckets.values()):
            keys = without_nought(keys)
            probes = Probes(keys[:, 0])
            for run in self.runs():
                rows = run.filter.rows(probes)
                if len(rows):
                    found, values = run.find(keys.take(rows, axis=0))
                    rows = rows[found]
                    known[rows] = True
                    conflict[rows] = values[found] != contents[rows]
        return (known, conflict) if known.any() else None

    def _open_table(self, number: int) -> HashIndex:
        bucket = self._buckets.setdefault(number, _Bucket(number))
        if not bucket.tables or bucket.tables[-1].job is not None:
            room = self.place.in_memory_max + ROWS_MAX if self.place is not None and bucket.runs else 0
            bucket.tables.append(_Table(HashIndex(room, growth=_GROWTH)))
        return bucket.tables[-1].index

    def drop(self, number: int) -> None:
        """Lets a bucket go, with its files."""
        bucket = self._buckets.pop(number)
        self._abandoned += [table.job for table in bucket.tables if table.job is not None]
        if self._merge is not None and self._merge.bucket == number:
            self._abandoned.append(self._merge.job)
            self._merge = None
        for job in self._abandoned:
            job.is_cancelled = True
        self._retire(bucket.runs)

    # From memory to disk -----------------------------------------------------------------------------------------

    def tend(self, newest: int) -> None:
        """Takes over what was written, and has written and merged what is due. `newest` is the bucket that grows."""
        if self.place is None:
            return
        self._collect()
        for bucket in self._buckets.values():
            self._close_tables(bucket, is_newest=bucket.number == newest)
        while self._refused_at is None and len(waiting := self._waiting()) > WAITING_MAX:
            self._worker.wait(waiting[0])
            self._collect()
        if self._merge is None and self._may_write():
            self._begin_merge(newest)

    def _waiting(self) -> list[Job[Run]]:
        return [t.job for bucket in self._buckets.values() for t in bucket.tables if t.job is not None]

    def _may_write(self) -> bool:
        """After a refusal the disk is asked again after a while, with one job at a time."""
        assert self.place is not None
        if self._refused_at is None:
            return True
        return not self._waiting() and time.monotonic() - self._refused_at >= self.place.retry_seconds

    def _close_tables(self, bucket: _Bucket, *, is_newest: bool) -> None:
        assert self.place is not None
        for table in bucket.tables:
            if table.job is not None or not self._may_write() or not len(table.index):
                continue
            is_open = is_newest and table is bucket.tables[-1]
            if not is_open or len(table.index) >= self.place.in_memory_max:
                make = partial(_seal, self.place.folder, bucket.number, table.index)
                table.job = Job(make, is_urgent=True)
                self._worker.submit(table.job)
        if not is_newest:
            bucket.tables = [table for table in bucket.tables if len(table.index)]

    def _begin_merge(self, newest: int) -> None:
        assert self.place is not None
        for bucket in self._buckets.values():
            runs = self._mergeable(bucket, is_newest=bucket.number == newest)
            if runs:
                job = Job(partial(merge, self.place.folder, bucket.number, runs), is_urgent=False)
                self._merge = _Merge(bucket.number, runs, job)
                self._worker.submit(job)
                return

    def _mergeable(self, bucket: _Bucket, *, is_newest: bool) -> list[Run]:
        assert self.place is not None
        if not is_newest:
            return list(bucket.runs) if len(bucket.runs) > 1 and not bucket.tables else []
        kinds: dict[int, list[Run]] = {}
        for run in bucket.runs:
            # Half-way between the powers, so that tables of somewhat different lengths are of one kind.
            kind = round(math.log(max(run.count / self.place.in_memory_max, 1), MERGED_AT_ONCE))
            kinds.setdefault(kind, []).append(run)
        return next((runs for runs in kinds.values() if len(runs) >= MERGED_AT_ONCE), [])

    # What came of it ---------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        for bucket in self._buckets.values():
            for table in list(bucket.tables):
                if table.job is not None and table.job.done.is_set():
                    run = self._result(table.job)
                    table.job = None
                    if run is not None:
                        bucket.tables.remove(table)
                        bucket.runs.append(run)
        if self._merge is not None and self._merge.job.done.is_set():
            merged, self._merge = self._merge, None
            run = self._result(merged.job)
            if run is not None:
                held = self._buckets[merged.bucket]
                held.runs = [run, *(r for r in held.runs if r not in merged.runs)]
                self._retire(merged.runs)
        for job in [job for job in self._abandoned if job.done.is_set()]:
            self._abandoned.remove(job)
            if job.result is not None:
                self._retire([job.result])

    def _result(self, job: Job[Run]) -> Run | None:
        """The run; None where the disk did not take it. Raises: what else went wrong, a broken invariant."""
        if isinstance(job.error, OSError):
            if self._refused_at is None:
                _logger.error("identities stay in memory until the disk takes them: %s", job.error)
            self._refused_at = time.monotonic()
            return None
        if job.error is not None:
            raise job.error
        if self._refused_at is not None:
            _logger.warning("the disk takes identities again")
        self._refused_at = None
        return job.result

    def _retire(self, runs: Sequence[Run]) -> None:
        """Removes files that the last snapshot does not rest on; the others at the next snapshot."""
        for run in runs:
            if run.name in self._named:
                self._retired[run.name] = run.path
            else:
                _remove(run.path)

    # Snapshots ---------------------------------------------------------------------------------------------------

    def in_memory(self) -> dict[int, tuple[Keys, NDArray[np.uint32]]]:
        """By bucket what no run holds, the same however it was gathered."""
        found = {}
        for number, bucket in self._buckets.items():
            parts = [table.index.ordered() for table in bucket.tables] or [HashIndex().items()]
            found[number] = np.concatenate([keys for keys, _ in parts]), np.concatenate([c for _, c in parts])
        return found

    def name_files(self) -> dict[int, list[str]]:
        """By bucket the names of its runs, for a snapshot: their files stay until this is called again."""
        for path in self._retired.values():
            _remove(path)
        self._retired.clear()
        self._named = frozenset(run.name for run in self.runs())
        return {number: [run.name for run in bucket.runs] for number, bucket in self._buckets.items() if bucket.runs}

    def files(self) -> Mapping[str, Path]:
        """The files that `name_files` named last."""
        assert self.place is not None or not self._named
        return {} if self.place is None else {name: self.place.folder / name for name in self._named}

    def put(self, number: int, keys: Keys, contents: NDArray[np.uint32], runs: list[Run]) -> None:
        """Takes a bucket from a snapshot."""
        tables = [_Table(HashIndex.of(keys, contents))] if len(keys) else []
        self._buckets[number] = _Bucket(number, tables, runs)
        self._named |= {run.name for run in runs}

    def close(self) -> None:
        """Ends what is under way. Nothing may be asked any more."""
        self._is_closed = True
        jobs = [*self._waiting(), *self._abandoned, *([self._merge.job] if self._merge else [])]
        for job in jobs:
            job.is_cancelled = True
        for job in jobs:
            self._worker.wait(job)
            if job.result is not None:
                self._retire([job.result])
        self._buckets.clear()


def _seal(folder: Path, number: int, table: HashIndex, _pause: object) -> Run:
    return seal(folder, number, table)


def _remove(path: Path) -> None:
    with suppress(OSError):  # a file too many is no harm; the next start removes it
        path.unlink()


def leftovers(folder: Path, needed: frozenset[str]) -> list[Path]:
    """Files in a folder that no run is in: those of a crash, and those of a state that is not taken up."""
    found = folder.iterdir() if folder.is_dir() else ()
    return [path for path in found if path.suffix in (SUFFIX, ".tmp") and path.name not in needed]
