"""What a workload costs, by another road: SQL in whole numbers over the events' texts, with prices written here again.

No code of the engine, no parser of the door, no fraction: amounts are in 10⁻¹² dollars, GPU seconds in milliseconds.
`every-model` has too many prices for that: a sample of its customers goes through `tests.oracle`, in fractions.
"""

import csv
import gzip
import json
import tempfile
from collections.abc import Iterable, Sequence
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa

from benchmarks import every_model, traces
from tests.alibaba import expected as alibaba
from tests.oracle.oracle import rate

SCALE: Final = 10**12
_SAMPLE_EVERY: Final = 40
_SAMPLE_FROM: Final = 1000


class Cost(NamedTuple):
    """What the lines of one charge come to: events counted by them, and dollars in 10⁻¹²."""

    events: int
    amount: int


EVENTS: Final = """
create table events as
select any_value(text->>'$.subject') as customer, any_value(text->>'$.type') as type,
    any_value((text->>'$.time')[:7]) as month, any_value(text->>'$.data.model') as model,
    any_value(text->>'$.data.kind') as kind, any_value(text->>'$.data.gpu') as gpu,
    any_value(text->>'$.data.region') as region, any_value(text->>'$.data.zone') as zone,
    any_value(text->>'$.data.project') as project, any_value(text->>'$.data.cache') as cache,
    any_value(cast(text->>'$.data.tokens' as bigint)) as tokens,
    any_value(cast(cast(text->>'$.data.seconds' as decimal(18, 3)) * 1000 as bigint)) as millis
from texts group by text->>'$.id';
"""
"""One row for each id: in these workloads events of one id are copies."""

DEFAULT: Final = """
with tokens as (select sum(tokens)::hugeint as q, kind, count(*) as n from events where type = 'llm.request'
    group by kind),
requests as (select count(*)::hugeint as n, greatest(n - 100, 0) as q from events where type = 'llm.request'
    group by customer, month),
gpu as (select sum(millis)::hugeint as q, count(*) as n from events where type = 'gpu.session'
    group by customer, month),
capacity as (select sum(millis)::hugeint as q, count(*) as n from events where type = 'gpu.session'
    group by customer, month, gpu)
select 'platform', 0, count(*) * 20_000_000_000_000::hugeint from (select distinct customer, month from events)
union all select 'tokens', sum(n), sum(q * if(kind = 'output', 15_000_000, 3_000_000)) from tokens
union all select 'requests', sum(n), sum(least(q, 1000) * 10_000_000_000 + greatest(q - 1000, 0) * 5_000_000_000)
    from requests
union all select 'gpu', sum(n), sum((q + 59_999) // 60_000 * 50_000_000_000) from gpu
union all select 'capacity', sum(n), sum(q * if(q <= 10_000_000, 1_000_000, 800_000)) from capacity
"""

MANY_TIERS: Final = """
with tiers as (select n, (n - 1) * (n - 1) as above, if(n = 50, 1_000_000_000_000, n * n) as upto
    from (select unnest(range(1, 51)) as n)),
tokens as (select sum(tokens)::hugeint as q, count(*) as n from events where type = 'llm.request'
    group by customer, month, model),
requests as (select count(*)::hugeint as q from events where type = 'llm.request' group by customer, month),
gpu as (select sum(millis)::hugeint as q, count(*) as n from events where type = 'gpu.session' group by customer, month)
select 'tokens', (select sum(n) from tokens),
    sum((least(q, upto * 1000) - above * 1000) * (100 - tiers.n) * 1_000_000)
    from tokens join tiers on q > above * 1000
union all select 'requests', sum(q), sum(q * (100 - n) * 1_000_000_000)
    from requests join tiers on q > above * 2 and q <= upto * 2
union all select 'gpu', (select sum(n) from gpu),
    sum((least(q, upto * 20_000) - above * 20_000) * (100 - tiers.n) * 100_000 + tiers.n * 1_000_000_000_000)
    from gpu join tiers on q > above * 20_000
"""

MANY_DIMENSIONS: Final = """
select 'tokens', count(*), sum(tokens)::hugeint * 3_000_000 from events
union all select 'by-zone', count(*), sum(tokens)::hugeint * 1_000_000 from events
"""

_QUERIES: Final = {"default": DEFAULT, "many-tiers": MANY_TIERS, "many-dimensions": MANY_DIMENSIONS}


def expected(cost: str, texts: Sequence[bytes]) -> dict[str, Cost]:
    """By charge; charges that come to nothing, and that nobody used, are left out. `cost` as a `Workload` names it."""
    if cost == "oracle":
        return _by_oracle(texts)
    if cost == "alibaba-genai":
        return _by_alibaba_sql(len(texts))
    with duckdb.connect() as database:
        database.register("texts", pa.table({"text": pa.array([text.decode() for text in texts])}))
        database.execute(EVENTS)
        rows = database.execute(_QUERIES[cost]).fetchall()
    return {charge: Cost(int(events), int(amount)) for charge, events, amount in rows if events or amount}


def is_counted(cost: str, customer: str) -> bool:
    """Whether `expected` speaks of this customer."""
    if cost != "oracle":
        return True
    number = int(customer.rpartition("-")[2])
    return number >= _SAMPLE_FROM and number % _SAMPLE_EVERY == 0


def about(cost: str) -> str:
    """What was held against what, for the result."""
    if cost == "oracle":
        return f"events and amounts by charge of one in {_SAMPLE_EVERY} customers: the oracle in fractions"
    return "events and amounts by charge, to 10^-12: SQL in whole numbers over the events' texts"


def _by_oracle(texts: Iterable[bytes]) -> dict[str, Cost]:
    events = [event for event in map(json.loads, texts) if is_counted("oracle", event["subject"])]
    items = rate(every_model.CATALOGUE, events, every_model.END)["line_items"]
    return summed((item["charge"], item["events"], item["amount"]) for item in items)


def _by_alibaba_sql(count: int) -> dict[str, Cost]:
    """The SQL of tests/alibaba, over the rows with the times that `traces.alibaba_genai` gives them."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as database:
        path = Path(folder) / "trace.csv"
        with gzip.open(traces.find(traces.GENAI), "rt", newline="") as lines, path.open("w", newline="") as made:
            head, *rows = csv.reader(lines)
            to = csv.writer(made)
            to.writerow(head)
            for at in range(count):
                again, row = divmod(at, len(rows))
                to.writerow([traces.shifted(rows[row][0], again), *rows[row][1:]])
        create, *more = alibaba.EVENTS.strip().split(";\n")
        database.execute(alibaba.PRICES)
        database.execute(create, [str(path)])
        database.execute(";".join([*more, alibaba.USES]))
        found = database.execute(f"select charge, events, amount from ({alibaba.LINE_ITEMS})").fetchall()
    return summed(found)


def summed(lines: Iterable[tuple[str, int, str | Decimal]]) -> dict[str, Cost]:
    """Lines (charge, events, amount in dollars) by charge."""
    exact = Context(prec=60)
    found: dict[str, list[Any]] = {}
    for charge, events, amount in lines:
        sums = found.setdefault(charge, [0, Decimal(0)])
        sums[0] += events
        sums[1] = exact.add(sums[1], Decimal(amount))
    costs = {}
    for charge, (events, amount) in found.items():
        scaled = exact.multiply(amount, Decimal(SCALE))
        assert scaled == int(scaled), f"{charge}: found {amount}, expected at most 12 digits behind the point"
        if events or scaled:
            costs[charge] = Cost(events, int(scaled))
    return costs
