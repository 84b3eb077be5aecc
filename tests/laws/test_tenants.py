"""Two tenants in one engine are told what each is told alone, whatever their names, and however their entries lie."""

import json
import random
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from ingest.columns import Parsed
from ingest.pack import encode_packs
from ingest.parse import parse_texts
from ingest.route import Router, View
from ingest.routed import Routed, refuse_unroutable
from rating.catalogue import load_catalogue
from schemas import topics
from schemas.entry import EVENTS, Entry, encode_catalogue, encode_entry, encode_tick
from schemas.faults import encode_document
from schemas.times import parse_time
from streams.processor import Output
from tests.oracle import thrown, thrown_invoices
from tests.oracle.engine import as_bytes
from tests.oracle.generate import TIMES, Thrown, cases
from tests.oracle.oracle import Tick
from tests.oracle.throws import throws
from tests.unit.rating.engines import ARRIVED, open_engine

THROWS = throws(40)
THROWN = st.one_of(
    cases(), thrown.priced(), thrown.metered(), thrown.gauged(voids=True), thrown.corrected(), thrown.segmented(),
    thrown_invoices.settled(),
)  # fmt: skip
NAMES = st.sampled_from([("default", "acme"), ("acme", "default"), ("a/b", "a"), ("T", "t")])


class Value(NamedTuple):
    """The value of an entry, how many events it holds, and whose it is; a tick is nobody's."""

    tenant: str | None
    raw: bytes
    events: int


def values_of(tenant: str, case: Thrown, batch: int) -> list[Value]:
    """A tenant's catalogue and events as its entries."""
    documents = load_catalogue(case.catalogue).documents
    view = View.of(documents)
    found = [Value(tenant, encode_catalogue(tenant, encode_document(documents)), 1)]
    router = Router(tenant, view, 1)
    thrown_inputs: list[Any] = case.events  # some throw ticks among them
    texts = as_bytes(one for one in thrown_inputs if not isinstance(one, Tick))
    for start in range(0, len(texts), batch):
        parsed: Parsed = parse_texts(texts[start : start + batch])
        events, _ = refuse_unroutable(parsed, router, [ARRIVED] * parsed.total, None)
        if not events.id:
            continue
        rows = Routed(events, router, [ARRIVED] * len(events.id)).by_partition()[0]
        packs = encode_packs(tenant, rows, view.extractor)
        found += [Value(tenant, encode_entry(EVENTS, pack), count) for pack, count in packs]
    return found


def interleave(dice: random.Random, both: Sequence[list[Value]], ticks: Sequence[str]) -> list[Value]:
    """The values of both, each one's in its order, with the ticks anywhere between them; or the second one comes when
    all else is said."""
    order = [at for at, own in enumerate(both) for _ in own] + [2] * len(ticks)
    dice.shuffle(order)
    if dice.random() < 0.3:
        order.sort(key=lambda at: at == 1)
    left = [iter(own) for own in (*both, [Value(None, encode_tick(parse_time(time)), 1) for time in ticks])]
    return [next(left[at]) for at in order]


def run(values: Sequence[Value], dice: random.Random | None = None, known: str = "default") -> Iterator[Output]:
    """What an engine that knows a tenant says of a log: entry by entry, or, by the dice, in steps of any size and from
    its snapshots."""
    engine, waiting, offset = open_engine(), [], 0
    engine.tenants.of(known)
    for value in values:
        waiting.append(Entry(offset, offset + value.events, value.raw))
        offset += value.events
        if dice is None or dice.random() < 0.4:
            yield from engine.process(waiting).outputs
            waiting = []
            if dice is not None and dice.random() < 0.3:
                engine = open_engine(engine.snapshot())
    yield from engine.process(waiting).outputs


def told(outputs: Iterator[Output], tenant: str) -> dict[str, list[Any]]:
    """What was said to a tenant, by topic, without the places in the log."""
    found: dict[str, list[Any]] = {}
    for output in outputs:
        document = json.loads(output.value)
        assert document.get("kind") != "reconciliation", document
        if document["tenant"] == tenant:
            document.pop("through", None)
            document.pop("where", None)
            found.setdefault(output.topic, []).append(document)
    return found


def latest(found: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The same with the last revision of each line item alone, and none at nought: how many are written depends on the
    steps, and a line that comes and goes within one is never written."""
    items = {item["id"]: item for item in found.pop(topics.LINE_ITEMS, [])}
    nought = ("0", "0")
    standing = [item for item in items.values() if (item["quantity"], item["amount"]) != nought]
    return {**found, topics.LINE_ITEMS: sorted(standing, key=itemgetter("id"))}


@THROWS
@given(
    THROWN,
    THROWN,
    NAMES,
    st.lists(st.sampled_from(TIMES), max_size=3),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_each_tenant_is_told_what_it_is_told_alone(
    one: Thrown, other: Thrown, names: tuple[str, str], times: list[str], batch: int, dice: random.Random
) -> None:
    ticks = sorted(times, key=parse_time)
    both = [values_of(name, case, batch) for name, case in zip(names, (one, other), strict=True)]
    whole = interleave(dice, both, ticks)
    together = list(run(whole))
    in_steps = list(run(whole, dice))
    for name in names:
        alone = told(run([value for value in whole if value.tenant in (name, None)], known=name), name)
        assert told(iter(together), name) == alone
        assert latest(told(iter(in_steps), name)) == latest(alone)
