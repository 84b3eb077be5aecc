"""The engine: a pure fold over one partition's log. Usage in; line items, invoices, alerts and rejections out.

Stages, in this order and by these names everywhere: deduplicate, aggregate, rate, invoice, emit. Events are worked
through by columns; where the order of single events within a batch matters (a level may be crossed, a number may
leave its bounds), the bills concerned are worked through event by event instead, with the same result by law: the
answer never depends on how the input was cut into batches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from weakref import WeakValueDictionary

import msgspec
import numpy as np

from rating.billing import Biller
from rating.catalogue import load_catalogue
from rating.cells import Refusal
from rating.columns import Batch
from rating.deduplicate import Deduplicator
from rating.emit import encode_line_items, encode_refusal, encode_rejection
from rating.identities.held import IN_MEMORY_MAX, Place
from rating.identities.work import Background, Worker
from rating.keeper import keep_again
from rating.metering import meter_batch
from rating.reconcile import CHECK_EVERY, reconcile
from rating.rerate import rerate
from rating.stages import fold_batch
from rating.standing import standing
from rating.state import State
from rating.tally import Tally, count_batch
from rating.totals import Totals
from rating.voids import names_void, read_voids
from schemas import entry as entries
from schemas.catalogue import merge
from schemas.entry import Entry, decode_rerate, decode_tick
from schemas.faults import encode_document
from schemas.rejection import Where
from schemas.times import DAY, HOUR
from streams.processor import Counts, Fetch, Output, Step, Summary, no_files


@dataclass(frozen=True, slots=True)
class RatingSettings:
    """What an operator may choose. Changing `partitions` needs a new log.

    `lateness`: how long after its end a period stays open, in microseconds of the clock.
    `window_days`: the deduplication window; None keeps identities for ever.
    `corrections`: how long after its close a period can be corrected by late events and voids, in microseconds.
    `folder`: where identities are kept that are not in memory, a folder for each partition; this program's alone.
    None: all of them are kept in memory, and in each snapshot.
    `identities_in_memory`: how many identities of a partition are kept in memory before they go to disk.
    """

    partitions: int = 1
    lateness: int = 1 * HOUR
    window_days: int | None = 35
    corrections: int = 35 * DAY
    folder: Path | None = None
    identities_in_memory: int = IN_MEMORY_MAX


FOLDED_PACKS_MAX: Final = 64
"""Packs that are folded at once. Measured: fewer cost more for each event; with more, a bill that crosses a level is
replayed over more events, and the columns leave the processor's cache. It changes no result."""


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
        """`worker`: who writes identities to disk; by default a thread."""
        self.settings = settings or RatingSettings()
        self.observer = observer
        self._worker = Background() if worker is None else worker
        self._opened: WeakValueDictionary[int, Deduplicator] = WeakValueDictionary()

    def open(self, partition: int, snapshot: bytes | None, fetch: Fetch = no_files) -> "RatingEngine":
        """The engine of a partition, as its snapshot has it or at the beginning. Where identities are kept on disk, an
        engine of this partition that was opened before is at its end: they share a folder.

        Raises: ValueError, OSError, and what `fetch` raises.
        """
        settings = self.settings
        identities = self._identities(partition)
        if snapshot is None:
            identities.clear_folder()
            return RatingEngine(State(partition, settings.partitions, identities), settings, self.observer)
        state = State.load(snapshot, partition, settings.partitions, identities, fetch)
        keep_again(state)
        return RatingEngine(state, settings, self.observer)

    def _identities(self, partition: int) -> Deduplicator:
        settings = self.settings
        if settings.folder is None:
            return Deduplicator(settings.window_days)
        before = self._opened.pop(partition, None)
        if before is not None:
            before.close()
        place = Place(settings.folder / f"{partition:05d}", settings.identities_in_memory)
        self._opened[partition] = identities = Deduplicator(settings.window_days, place, self._worker)
        return identities

    def close(self) -> None:
        """Ends all that goes on in the background. The engines are at their end."""
        for identities in list(self._opened.values()):
            identities.close()


class RatingEngine:
    """One partition's engine. Changes its state in place; a step is atomic for whoever journals it."""

    def __init__(self, state: State, settings: RatingSettings, observer: Observer | None = None) -> None:
        self.state = state
        self.settings = settings
        self._observer = observer
        self._tell()

    def process(self, log: Sequence[Entry]) -> Step:
        """Folds entries into the state and says everything that changed. See `streams.processor`."""
        biller = Biller(self.state)
        counts = Counts(entries=len(log))
        rejections: list[Output] = []
        packs: list[Entry] = []
        for entry in log:
            if entry.kind == entries.EVENTS:
                packs.append(entry)
                if len(packs) == FOLDED_PACKS_MAX:
                    counts = counts.plus(self._events(packs, biller, rejections))
                    packs = []
                continue
            counts = counts.plus(self._events(packs, biller, rejections))
            packs = []
            self.state.totals.read(entry.offset, entry.end, 1)
            if entry.kind == entries.TICK:
                biller.tick(decode_tick(entry.payload), self.settings.lateness, self.settings.corrections, entry.offset)
            elif entry.kind == entries.RERATE:
                counts = counts.plus(self._rerate(entry, biller, rejections))
            else:
                self._catalogue(bytes(entry.payload), biller)
        counts = counts.plus(self._events(packs, biller, rejections))
        return self._emit(biller, counts, rejections)

    def settle(self) -> Step:
        """No more events will come, and nobody says what time it is: gauges come up to the greatest event time."""
        biller = Biller(self.state)
        biller.settle_gauges(self.state.newest, self.state.arrivals)
        return self._emit(biller, Counts(), [])

    def snapshot(self) -> bytes:
        """The whole state, but for the identities in `files`."""
        return self.state.dump()

    def files(self) -> Mapping[str, Path]:
        """The identities that are on disk."""
        return self.state.identities.files()

    # Inputs ------------------------------------------------------------------------------------------------------

    def _events(self, packs: list[Entry], biller: Biller, rejections: list[Output]) -> Counts:
        if not packs:
            return Counts()
        state = self.state
        batch = Batch(packs)
        for entry, rows in zip(packs, np.diff(batch.starts).tolist(), strict=True):
            state.totals.read(entry.offset, entry.end, max(rows, 1))
        verdicts = state.identities.check(batch.identity, batch.content, batch.arrived)
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
        counts = count_batch(state, *of, contributions, refusals, tally)
        for refusal in sorted(refusals, key=lambda r: (r.row, r.order)):
            rejections.append(encode_rejection(batch, refusal, self._where(batch, refusal.row)))
        return counts

    def _where(self, batch: Batch, row: int) -> Where:
        """The event's place in the log; where all events of a pack stand at one offset, with its place in the pack."""
        at = int(np.searchsorted(batch.starts, row, side="right")) - 1
        first, end = int(batch.starts[at]), int(batch.starts[at + 1])
        shared = end - first > 1 and not batch.packs[at].numbered
        return Where(self.state.partition, int(batch.offset[row]), index=row - first if shared else None)

    def _catalogue(self, payload: bytes, biller: Biller) -> None:
        """Documents are added and changed; one that is not named again stays in force."""
        before = self.state.catalogue.documents
        merged = merge(before, load_catalogue(payload).documents)
        if encode_document(merged) == encode_document(before):
            return
        before_it = standing(self.state)
        self.state.bind(load_catalogue(encode_document(merged), self.state.rebooked()))
        biller.rerate_open(before_it)

    def _rerate(self, entry: Entry, biller: Biller, rejections: list[Output]) -> Counts:
        """Who appends the entry checks it first; one that does not fit by now changes nothing, and is a rejection."""
        asked = decode_rerate(entry.payload)
        refused = rerate(self.state, biller, asked, entry.offset).refused
        if refused:
            where = Where(self.state.partition, entry.offset)
            rejections.append(encode_refusal(asked, "; ".join(refused), where))
        return Counts(rejected=int(bool(refused)))

    # Outputs -----------------------------------------------------------------------------------------------------

    def _emit(self, biller: Biller, counts: Counts, rejections: list[Output]) -> Step:
        totals = self.state.totals
        items = encode_line_items(self.state, biller, biller.changed_lines())
        made = Counts(
            line_items=len(items), invoices=biller.invoices, alerts=biller.alerts, amount=str(biller.amount_change)
        )
        done = counts.plus(made)
        totals.add(done)
        due = self.state.clock - totals.checked >= CHECK_EVERY
        if due:
            totals.checked = self.state.clock
        found = reconcile(self.state, totals.position, tables=due)
        self._tell()
        summary = Summary(**msgspec.structs.asdict(done), through=totals.as_counts())
        return Step([*items, *biller.outputs, *rejections, *found], summary)

    def _tell(self) -> None:
        if self._observer is not None:
            self._observer.told(self.state.partition, self.state.totals)
