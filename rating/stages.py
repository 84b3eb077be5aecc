"""How a batch goes through its stages: by columns where it can, event by event where the order of events shows.

Decides which periods need the order before anything is folded: those that watch a level and hold totals that need
every event (percentiles, allowances, gauges), or from which a void takes something back; and those from which a void
takes something back and whose numbers may not fit without it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from rating.billing import Biller
from rating.bounds import find_huge
from rating.cells import Contributions, Refusal
from rating.columns import Batch
from rating.compiled import TIME_MAX
from rating.exact import to_int128
from rating.fold import fold_columns
from rating.fold_native import Plain, is_there
from rating.keeper import gauge_customers, gauge_lines
from rating.ledger import Events, Rows
from rating.replay import Replay
from rating.state import NO_LEVEL, State
from rating.voids import Takeback, names_void, note_unfit, periods_of, refuse_late

_BY_HAND_BELOW: Final = 64
"""What fewer events than this bring is not worth columns: most tenants send few at a time."""


def fold_batch(
    state: State,
    batch: Batch,
    fresh: NDArray[np.bool_],
    contributions: list[Contributions],
    takebacks: list[Takeback],
    biller: Biller,
) -> list[Refusal]:
    """Folds a batch into the state. Returns what did not fit."""
    accepted = np.flatnonzero(fresh)
    biller.drop_unused(contributions, batch)
    customer = batch.codes("customer", state.numbers_of).astype(np.int64)
    gauged = _gauged(state, contributions, customer, accepted)
    _open_for_gauges(state, batch, contributions, customer, accepted, gauged, biller)
    named = _named_by_voids(state, batch, contributions, takebacks)
    careful = _watched_kept(state, contributions) | _watched(state, named) | find_huge(state, contributions, named)
    gauge_heads = _gauge_heads(state, contributions, gauged)
    careful |= _watched(state, {head for heads in gauge_heads.values() for head in heads})
    held_back = {c for c in gauged if careful & gauge_heads[c]}
    moves = (
        {row: int(customer[row]) for row in accepted.tolist() if int(customer[row]) in held_back} if held_back else {}
    )
    _advance(state, batch, customer, np.array([r for r in accepted.tolist() if r not in moves]) if moves else accepted)
    plain = None
    by_columns = contributions
    if contributions and is_there():
        plain = Plain(state, batch, contributions, careful | named)
        by_columns = [_of(state, part, plain.odd) for part in contributions] if plain.left else []
        by_columns = [part for part in by_columns if len(part.row)]
    if not gauged and sum(len(part.row) for part in by_columns) < _BY_HAND_BELOW:
        careful |= {head for part in by_columns for head in _heads(state, part).tolist()}
    if by_columns:
        careful = fold_columns(state, batch, by_columns, biller, careful)
    refusals = refuse_late(state, takebacks)
    replay = Replay(state, batch, contributions, biller, careful, plain)
    if careful or plain is not None:
        replay.run(takebacks, moves)
        refusals.extend(replay.refusals)
    if plain is not None:
        plain.finish(biller)
    _enter(state, batch, contributions, replay)
    for takeback in takebacks:
        if takeback.row not in replay.unfit:
            replay.take_back(takeback, within=False)
    refusals.extend(replay.unfit.values())
    note_unfit(state, takebacks, replay.unfit)
    _move_gauges(state, batch, contributions, customer, gauged, biller, careful)
    return refusals


def _open_for_gauges(
    state: State,
    batch: Batch,
    contributions: list[Contributions],
    customer: NDArray[np.int64],
    accepted: NDArray[np.int64],
    gauged: list[int],
    biller: Biller,
) -> None:
    spoken = accepted[batch.codes("type", names_void)[accepted] == 0]
    for who in gauged:
        rows = spoken[customer[spoken] == who]
        levels = [part.row[customer[part.row] == who] for part in contributions if part.gauge is not None]
        begun = min((int(batch.time[found].min()) for found in levels if len(found)), default=TIME_MAX)
        if len(rows):
            biller.open_for_gauges(who, begun, batch.time[rows], batch.offset[rows])


def _advance(state: State, batch: Batch, customer: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
    """Events have been accepted: how many each customer has, and up to when its gauges are known."""
    if not len(rows):
        return
    np.add.at(state.customer_events, customer[rows], 1)
    void = batch.codes("type", names_void).astype(np.bool_)
    known = rows[~void[rows]]
    np.maximum.at(state.customer_newest, customer[known], batch.time[known])


def _gauged(
    state: State, contributions: list[Contributions], customer: NDArray[np.int64], accepted: NDArray[np.int64]
) -> list[int]:
    """The customers of accepted events that have gauges, or get their first ones now."""
    known = set(gauge_customers(state, customer[accepted]))
    for part in contributions:
        if part.gauge is not None:
            known.update(np.unique(customer[part.row]).tolist())
    return sorted(known)


def _watched(state: State, heads: set[int]) -> set[int]:
    """Those of some periods that have a level before them and are not closed."""
    if not heads:
        return set()
    at = np.array(sorted(heads), dtype=np.int64)
    waiting = (to_int128(state.bills["next_level"][at]) < NO_LEVEL).to_numpy()
    return set(at[waiting & (state.bills["closed"][at] == 0)].tolist())


def _heads(state: State, part: Contributions) -> NDArray[np.int64]:
    found: NDArray[np.int64] = state.bills["head"][part.bill].astype(np.int64)
    return found


def _watched_kept(state: State, contributions: list[Contributions]) -> set[int]:
    heads: set[int] = set()
    for part in contributions:
        if part.kept:
            heads.update(np.unique(_heads(state, part)).tolist())
    return _watched(state, heads)


def _named_by_voids(
    state: State, batch: Batch, contributions: list[Contributions], takebacks: list[Takeback]
) -> set[int]:
    """The periods from which voids take something back."""
    if not takebacks:
        return set()
    heads = {head for found in periods_of(state, takebacks).values() for head in found}
    low = np.array([takeback.identity[0] for takeback in takebacks], dtype=np.uint64)
    for part in contributions:  # what a void names may stand before it in this batch
        named = np.isin(batch.identity[part.row, 0], low)
        heads.update(np.unique(_heads(state, part)[named]).tolist())
    return heads


def _of(state: State, part: Contributions, heads: Rows) -> Contributions:
    """What a part brings to these periods."""
    if not len(heads):
        return part.take(heads)
    inside = np.isin(_heads(state, part), heads)
    return part if inside.all() else part.take(np.flatnonzero(inside))


def _enter(state: State, batch: Batch, parts: list[Contributions], replay: Replay) -> None:
    """What was counted stands in the ledger, from where a void may take it back, in the order of the parts whatever way
    it was counted. The replay has put in those of its periods."""
    events = Events(batch.identity, batch.time)
    places: list[Rows] = []
    for index, part in enumerate(parts):
        own = part
        if replay.careful or replay.dropped:
            taken = np.isin(_heads(state, part), np.array(sorted(replay.careful), dtype=np.int64))
            taken[[place.at for place in replay.dropped if place.part == index]] = True
            at = np.flatnonzero(~taken)
            own = part.take(at)
            places.append(np.stack([np.full(len(at), index), at], axis=1))
        state.ledger.append(events, own.row, own.cell, own.value if own.texts is None else own.texts, own.gauge)
    if replay.entered:
        place = np.concatenate([np.array(replay.entered), *places])
        order = np.lexsort((place[:, 1], place[:, 0]))
        state.ledger.arrange(order)


def _gauge_heads(state: State, contributions: list[Contributions], customers: list[int]) -> dict[int, set[int]]:
    """For each customer the periods that show its gauges, those of this batch's events included."""
    found: dict[int, set[int]] = {}
    for customer in customers:
        lines = np.array(gauge_lines(state, customer), dtype=np.int64)
        found[customer] = set(state.bills["head"][state.lines["bill"][lines]].tolist())
    for part in contributions:
        if part.gauge is not None:
            owner = state.subscriptions["customer"][state.bills["subscription"][part.bill]]
            for customer, head in zip(owner.tolist(), _heads(state, part).tolist(), strict=True):
                found[customer].add(head)
    # A level holds on into every later period of the customer that is open.
    if customers:
        size = state.bills.size
        owner = state.subscriptions["customer"][state.bills["subscription"][:size]]
        for bill in np.flatnonzero(np.isin(owner, np.array(customers)) & (state.bills["closed"][:size] == 0)).tolist():
            found[int(owner[bill])].add(int(state.bills["head"][bill]))
    return found


def _move_gauges(
    state: State,
    batch: Batch,
    contributions: list[Contributions],
    customer: NDArray[np.int64],
    gauged: list[int],
    biller: Biller,
    careful: set[int],
) -> None:
    """Gauges of periods that were not worked through event by event come up to date, once."""
    since: dict[int, int] = {}
    for part in contributions:
        if part.gauge is not None:
            for row in part.row.tolist():
                who = int(customer[row])
                since[who] = min(since.get(who, TIME_MAX), int(batch.time[row]))
    for who in gauged:
        rows = np.flatnonzero(customer == who)
        biller.move_gauges(who, int(batch.offset[rows].max()), since=since.get(who, TIME_MAX), without=careful)
