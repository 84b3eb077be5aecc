"""What a customer has spent, worked out from raw events at the moment of asking, as meters on a warehouse do it.

One table of events (their data as JSON text, sorted by tenant, type and customer), in DuckDB and in ClickHouse's
engine; the question adds up one customer's events by model and prices the sums. In this process, without HTTP: less
than a real server would have to do.
"""

import random
import time
from collections.abc import Callable

import duckdb
import numpy as np
import pyarrow as pa

MODELS = 25
_START = 1_793_491_200_000_000  # 2026-11-01
_DAY = 86_400_000_000

_DUCKDB = """
SELECT model, tokens, calls, tokens * 0.000003 + calls * 0.0001 FROM (
    SELECT json_extract_string(data, '$.model') AS model,
           sum(CAST(json_extract_string(data, '$.tokens') AS DECIMAL(18, 6))) AS tokens, count(*) AS calls
    FROM events WHERE tenant = 'default' AND type = 'llm.request' AND customer = $customer
      AND time >= $start AND time < $end GROUP BY model)
"""
_CLICKHOUSE = """
SELECT model, tokens, calls, tokens * toDecimal64('0.000003', 9) + calls * toDecimal64('0.0001', 9) FROM (
    SELECT JSONExtractString(data, 'model') AS model,
           sum(toDecimal128(JSONExtractString(data, 'tokens'), 6)) AS tokens, count() AS calls
    FROM raw.events WHERE tenant = 'default' AND type = 'llm.request' AND customer = {customer:String}
      AND time >= {start:Int64} AND time < {end:Int64} GROUP BY model)
"""


def measure(events: int, customers: int, rounds: int = 100) -> dict[str, list[float]]:
    """Engine -> how long each of `rounds` questions took, in seconds. ClickHouse's only where `chdb` is installed."""
    table = _events(events, customers)
    found = {"DuckDB": _timed(_duckdb(table), customers, rounds)}
    try:
        import chdb  # noqa: F401
    except ImportError:
        return found
    return found | {"ClickHouse (chDB)": _timed(_clickhouse(table), customers, rounds)}


def _timed(ask: Callable[[str], int], customers: int, rounds: int) -> list[float]:
    dice = random.Random(3)
    taken = []
    for _ in range(rounds):
        customer = f"customer-{dice.randrange(customers):06d}"
        began = time.perf_counter()
        rows = ask(customer)
        taken.append(time.perf_counter() - began)
        assert rows, f"no events of {customer}"
    return taken


def _events(count: int, customers: int) -> pa.Table:
    numbers = np.arange(count)
    owners = numbers % customers
    order = np.argsort(owners, kind="stable")  # as a table that is sorted by customer has them
    data = [f'{{"tokens":"{n % 4999 + 1}","model":"model-{n // customers % MODELS:02d}"}}' for n in order.tolist()]
    return pa.table(
        {
            "tenant": pa.repeat("default", count),
            "type": pa.repeat("llm.request", count),
            "customer": [f"customer-{owner:06d}" for owner in owners[order].tolist()],
            "time": _START + (numbers[order] * 1_000_003) % (20 * _DAY),
            "data": data,
        }
    )


def _duckdb(events: pa.Table) -> Callable[[str], int]:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE events AS SELECT * FROM events")
    bounds = {"start": _START, "end": _START + 30 * _DAY}
    return lambda customer: len(connection.execute(_DUCKDB, {"customer": customer, **bounds}).fetchall())


def _clickhouse(events: pa.Table) -> Callable[[str], int]:
    import clickhouse_connect

    client = clickhouse_connect.get_client(interface="chdb")
    client.command("CREATE DATABASE IF NOT EXISTS raw")
    client.command(
        "CREATE TABLE raw.events (tenant LowCardinality(String), type LowCardinality(String), customer String, "
        "time Int64, data String) ENGINE = MergeTree ORDER BY (tenant, type, customer, time)"
    )
    client.insert_arrow("events", events, database="raw")
    bounds = {"start": _START, "end": _START + 30 * _DAY}
    return lambda customer: len(client.query(_CLICKHOUSE, parameters={"customer": customer, **bounds}).result_rows)
