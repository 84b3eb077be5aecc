"""Posts invoices to a double-entry ledger: Kafka in, SQLite out, nothing of Taximeter's imported.

    python examples/ledger.py --bootstrap localhost:9092 --ledger ledger.sqlite             # follows, for ever
    python examples/ledger.py --bootstrap localhost:9092 --ledger ledger.sqlite --until-end # to the end, then stops

An entry is positive where an account is debited, negative where it is credited, and the entries of an invoice come to
nought. An invoice that is told again posts nothing; a higher revision posts the difference. What is posted and how far
was read are one transaction, so a kill at any moment neither loses nor repeats an entry. One process for a ledger.
"""

import argparse
import asyncio
import json
import sqlite3
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

TOPIC = "taximeter.invoices"
UNIT = Decimal("0.0001")  # entries are whole numbers of it: no ISO 4217 currency has a smaller minor unit
SCHEMA = """
CREATE TABLE IF NOT EXISTS positions (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS invoices (id TEXT PRIMARY KEY, revision INTEGER NOT NULL, status TEXT NOT NULL,
                                     customer TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entries (invoice TEXT NOT NULL, revision INTEGER NOT NULL, account TEXT NOT NULL,
                                    currency TEXT NOT NULL, amount INTEGER NOT NULL,
                                    PRIMARY KEY (invoice, revision, account));
"""


def units(amount: str) -> int:
    """A decimal as a whole number of UNIT. Raises: ValueError where it is finer than that."""
    scaled = Decimal(amount) / UNIT
    if scaled != scaled.to_integral_value():
        raise ValueError(f"found the amount {amount}, expected at most 4 digits after the point")
    return int(scaled)


def entries_of(invoice: dict[str, Any]) -> Counter[str]:
    """Account -> what the invoice enters there. A draft or void invoice enters nothing."""
    accounts: Counter[str] = Counter()
    if invoice["status"] in ("draft", "void"):
        return accounts
    accounts[f"receivable:{invoice['customer']}"] += units(invoice["total"])
    accounts[f"prepaid:{invoice['customer']}"] += units(invoice["credits"])
    accounts["discounts"] += units(invoice["discounts"])
    for line in invoice["lines"]:
        accounts[f"revenue:{line['charge']}"] -= units(line["amount"])
    for tax in invoice.get("tax_lines", []):
        accounts[f"tax:{tax['name']}"] -= units(tax["amount"])
        if tax["inclusive"]:  # it lies in the prices of the lines already
            accounts["revenue:included tax"] += units(tax["amount"])
    if sum(accounts.values()) != 0:
        raise ValueError(f"the entries of {invoice['id']} come to {sum(accounts.values())}, expected 0: {accounts}")
    return accounts


def post(ledger: sqlite3.Connection, invoice: dict[str, Any]) -> None:
    """Posts the difference between what this revision enters and what is posted. Within the caller's transaction."""
    id, revision = invoice["id"], invoice["revision"]
    known = ledger.execute("SELECT revision FROM invoices WHERE id = ?", (id,)).fetchone()
    if known is not None and known[0] >= revision:
        return  # told again, or later than a higher one
    posted = ledger.execute("SELECT account, sum(amount) FROM entries WHERE invoice = ? GROUP BY 1", (id,))
    difference = entries_of(invoice)
    difference.subtract(dict(posted.fetchall()))
    ledger.executemany(
        "INSERT INTO entries VALUES (?, ?, ?, ?, ?)",
        [(id, revision, account, invoice["currency"], amount) for account, amount in difference.items() if amount],
    )
    ledger.execute(
        "INSERT OR REPLACE INTO invoices VALUES (?, ?, ?, ?, ?)",
        (id, revision, invoice["status"], invoice["customer"], json.dumps(invoice)),
    )


def take(ledger: sqlite3.Connection, partition: int, records: list[Any]) -> None:
    """The effect of some records and the position after them: all of it or nothing."""
    with ledger:
        ledger.execute("BEGIN IMMEDIATE")
        for record in records:
            if record.value:  # an empty value only says that a key is gone from a compacted topic
                post(ledger, json.loads(record.value))
        ledger.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", (partition, records[-1].offset + 1))


async def follow(bootstrap: str, topic: str, ledger: sqlite3.Connection, until_end: bool) -> None:
    """Reads every partition from where the ledger is. The positions are the ledger's, so there is no consumer group."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()  # without a group it has every partition, from the first record that there is
    try:
        places = sorted(consumer.assignment())
        for partition, position in ledger.execute("SELECT partition, next FROM positions"):
            consumer.seek(TopicPartition(topic, partition), position)
        ends = await consumer.end_offsets(places)
        while not until_end or any([await consumer.position(place) < ends[place] for place in places]):
            for place, records in (await consumer.getmany(timeout_ms=500)).items():
                take(ledger, place.partition, records)
    finally:
        await consumer.stop()


def balances(ledger: sqlite3.Connection) -> list[tuple[str, str, Decimal]]:
    """The trial balance: (currency, account, balance); each currency comes to nought."""
    rows = ledger.execute("SELECT currency, account, sum(amount) FROM entries GROUP BY 1, 2 ORDER BY 1, 2")
    return [(currency, account, (amount * UNIT).normalize()) for currency, account, amount in rows if amount]


def main() -> None:
    """Follows the topic; at its end prints the trial balance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", default="localhost:9092")
    parser.add_argument("--ledger", type=Path, default=Path("ledger.sqlite"))
    parser.add_argument("--prefix", default="", help="what stands before every topic's name")
    parser.add_argument("--until-end", action="store_true", help="stop where the topic ends now")
    options = parser.parse_args()
    ledger = sqlite3.connect(options.ledger, isolation_level=None)
    ledger.execute("PRAGMA journal_mode = WAL")
    ledger.execute("PRAGMA synchronous = FULL")
    ledger.executescript(SCHEMA)
    asyncio.run(follow(options.bootstrap, options.prefix + TOPIC, ledger, options.until_end))
    for currency, account, balance in balances(ledger):
        print(f"{account:<40} {balance:>16f} {currency}")


if __name__ == "__main__":
    main()
