"""The check is checked: with a fault built into the product, stories must go wrong.

Each mutation is put in place by the test and taken out after it. Seeds are tried in order until one has gone wrong,
which must be right without the mutation. One under which all stay right is a fault of the simulation.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import streams.embedded.log
import streams.kafka.ownership
import streams.snapshots
from ingest.door import Door
from rating.deduplicate import Deduplicator
from rating.engine import RatingProcessor
from rating.exact import wide_of
from rating.state import NO_LEVEL
from schemas import topics
from streams.embedded.host import _Partition
from streams.journal import Batch, Done, Journal, Verdict
from streams.kafka.host import Worker
from streams.kafka.order import Order
from streams.kafka.order import Verdict as OrderVerdict
from streams.kafka.ownership import OwnedState, TakeOver
from streams.kafka.partition import Partition
from streams.log import LogUnavailable
from streams.processor import Fetch
from streams.snapshots import Snapshot
from tests.simulation.run import run_story
from tests.simulation.story import Story
from tests.simulation.throw import throw

TRIED_MAX = 100
SEEDS_MAX = 2000

Patch = pytest.MonkeyPatch
Mutation = Callable[[Patch], None]


def skip_the_epoch_check(patch: Patch) -> None:
    """Step 4 is left out: what others have written into the journal is not looked at."""

    async def check(self: Partition, offset: int) -> None:
        self._state.journal_next = offset + 1

    async def still_owner(self: Partition) -> None:
        pass

    patch.setattr(Partition, "_check_fence", check)
    patch.setattr(Partition, "_check_still_owner", still_owner)


def emit_before_the_journal(patch: Patch) -> None:
    """Steps 3 and 5 change places."""
    append, emit = Partition._append, Partition._emit

    async def append_later(self: Partition, record: Any) -> int:
        if isinstance(record, Batch):
            await emit(self, self._made)  # type: ignore[attr-defined]
        return await append(self, record)

    run = streams.kafka.ownership.Surroundings.run
    patch.setattr(Partition, "_append", append_later)
    _note_outputs(patch, run)


def done_before_emit(patch: Patch) -> None:
    """Steps 5 and 6 change places."""
    emit, finish = Partition._emit, Partition._finish

    async def emit_after(self: Partition, outputs: Sequence[Any]) -> dict[str, int]:
        await finish(self, {})
        return await emit(self, outputs)

    async def no_finish(self: Partition, emitted: dict[str, int]) -> None:
        pass

    patch.setattr(Partition, "_emit", emit_after)
    patch.setattr(Partition, "_finish", no_finish)


def _note_outputs(patch: Patch, run: Any) -> None:
    """Keeps what `process` has made where `append_later` finds it."""
    step = Partition._step

    async def noting(self: Partition, entries: Any) -> None:
        surroundings = self._with
        made = self

        async def run_and_note(function: Any, *arguments: Any) -> Any:
            result = await run(surroundings, function, *arguments)
            made._made = getattr(result, "outputs", [])  # type: ignore[attr-defined]
            return result

        object.__setattr__(surroundings, "run", run_and_note)
        await step(self, entries)

    patch.setattr(Partition, "_step", noting)


def take_the_position_from_the_committed_offset(patch: Patch) -> None:
    """What Faust has acknowledged is taken for done."""
    rebalanced = Worker._on_rebalanced

    async def on_rebalanced(self: Worker, app: Any, **more: Any) -> None:
        await rebalanced(self, app, **more)
        for tp, partition in self._partitions.items():
            if partition._kept is not None:
                journal = partition._kept.journal
                journal.position = max(journal.position, self._app._group.acknowledged.get(tp, 0))

    patch.setattr(Worker, "_on_rebalanced", on_rebalanced)


def drop_the_last_journal_record(patch: Patch) -> None:
    """A restore stops reading one record too early."""
    read = TakeOver._read_journal

    async def short(self: TakeOver, state: OwnedState, end: int, batches: list[Batch]) -> None:
        barrier = end - 1 if not hasattr(self, "_read_once") else end
        self._read_once = True  # type: ignore[attr-defined]
        await read(self, state, barrier, batches)
        state.journal_next = max(state.journal_next, end)

    patch.setattr(TakeOver, "_read_journal", short)


def count_a_repeated_batch(patch: Patch) -> None:
    """A message that comes again is worked in again."""
    judge = Order.judge

    def take_again(self: Order, position: int, offset: int) -> OrderVerdict:
        verdict = judge(self, position, offset)
        return OrderVerdict.TAKE if verdict is OrderVerdict.REPEATED else verdict

    patch.setattr(Order, "judge", take_again)


def count_a_replayed_batch(patch: Patch) -> None:
    """What is replayed is counted twice: the identities are not remembered between the two."""
    replay = TakeOver._replay_step

    async def twice(self: TakeOver, state: OwnedState, batch: Batch, entries: Any) -> Any:
        step = await replay(self, state, batch, entries)
        engine: Any = state.processor
        identities, engine.tenants.identities = engine.tenants.identities, Deduplicator()
        engine.process(entries)
        engine.tenants.identities = identities
        return step

    patch.setattr(TakeOver, "_replay_step", twice)


def count_a_batch_of_an_earlier_epoch(patch: Patch) -> None:
    """What a stopped owner writes after its time counts too."""
    apply = Journal.apply

    def lenient(self: Journal, record: Any) -> Verdict:
        if isinstance(record, Batch | Done) and record.epoch < self.epoch:
            record = type(record)(**{**_fields(record), "epoch": self.epoch})
        return apply(self, record)

    patch.setattr(Journal, "apply", lenient)


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def lose_a_thresholds_memory(patch: Patch) -> None:
    """A snapshot does not hold which levels were reached."""
    open_it = RatingProcessor.open

    def forgetful(self: RatingProcessor, partition: int, snapshot: bytes | None, *more: Any) -> Any:
        engine = open_it(self, partition, snapshot, *more)
        if snapshot is not None:
            state = engine.state
            bills = state.bills
            for head in list(state.fired):
                levels = state.terms_of(head).levels
                if not bills["closed"][head]:
                    bills["next_level"][head] = wide_of(min((level.spend for level in levels), default=NO_LEVEL))
            state.fired.clear()
        return engine

    patch.setattr(RatingProcessor, "open", forgetful)


def forget_a_bucket_of_identities(patch: Patch) -> None:
    """A restore leaves the oldest bucket of identities out."""
    load = Deduplicator.load

    def short(self: Deduplicator, dumped: dict[str, Any], fetch: Fetch) -> None:
        names = [*dumped["buckets"], *dumped["runs"]]
        oldest = min(names, key=int) if names else None
        parts = {part: {n: v for n, v in dumped[part].items() if n != oldest} for part in ("buckets", "runs")}
        load(self, dumped | parts, fetch)

    patch.setattr(Deduplicator, "load", short)


def snapshot_one_too_far(patch: Patch) -> None:
    """A snapshot says that it holds one entry more than it does."""
    save = streams.snapshots.SnapshotStore.save

    def wrong(self: Any, processor: str, partition: int, snapshot: Snapshot) -> None:
        further = Snapshot(
            snapshot.position + 1, snapshot.journal_offset, snapshot.epoch, snapshot.state, snapshot.files
        )
        save(self, processor, partition, further)

    patch.setattr(streams.snapshots.SnapshotStore, "save", wrong)


def accept_a_damaged_snapshot(patch: Patch) -> None:
    """The checksum is not looked at."""
    decode = streams.snapshots._decode

    def blind(data: bytes, path: str) -> Any:
        body = data[:-32]
        return decode(body + hashlib.blake2b(body, digest_size=32).digest(), path)

    patch.setattr(streams.snapshots, "_decode", blind)


def trim_one_record_too_many(patch: Patch) -> None:
    """The embedded host lets go of the journal up to the newest snapshot, as if that could not be damaged."""
    snapshot = _Partition._snapshot

    def trimming(self: _Partition, state: Any) -> None:
        snapshot(self, state)
        if self._last is not None:
            self._log.trim(topics.JOURNAL, self.number, self._last.journal_offset)

    patch.setattr(_Partition, "_snapshot", trimming)


def answer_before_the_log_has_it(patch: Patch) -> None:
    """The door acknowledges what the log did not take."""
    commit = Door._commit

    async def hasty(self: Door, *arguments: Any) -> dict[int, int]:
        try:
            return await commit(self, *arguments)
        except LogUnavailable:
            return {}

    patch.setattr(Door, "_commit", hasty)


Relevant = Callable[[Story], bool]


def _any(story: Story) -> bool:
    return bool(story.faults)


def _has(*kinds: str) -> Relevant:
    return lambda story: any(fault.kind in kinds for fault in story.faults)


def _duel(story: Story) -> bool:
    """An owner is given up, and comes back."""
    return story.workers > 1 and any(f.seconds > 5.5 and f.kind in ("stand_still", "cut_off") for f in story.faults)


def _restored(story: Story) -> bool:
    return story.snapshot_entries < 4 and _has("crash")(story)


def _levels(story: Story) -> bool:
    levels = story.catalogue["price_books"]["book"].get("thresholds", ())
    return _restored(story) and len(story.inputs) > 4 and any(level.get("repeat") for level in levels)


def _damaged(story: Story) -> bool:
    return story.host == "embedded" and story.snapshot_entries < 4 and _has("torn_snapshot", "flipped_bit")(story)


def _slow_heir(story: Story) -> bool:
    return _duel(story) and any(f.kind == "stand_still" and f.seconds < 3.5 for f in story.faults)


def _refused(story: Story) -> bool:
    return any(fault.kind == "full_log" or (fault.kind, fault.place) == _FAILED for fault in story.faults)


_FAILED = ("failed_send", "door")


MUTATIONS: Sequence[tuple[Mutation, Relevant]] = (
    (skip_the_epoch_check, _duel),
    (emit_before_the_journal, _any),
    (take_the_position_from_the_committed_offset, _any),
    (drop_the_last_journal_record, _any),
    (count_a_replayed_batch, _any),
    (lose_a_thresholds_memory, _levels),
    (done_before_emit, _any),
    (count_a_repeated_batch, _has("repeated_messages", "stale_messages")),
    (count_a_batch_of_an_earlier_epoch, _slow_heir),
    (forget_a_bucket_of_identities, _restored),
    (snapshot_one_too_far, _restored),
    (accept_a_damaged_snapshot, _has("flipped_bit")),
    (trim_one_record_too_many, _damaged),
    (answer_before_the_log_has_it, _refused),
)
"""Each with the stories that it concerns: only these are tried."""


@pytest.mark.parametrize(("mutation", "relevant"), MUTATIONS, ids=[mutation.__name__ for mutation, _ in MUTATIONS])
def test_a_fault_that_is_built_in_turns_stories_wrong(
    mutation: Mutation, relevant: Relevant, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong: list[tuple[int, str]] = []
    tried = 0
    with monkeypatch.context() as broken:
        mutation(broken)
        for seed in range(SEEDS_MAX):
            story = throw(seed)
            if relevant(story):
                tried += 1
                outcome = run_story(story)
                wrong += [(seed, problem) for problem in outcome.problems[:1]]
            if wrong or tried == TRIED_MAX:
                break
    assert wrong, f"{mutation.__doc__} None of {tried} stories went wrong"
    seed, problem = wrong[0]
    print(f"\n{mutation.__name__}: the story number {tried} went wrong; seed {seed}: {problem[:200]}")
    assert run_story(throw(seed)).problems == [], "the same story goes wrong without the fault too"
