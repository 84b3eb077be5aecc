"""Loads line items, invoices and alerts into DuckDB and Parquet: of each id the highest revision.

Imports nothing of Taximeter.

    python examples/warehouse.py --bootstrap localhost:9092 --database warehouse.duckdb --parquet warehouse

Goes to the end of the topics and stops: run it every minute, or every night. What was loaded and how far was read are
one transaction of the database; the Parquet files are written from it afterwards, each whole.
"""

import argparse
import asyncio
import os
from pathlib import Path
from typing import Any

import duckdb
from aiokafka import AIOKafkaConsumer, TopicPartition

MONEY = "DECIMAL(38, 12)"
PERIOD = {"period_start": ("TIMESTAMPTZ", "$.period.start"), "period_end": ("TIMESTAMPTZ", "$.period.end")}
WHO = {name: ("VARCHAR", f"$.{name}") for name in ("tenant", "customer", "subscription", "currency")} | PERIOD
INVOICED = ("subtotal", "minimum", "discounts", "credits", "taxes", "total")
# Table -> its columns: type and path in the JSON. `id` and `revision` stand before them, the whole body after them.
TABLES: dict[str, dict[str, tuple[str, str]]] = {
    "line_items": WHO
    | {"charge": ("VARCHAR", "$.charge"), "meter": ("VARCHAR", "$.meter"), "dimensions": ("JSON", "$.dimensions")}
    | {"quantity": (MONEY, "$.quantity"), "amount": (MONEY, "$.amount"), "events": ("BIGINT", "$.events")},
    "invoices": WHO
    | {"kind": ("VARCHAR", "$.kind"), "status": ("VARCHAR", "$.status")}
    | {name: (MONEY, f"$.{name}") for name in INVOICED},
    "alerts": WHO | {"kind": ("VARCHAR", "$.kind"), "spend": (MONEY, "$.spend"), "invoice": ("VARCHAR", "$.invoice")},
}
TOPICS = {"taximeter.line-items": "line_items", "taximeter.invoices": "invoices", "taximeter.alerts": "alerts"}


def prepare(database: duckdb.DuckDBPyConnection) -> None:
    """Makes the tables."""
    database.execute(
        "CREATE TABLE IF NOT EXISTS positions (topic VARCHAR, part INTEGER, next BIGINT, UNIQUE (topic, part))"
    )
    for table, columns in TABLES.items():
        typed = ", ".join(f"{name} {kind}" for name, (kind, _) in columns.items())
        database.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (id VARCHAR PRIMARY KEY, revision BIGINT NOT NULL, {typed}, body JSON)"
        )


def load(database: duckdb.DuckDBPyConnection, table: str, bodies: list[str]) -> None:
    """Takes records in: of each id the highest revision stays. Decimals are read from their text, never as floats."""
    columns = TABLES[table]
    values = ", ".join(
        f"json_extract(body, '{path}')" if kind == "JSON" else f"CAST(json_extract_string(body, '{path}') AS {kind})"
        for kind, path in columns.values()
    )
    kept = ", ".join(f"{name} = excluded.{name}" for name in ("revision", *columns, "body"))
    database.execute(
        f"""
        INSERT INTO {table}
        SELECT json_extract_string(body, '$.id') AS id,
               coalesce(CAST(json_extract_string(body, '$.revision') AS BIGINT), 1) AS revision, {values}, body
        FROM (SELECT CAST(unnest(?::VARCHAR[]) AS JSON) AS body)
        QUALIFY row_number() OVER (PARTITION BY id ORDER BY revision DESC) = 1
        ON CONFLICT (id) DO UPDATE SET {kept} WHERE excluded.revision > {table}.revision
        """,
        [bodies],
    )


def take(database: duckdb.DuckDBPyConnection, prefix: str, batches: dict[TopicPartition, list[Any]]) -> None:
    """Some records and the positions after them: all of it or nothing."""
    database.execute("BEGIN")
    try:
        for place, records in batches.items():
            topic = place.topic.removeprefix(prefix)
            # An empty value only says that a key is gone; a reconciliation alert is the engine's own, of no customer.
            bodies = [record.value.decode() for record in records if record.value]
            bodies = [body for body in bodies if '"kind":"reconciliation"' not in body]
            if bodies:
                load(database, TOPICS[topic], bodies)
            row = [topic, place.partition, records[-1].offset + 1]
            database.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", row)
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise


async def catch_up(bootstrap: str, prefix: str, database: duckdb.DuckDBPyConnection) -> None:
    """Reads every partition from where the database is to where it ends now."""
    consumer = AIOKafkaConsumer(
        *(prefix + topic for topic in TOPICS),
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()  # without a group it has every partition, from the first record that there is
    try:
        places = sorted(consumer.assignment())
        for topic, number, position in database.execute("SELECT topic, part, next FROM positions").fetchall():
            consumer.seek(TopicPartition(prefix + topic, number), position)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            batches = await consumer.getmany(timeout_ms=500)
            if batches:
                take(database, prefix, batches)
    finally:
        await consumer.stop()


def write_parquet(database: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """One file for each table, put in place whole: a reader never sees half of one."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        fresh = folder / f".{table}.parquet"
        database.execute(f"COPY (SELECT * FROM {table} ORDER BY id) TO '{fresh}' (FORMAT parquet)")
        os.replace(fresh, folder / f"{table}.parquet")


def main() -> None:
    """Loads what is new, and says how much there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", default="localhost:9092")
    parser.add_argument("--prefix", default="", help="what stands before every topic's name")
    parser.add_argument("--database", type=Path, default=Path("warehouse.duckdb"))
    parser.add_argument("--parquet", type=Path, help="a folder for Parquet files")
    options = parser.parse_args()
    with duckdb.connect(str(options.database)) as database:
        database.execute("SET TimeZone = 'UTC'")
        prepare(database)
        asyncio.run(catch_up(options.bootstrap, options.prefix, database))
        for table in TABLES:
            print(f"{table}: {database.execute(f'SELECT count(*) FROM {table}').fetchone()[0]:,}")  # type: ignore[index]
        if options.parquet:
            write_parquet(database, options.parquet)


if __name__ == "__main__":
    main()
