"""The example of a warehouse: what it holds is what the engine answers, whatever was told how often."""

from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from schemas import topics
from tests.consumers.deployment import Fed
from tests.consumers.topics import OwnTopics

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]


def test_it_holds_what_the_engine_answers(fed: Fed, tmp_path: Path) -> None:
    arguments = ("--bootstrap", fed.bootstrap, "--prefix", fed.prefix, "--database", tmp_path / "w.duckdb")
    for _ in range(2):  # the second time it goes on where it was
        position = fed.live(late=5)
        said = fed.outputs(position)
        printed = fed.run_example("warehouse.py", *arguments, "--parquet", tmp_path / "out", cwd=tmp_path)
        assert printed.splitlines() == [f"{name}: {len(said[name]):,}" for name in ("line_items", "invoices", "alerts")]
        for table, amount in (("line_items", "amount"), ("invoices", "total"), ("alerts", "spend")):
            rows = duckdb.sql(f"SELECT id, revision, {amount} FROM '{tmp_path}/out/{table}.parquet'").fetchall()
            assert {id: (revision, value) for id, revision, value in rows} == {
                one["id"]: (one.get("revision", 1), Decimal(one[amount])) for one in said[table]
            }
    kinds = duckdb.sql(f"DESCRIBE SELECT quantity, amount, period_start FROM '{tmp_path}/out/line_items.parquet'")
    assert [row[1] for row in kinds.fetchall()] == ["DECIMAL(38,12)", "DECIMAL(38,12)", "TIMESTAMP WITH TIME ZONE"]


def test_the_highest_revision_stays_in_any_order(fed: Fed, tmp_path: Path) -> None:
    line = max(fed.outputs()["line_items"], key=lambda one: one["revision"])
    revisions = [line | {"revision": n, "amount": f"{n}.000000000001"} for n in (1, 2, 3)]
    own = OwnTopics(fed.bootstrap, topics.LINE_ITEMS, topics.INVOICES, topics.ALERTS)
    arguments = ("--bootstrap", own.bootstrap, "--prefix", own.prefix, "--database", tmp_path / "w.duckdb")
    for told in ([revisions[1], revisions[2], revisions[0]], [revisions[1], revisions[2]]):
        own.write(topics.LINE_ITEMS, told)
        fed.run_example("warehouse.py", *arguments, cwd=tmp_path)
        with duckdb.connect(str(tmp_path / "w.duckdb")) as database:
            found = database.execute("SELECT revision, amount FROM line_items").fetchall()
        assert found == [(3, Decimal("3.000000000001"))]
