"""The example of a ledger: balanced, to the cent, through kills and revisions."""

import sqlite3
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from schemas import topics
from tests.consumers.deployment import Fed
from tests.consumers.topics import OwnTopics

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]


def balances(path: Path) -> dict[tuple[str, str], Decimal]:
    """(account, currency) -> balance."""
    rows = sqlite3.connect(path).execute("SELECT account, currency, sum(amount) FROM entries GROUP BY 1, 2")
    return {(account, currency): Decimal(amount) / 10_000 for account, currency, amount in rows if amount}


def is_balanced(path: Path) -> bool:
    """Every invoice comes to nought by itself, at each of its revisions."""
    query = "SELECT count(*) FROM (SELECT sum(amount) AS s FROM entries GROUP BY invoice, revision) WHERE s <> 0"
    return sqlite3.connect(path).execute(query).fetchone() == (0,)


def test_killed_again_and_again_it_agrees_with_the_engine_to_the_cent(fed: Fed, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    arguments = ("--bootstrap", fed.bootstrap, "--prefix", fed.prefix, "--ledger", path)
    entries = Counter[int]()
    for killed in range(5):
        process = fed.start_example("ledger.py", *arguments, cwd=tmp_path)
        deadline = time.monotonic() + 20
        while not entries_in(path) > entries[killed - 1] and time.monotonic() < deadline:
            time.sleep(0.002)
        position = fed.live(late=killed)
        time.sleep(0.03 * killed)
        process.kill()
        process.communicate()
        entries[killed] = entries_in(path)
        assert is_balanced(path)
    assert entries[4] > entries[0] > 0, "the ledger was killed while it had something to do"
    totals = fed.totals(position)
    fed.run_example("ledger.py", *arguments, "--until-end", cwd=tmp_path)
    assert is_balanced(path)
    found = balances(path)
    receivable = {(account, c): amount for (account, c), amount in found.items() if account.startswith("receivable:")}
    assert receivable == {(f"receivable:{who}", currency): total for (who, currency), total in totals.items() if total}
    assert found["tax:VAT", "USD"] < 0 and found["tax:MwSt", "EUR"] < 0 and found["prepaid:acme", "USD"] == 25
    before = entries_in(path)
    fed.run_example("ledger.py", *arguments, "--until-end", cwd=tmp_path)
    assert entries_in(path) == before, "what was posted is not posted again"


def entries_in(path: Path) -> int:
    """How many there are; 0 before the tables are made."""
    try:
        return int(
            sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute("SELECT count(*) FROM entries").fetchone()[0]
        )
    except sqlite3.OperationalError:
        return 0


def test_a_revision_posts_the_difference_and_an_older_one_nothing(fed: Fed, tmp_path: Path) -> None:
    invoices = [one for one in fed.outputs()["invoices"] if one["customer"] == "acme" and one["lines"]]
    invoice = max(invoices, key=lambda one: Decimal(one["total"]))
    own = OwnTopics(fed.bootstrap, topics.INVOICES)
    path = tmp_path / "ledger.sqlite"
    arguments = ("--bootstrap", own.bootstrap, "--prefix", own.prefix, "--ledger", path, "--until-end")

    def after(*told: dict) -> dict[tuple[str, str], Decimal]:  # type: ignore[type-arg]
        own.write(topics.INVOICES, told)
        fed.run_example("ledger.py", *arguments, cwd=tmp_path)
        assert is_balanced(path)
        return balances(path)

    first = after(invoice, invoice)
    assert first["receivable:acme", "USD"] == Decimal(invoice["total"])
    lines = [line | {"amount": str(Decimal(line["amount"]) + 1)} for line in invoice["lines"][:1]] + invoice["lines"][
        1:
    ]
    totals = {name: str(Decimal(invoice[name]) + 1) for name in ("subtotal", "total")}
    corrected = invoice | {"revision": 2, "lines": lines} | totals
    second = after(corrected)
    assert second["receivable:acme", "USD"] == first["receivable:acme", "USD"] + 1
    assert after(invoice, corrected, invoice) == second, "an older revision that comes later changes nothing"
    assert after(corrected | {"revision": 3, "status": "void"}) == {}, "a void invoice stands in no account"
    own.write(topics.INVOICES, [corrected | {"revision": 4, "total": "1"}])
    process = fed.start_example("ledger.py", *arguments, cwd=tmp_path)
    assert "come to" in process.communicate(timeout=60)[1] and process.returncode != 0
    assert balances(path) == {}, "what is not balanced is not posted, and not passed over either"
