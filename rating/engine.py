"""The engine: a pure fold over one partition's log. Usage in; line items, invoices, alerts and rejections out.

Stages, in this order and by these names everywhere: deduplicate, aggregate, rate, invoice, emit. Events are worked
through by columns; where the order of single events within a batch matters (a level may be crossed, a number may
leave its bounds), the bills concerned are worked through event by event instead, with the same result by law: the
answer never depends on how the input was cut into batches.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeVar
from weakref import WeakValueDictionary

import msgspec
import numpy as np

from rating.billing import Biller
from rating.catalogue import load_catalogue
from rating.cells import Refusal
from rating.columns import Batch, Pack, read_pack
from rating.deduplicate import Deduplicator, Verdicts
from rating.emit import encode_line_items, encode_refusal, encode_rejection
from rating.identities.held import IN_MEMORY_MAX, Place
from rating.keeper import keep_again
from rating.metering import meter_batch
from rating.reconcile import CHECK_EVERY, reconcile
from rating.rerate import rerate
from rating.sheets.shelf import ROWS_MAX, Shelf
from rating.stages import fold_batch
from rating.standing import standing
from rating.state import State
from rating.tally import Tally, count_batch
from rating.tenants import Tenants
from rating.totals import Totals
from rating.voids import names_void, read_voids
from rating.work import Background, Worker
from schemas import entry as entries
from schemas.access import DEFAULT_TENANT
from schemas.catalogue import merge
from schemas.entry import Documents, Entry, decode_catalogue, decode_rerate, decode_tick
from schemas.faults import encode_document
from schemas.rejection import Where
from schemas.times import DAY, HOUR
from streams.processor import Counts, Fetch, Output, Outputs, Part, Step, Summary, no_files


@dataclass(frozen=True, slots=True)
class RatingSettings:
    """What an operator may choose. Changing `partitions` needs a new log.

    `lateness`: how long after its end a period stays open, in microseconds of the clock.
    `window_days`: the deduplication window; None keeps identities for ever.
    `corrections`: how long after its close a period can be corrected by late events and voids, in microseconds.
    `folder`: where identities and rows of the ledger are kept that are not in memory, a folder for each partition; this
    program's alone. None: all of them are kept in memory, and in each snapshot.
    `identities_in_memory`: how many identities of a partition are kept in memory before they go to disk.
    `rows_in_memory`: how many rows of the ledger are.
    """

    partitions: int = 1
    lateness: int = 1 * HOUR
    window_days: int | None = 35
    corrections: int = 35 * DAY
    folder: Path | None = None
    identities_in_memory: int = IN_MEMORY_MAX
    rows_in_memory: int = ROWS_MAX


FOLDED_PACKS_MAX: Final = 64
"""Packs of one tenant that are folded at once. Measured: fewer cost more for each event; with more, a bill that crosses
a level is replayed over more events, and the columns leave the processor's cache. It changes no result."""


class Observer(Protocol):
    """Is told what an engine has come to. It is called in the engine's thread, and changes nothing."""

    def told(self, partition: int, totals: Totals) -> None:
        """The totals, after the state was opened, and after each step. They must not be kept: they go on changing."""
        ...


class RatingProcessor:
    """Makes rating engines, one for each partition."""

    name = "rating"

    def __init__(
        self,
        settings: RatingSettings | None = None,
        observer: Observer | None = None,
        worker: Worker | None = None,
    ) -> None:
        """`worker`: who writes identities and rows to disk; by default a thread."""
        self.settings = settings or RatingSettings()
        self.observer = observer
        self._worker = Background() if worker is None else worker
        self._opened: WeakValueDictionary[int, Deduplicator] = WeakValueDictionary()
        self._shelves: WeakValueDictionary[int, Shelf] = WeakValueDictionary()

    def open(self, partition: int, snapshot: bytes | None, fetch: Fetch = no_files) -> "RatingEngine":
        """The engine of a partition, as its snapshot has it or at the beginning. Where a folder is given, an
        engine of this partition that was opened before is at its end: they share a folder.

        Raises: ValueError, OSError, and what `fetch` raises.
        """
        settings = self.settings
        on_disk = self._identities(partition), self._shelf(partition)
        if snapshot is None:
            for one in on_disk:
                one.clear_folder()
            return RatingEngine(Tenants(partition, settings.partitions, *on_disk), settings, self.observer)
        tenants = Tenants.load(snapshot, partition, settings.partitions, *on_disk, fetch)
        for state in tenants:
            keep_again(state)
        return RatingEngine(tenants, settings, self.observer)

    def _identities(self, partition: int) -> Deduplicator:
        settings = self.settings
        if settings.folder is None:
            return Deduplicator(settings.window_days)
        before = self._opened.pop(partition, None)
        if before is not None:
            before.close()
        place = Place(_folder_of(settings.folder, partition), settings.identities_in_memory)
        self._opened[partition] = identities = Deduplicator(settings.window_days, place, self._worker)
        return identities

    def _shelf(self, partition: int) -> Shelf:
        settings = self.settings
        if settings.folder is None:
            return Shelf()
        before = self._shelves.pop(partition, None)
        if before is not None:
            before.close()
        shelf = Shelf(_folder_of(settings.folder, partition), settings.rows_in_memory, self._worker)
        self._shelves[partition] = shelf
        return shelf

    def close(self) -> None:
        """Ends all that goes on in the background. The engines are at their end."""
        on_disk: list[Deduplicator | Shelf] = [*self._opened.values(), *self._shelves.values()]
        for one in on_disk:
            one.close()


def _folder_of(folder: Path, partition: int) -> Path:
    return folder / f"{partition:05d}"


_T = TypeVar("_T")


class _Work:
    """What one step does for one tenant."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.biller = Biller(state)
        self.counts = Counts()
        self.rejections: list[Output] = []

    def outputs(self) -> list[Part]:
        """Everything that is to be said; the totals move on. Once, at the end of the step."""
        items = encode_line_items(self.state, self.biller, self.biller.changed_lines())
        made = Counts(
            line_items=len(items),
            invoices=self.biller.invoices,
            alerts=self.biller.alerts,
            amount=str(self.biller.amount_change),
        )
        self.counts = self.counts.plus(made)
        self.state.totals.add(self.counts)
        return [*items.parts, *self.biller.outputs, *self.rejections]


class _Works:
    """What one step does, by tenant, in the order in which the step comes to them."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants
        self._works: dict[str, _Work] = {}

    def __iter__(self) -> Iterator[_Work]:
        return iter(self._works.values())

    def of(self, tenant: str) -> _Work:
        """The work for one tenant."""
        found = self._works.get(tenant)
        if found is None:
            found = self._works[tenant] = _Work(self._tenants.of(tenant))
        return found

    def all(self) -> list[_Work]:
        """The work for every tenant that has come so far."""
        return [self.of(state.tenant) for state in self._tenants]


@dataclass(slots=True)
class _Checked:
    """Packs of one tenant, and what deduplication said of their rows."""

    packs: list[Pack] = field(default_factory=list)
    verdicts: list[Verdicts] = field(default_factory=list)


class RatingEngine:
    """One partition's engine. Changes its state in place; a step is atomic for whoever journals it."""

    def __init__(self, tenants: Tenants, settings: RatingSettings, observer: Observer | None = None) -> None:
        self.tenants = tenants
        self.settings = settings
        self._observer = observer
        self._tell()

    @property
    def state(self) -> State:
        """The state of the tenant `default`."""
        return self.tenants.of(DEFAULT_TENANT)

    def process(self, log: Sequence[Entry]) -> Step:
        """Folds entries into the state and says everything that changed. See `streams.processor`."""
        works = _Works(self.tenants)
        packs: list[Entry] = []
        for entry in log:
            if entry.kind == entries.EVENTS:
                packs.append(entry)
                continue
            self._events(packs, works)
            packs = []
            self.tenants.totals.read(entry.offset, entry.end, 1)
            if entry.kind == entries.TICK:
                self._tick(decode_tick(entry.payload), entry.offset, works)
            elif entry.kind == entries.RERATE:
                self._rerate(entry, works)
            else:
                self._catalogue(decode_catalogue(entry.kind, entry.payload), works)
        self._events(packs, works)
        return self._emit(works, len(log))

    def settle(self) -> Step:
        """No more events will come, and nobody says what time it is: gauges come up to the greatest event time."""
        works = _Works(self.tenants)
        for work in works.all():
            work.biller.settle_gauges(work.state.newest, work.state.arrivals)
        return self._emit(works, 0)

    def snapshot(self) -> bytes:
        """The whole state, but for the identities and the ledger's rows in `files`."""
        return self.tenants.dump()

    def files(self) -> Mapping[str, Path]:
        """The identities and the ledger's rows that are on disk."""
        return self.tenants.files()

    # Inputs ------------------------------------------------------------------------------------------------------

    def _events(self, log: Sequence[Entry], works: _Works) -> None:
        """Packs that follow each other. Their order shows in deduplication alone: so all of a tenant's are folded at
        once, however they lie among the others'."""
        packs = [read_pack(entry) for entry in log]
        for entry, pack in zip(log, packs, strict=True):
            self.tenants.totals.read(entry.offset, entry.end, max(pack.columns.num_rows, 1))
        if len({pack.tenant for pack in packs}) == 1:
            for part in _parts(packs):
                batch = Batch(part)
                self._fold(batch, self._check(batch), works.of(packs[0].tenant))
            return
        checked: dict[str, _Checked] = {}
        for part in _parts(packs):
            batch = Batch(part)
            verdicts = self._check(batch)
            for at, pack in enumerate(part):
                own = checked.setdefault(pack.tenant, _Checked())
                rows = slice(batch.starts[at], batch.starts[at + 1])
                own.packs.append(pack)
                own.verdicts.append(Verdicts(verdicts.fresh[rows], verdicts.conflict[rows]))
        for tenant, own in checked.items():
            for part, said in zip(_parts(own.packs), _parts(own.verdicts), strict=True):
                whole = Verdicts(*(np.concatenate(column) for column in zip(*said, strict=True)))
                self._fold(Batch(part), whole, works.of(tenant))

    def _check(self, batch: Batch) -> Verdicts:
        return self.tenants.identities.check(batch.identity, batch.content, batch.arrived)

    def _fold(self, batch: Batch, verdicts: Verdicts, work: _Work) -> None:
        """Packs of one tenant."""
        state, biller = work.state, work.biller
        refusals = [
            Refusal(
                row, -1, "", "conflict", None, "the same identity came with another content before; the first counts"
            )
            for row in np.flatnonzero(verdicts.conflict).tolist()
        ]
        is_void = batch.codes("type", names_void).astype(np.bool_)
        spoken = np.flatnonzero(verdicts.fresh & ~is_void)  # a void's time means nothing
        if len(spoken):
            state.newest = max(state.newest, int(batch.time[spoken].max()))
        takebacks, counting = read_voids(state, batch, verdicts.fresh)
        contributions, refused, made = meter_batch(state, batch, counting)
        refusals.extend(refused)
        biller.open(made)
        tally = biller.tally = Tally()
        refusals.extend(fold_batch(state, batch, verdicts.fresh, contributions, takebacks, biller))
        state.arrivals += batch.rows
        of = (verdicts.fresh, verdicts.conflict, is_void, counting)
        work.counts = work.counts.plus(count_batch(state, *of, contributions, refusals, tally))
        for refusal in sorted(refusals, key=lambda r: (r.row, r.order)):
            work.rejections.append(encode_rejection(batch, refusal, self._where(batch, refusal.row)))

    def _where(self, batch: Batch, row: int) -> Where:
        """The event's place in the log; where all events of a pack stand at one offset, with its place in the pack."""
        at = int(np.searchsorted(batch.starts, row, side="right")) - 1
        first, end = int(batch.starts[at]), int(batch.starts[at + 1])
        shared = end - first > 1 and not batch.packs[at].numbered
        return Where(self.tenants.partition, int(batch.offset[row]), index=row - first if shared else None)

    def _tick(self, now: int, offset: int, works: _Works) -> None:
        """It is now `now`, for everybody."""
        settings = self.settings
        for work in (_Work(self.tenants.nobody), *works.all()):
            work.biller.tick(now, settings.lateness, settings.corrections, offset)

    def _catalogue(self, brought: Documents, works: _Works) -> None:
        """Documents are added and changed; one that is not named again stays in force."""
        work = works.of(brought.tenant)
        state, before = work.state, work.state.catalogue.documents
        merged = merge(before, load_catalogue(bytes(brought.catalogue)).documents)
        if encode_document(merged) == encode_document(before):
            return
        before_it = standing(state)
        state.bind(load_catalogue(encode_document(merged), state.rebooked()))
        work.biller.rerate_open(before_it)

    def _rerate(self, entry: Entry, works: _Works) -> None:
        """Who appends the entry checks it first; one that does not fit by now changes nothing, and is a rejection."""
        asked = decode_rerate(entry.payload)
        work = works.of(asked.tenant)
        refused = rerate(work.state, work.biller, asked, entry.offset).refused
        if refused:
            where = Where(self.tenants.partition, entry.offset)
            work.rejections.append(encode_refusal(asked, "; ".join(refused), where))
            work.counts = work.counts.plus(Counts(rejected=1))

    # Outputs -----------------------------------------------------------------------------------------------------

    def _emit(self, works: _Works, read: int) -> Step:
        outputs: list[Part] = []
        done = Counts(entries=read)
        for work in works:
            outputs += work.outputs()
            done = done.plus(work.counts)
        totals, clock = self.tenants.totals, self.tenants.nobody.clock
        totals.add(done)
        due = clock - totals.checked >= CHECK_EVERY
        if due:
            totals.checked = clock
        outputs += reconcile(self.tenants, [work.state for work in works], tables=due)
        self.tenants.tend()
        self._tell()
        summary = Summary(**msgspec.structs.asdict(done), through=totals.as_counts())
        return Step(Outputs(outputs), summary)

    def _tell(self) -> None:
        if self._observer is not None:
            self._observer.told(self.tenants.partition, self.tenants.totals)


def _parts(all: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """At most `FOLDED_PACKS_MAX` at a time."""
    for start in range(0, len(all), FOLDED_PACKS_MAX):
        yield all[start : start + FOLDED_PACKS_MAX]
