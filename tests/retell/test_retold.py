"""A customer that is told again comes to what the running engine came to: at once, in steps, and at any moment."""

import random
import re
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rating.engine import RatingSettings
from rating.naming import Naming
from rating.retell.bill import draft_bill
from rating.retell.inputs import read_inputs
from rating.retell.moment import NOW, Moment
from rating.retell.periods import heads_of, open_heads
from rating.retell.retold import Retold
from rating.spend.duckdb_store import DuckdbStore
from schemas.numbers import parse_scaled
from schemas.output import Invoice
from schemas.times import DAY, HOUR, parse_time
from tests.oracle import thrown, thrown_invoices
from tests.oracle.calendars import moment as moment_of
from tests.oracle.generate import Thrown
from tests.oracle.oracle import Tick
from tests.oracle.throws import throws
from tests.retell.logs import SETTINGS, Log, by_service, documents_of, items_of

THROWS = throws(25)
CASES = st.one_of(
    thrown.priced(),
    thrown.metered(),
    thrown.corrected(),
    thrown.segmented(),
    thrown.gauged(voids=True),
    thrown_invoices.settled(),
)
CUSTOMERS = ("acme", "beta", "stranger", "team-a")
KEPT = [SETTINGS, RatingSettings(partitions=1, lateness=3 * HOUR, window_days=None, corrections=20 * DAY)]


def write(case: Thrown, dice: random.Random, settings: RatingSettings) -> Log:
    """The case as a log: requests of a few events, ticks between them, arrivals that rise, prices that change."""
    log = Log(case.catalogue, settings)
    clock = parse_time("2026-10-30T00:00:00Z")
    waiting: list[Any] = []
    for one in [*case.events, None]:
        if one is not None and not isinstance(one, Tick):
            waiting.append(one)
        if waiting and (one is None or isinstance(one, Tick) or dice.random() < 0.5):
            log.send(waiting, clock)
            waiting = []
        if isinstance(one, Tick):
            clock = max(clock, moment_of(one.time))
            log.tick(clock)
        elif dice.random() < 0.6:
            for _ in range(dice.randint(1, 4)):
                clock += dice.choice([10_000_000, HOUR, DAY, 9 * DAY, 25 * DAY])
                log.tick(clock)
        if dice.random() < 0.1:
            log.change(re.sub("unit_amount: .*", f"unit_amount: '{dice.randint(1, 9)}'", case.catalogue))
        if dice.random() < 0.1:
            log.rerate(customer=dice.choice(CUSTOMERS), since="2026-10-01T00:00:00Z")
    return log


def retell(log: Log, store: DuckdbStore, customer: str, dice: random.Random | None = None) -> Retold:
    """The customer told again, in one step or in several."""
    end = log.entries[-1].end
    cuts = [*sorted({dice.randint(0, end) for _ in range(3)} if dice is not None else set()), end]
    retold = Retold(log.settings, "default", customer, 0)
    alerts = [one for one in log.all.alerts if one.because.tick is not None and one.customer == customer]
    named = [parse_time(alert.because.tick or "") for alert in alerts]
    for cut in cuts:
        for inputs, until in read_inputs(store, "default", customer, 0, retold.through, cut):
            retold.take(inputs, until, named)
    return retold


def agree(retold: Retold, log: Log, customer: str) -> None:
    assert items_of(retold.said, customer) == items_of(log.all, customer)
    assert documents_of(retold.said.invoices, customer) == documents_of(log.all.invoices, customer)
    assert documents_of(retold.said.alerts, customer) == documents_of(log.all.alerts, customer)


@THROWS
@given(CASES, st.randoms(use_true_random=False), st.sampled_from(KEPT))
def test_told_again_is_as_it_was(case: Thrown, dice: random.Random, settings: RatingSettings) -> None:
    log = write(case, dice, settings)
    store = log.store()
    for customer in CUSTOMERS:
        agree(retell(log, store, customer), log, customer)
        agree(retell(log, store, customer, dice), log, customer)
    store.close()


MOMENTS = st.one_of(
    st.none(), st.sampled_from(sorted({parse_time(time) for time in thrown.TIMES if time >= "2026-11"}))
)


@THROWS
@given(CASES, st.randoms(use_true_random=False), st.sampled_from(KEPT), MOMENTS, MOMENTS)
def test_a_past_moment_is_a_log_that_was_stopped(
    case: Thrown, dice: random.Random, settings: RatingSettings, as_of: int | None, known_at: int | None
) -> None:
    log = write(case, dice, settings)
    store = log.store()
    for customer in CUSTOMERS:
        found = by_service(log, store, customer, Moment(as_of, known_at))
        then = log.again(as_of, known_at)
        assert items_of(found.said, customer) == items_of(then.all, customer)
        if not of_gauges(case):  # a level that time alone crosses is found at ticks, and not all of them are fed
            assert documents_of(found.said.invoices, customer) == documents_of(then.all.invoices, customer)
            assert documents_of(found.said.alerts, customer) == documents_of(then.all.alerts, customer)
    store.close()


def of_gauges(case: Thrown) -> bool:
    return "time_weighted" in case.catalogue


@THROWS
@given(CASES, st.randoms(use_true_random=False), st.sampled_from(KEPT))
def test_the_bill_is_the_invoices_that_are_made_if_nothing_more_comes(
    case: Thrown, dice: random.Random, settings: RatingSettings
) -> None:
    log = write(case, dice, settings)
    store = log.store()
    told = {customer: by_service(log, store, customer, NOW) for customer in CUSTOMERS}
    bills = {customer: draft_bill(retold, "end") for customer, retold in told.items()}
    known = {customer: periods_of(retold) for customer, retold in told.items()}
    before = len(log.all.invoices)
    clock = max(log.clock, parse_time("2026-10-31T00:00:00Z"))
    for _ in range(500):
        if all(log.engine.state.bills["closed"][h] for h in open_before(log, told)):
            break
        clock += DAY
        log.tick(clock - clock % DAY)
    for customer in CUSTOMERS:
        made = [one for one in log.all.invoices[before:] if one.customer == customer]
        made = [one for one in made if (one.subscription, one.period.start) in known[customer]]
        drafts = [msgspec.structs.replace(one, status="issued") for one in bills[customer].invoices]
        if of_gauges(case):
            assert charged(drafts) == charged(made)
        else:
            assert sorted(drafts, key=lambda one: one.id) == sorted(made, key=lambda one: one.id)
    store.close()


def periods_of(retold: Retold) -> set[tuple[str, str]]:
    naming = Naming(retold.state)
    heads = heads_of(retold.state, retold.number)
    return {(naming.who(head)[3], naming.period(head).start) for head in heads}


def open_before(log: Log, told: dict[str, Retold]) -> list[int]:
    """The running engine's periods that were open when the bills were drafted."""
    naming = Naming(log.engine.state)
    names = {
        (customer, *period)
        for customer, retold in told.items()
        for period in {
            (Naming(retold.state).who(h)[3], Naming(retold.state).period(h).start)
            for h in open_heads(retold.state, retold.number)
        }
    }
    heads = [h for h in range(log.engine.state.bills.size) if log.engine.state.bills["head"][h] == h]
    return [h for h in heads if (naming.who(h)[2], naming.who(h)[3], naming.period(h).start) in names]


def charged(invoices: list[Invoice]) -> dict[tuple[str, str], int]:
    """What each period is asked for its charges and its commitment, over all invoices."""
    found: dict[tuple[str, str], int] = {}
    for one in invoices:
        key = one.subscription, one.period.start
        found[key] = found.get(key, 0) + parse_scaled(one.subtotal) + parse_scaled(one.minimum)
    return {key: amount for key, amount in found.items() if amount}
