"""A customer that is told again comes to what the running engine came to: at once, in steps, and at any moment."""

import os
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rating.engine import RatingSettings
from rating.retell.inputs import read_inputs
from rating.retell.retold import Retold
from rating.spend.duckdb_store import DuckdbStore
from schemas.times import DAY, HOUR, parse_time
from tests.oracle import thrown, thrown_invoices
from tests.oracle.calendars import moment as moment_of
from tests.oracle.generate import Thrown
from tests.oracle.oracle import Tick
from tests.retell.logs import SETTINGS, Log, documents_of, items_of

THROWS = settings(
    max_examples=int(os.environ.get("TAXIMETER_EXAMPLES", "40")),
    derandomize="TAXIMETER_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
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
    """The case as a log: requests of a few events, ticks between them, arrivals that rise."""
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
