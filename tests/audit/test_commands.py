"""`taximeter audit` and `taximeter explain` as a user runs them: beside a running server, and on a folder."""

import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from streams.embedded.rows import pack, unpack
from tests.face.running import Server, event, in_process, taximeter

BOOK = """
meters:
  tokens: {event: llm.request, aggregate: sum, value: $.tokens, dimensions: {model: $.model}}
price_books:
  launch:
    currency: USD
    charges:
      platform: {price: {model: flat, amount: "20"}}
      tokens:
        meter: tokens
        group_by: [model]
        price:
          model: graduated
          tiers: [{up_to: "100", unit_amount: "0.01"}, {unit_amount: "0.005", flat_amount: "1"}]
customers:
  acme: {subjects: [team-a]}
default_subscription: {price_book: launch}
"""
EVENTS = [event(f"e{n}", f"2026-11-{n + 1:02d}T10:00:00Z", f'{{"tokens": {n}.5, "model": "large"}}') for n in range(20)]
VOID = event("v1", type="taximeter.void", data='{"source": "gate", "id": "e7", "reason": "a test"}')


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a closed month, its server stopped; audited while it ran."""
    folder = tmp_path_factory.mktemp("audited") / "data"
    with Server(folder, catalogue=BOOK) as server:
        server.send([*EVENTS, EVENTS[3], VOID])
        server.listing("line-items", server.tick("2026-12-05T00:00:00Z"))
        early = taximeter("audit", "--data", folder)
        assert early.returncode == 1 and "covers nothing" in early.stderr, early
        assert server.stop()[0] == 0
    return folder


def audit(data: Path, *words: str) -> Any:
    run = in_process("audit", "--data", data, "--json", *words)
    return json.loads(run.stdout)


def tokens(data: Path) -> str:
    found: list[str] = []
    for row in outputs(data):
        found += [one["id"] for _, value in row if (one := json.loads(value))["charge"] == "tokens"]
    return found[-1]


def outputs(data: Path) -> list[Any]:
    with sqlite3.connect(data / "log.sqlite") as log:
        table = _table(log)
        rows = [list(unpack(value)) for (value,) in log.execute(f"SELECT value FROM {table} ORDER BY position")]
    log.close()
    return rows


def _table(log: sqlite3.Connection) -> str:
    (number,) = log.execute("SELECT id FROM topics WHERE name = 'taximeter.line-items'").fetchone()
    return f"topic_{number}_0"


def test_nothing_is_wrong(data: Path) -> None:
    run = in_process("audit", "--data", data)
    assert run.returncode == 0, run
    assert run.stdout == (
        "2 line items and 1 invoice computed again from 22 events (1 duplicate), through 0:24: no difference.\n"
    )


def test_a_changed_line_item_on_disk_is_found(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    with sqlite3.connect(copy / "log.sqlite") as log:
        table = _table(log)
        for position, value in log.execute(f"SELECT position, value FROM {table}").fetchall():
            records = [(key, body.replace(b'"amount":"2.4625"', b'"amount":"2.5625"')) for key, body in unpack(value)]
            (row,) = pack(records)
            log.execute(f"UPDATE {table} SET value = ? WHERE position = ?", [row.value, position])
    log.close()
    run = in_process("audit", "--data", copy)
    assert run.returncode == 1
    assert "amount: expected 2.4625, found 2.5625" in run.stdout
    assert "events: gate e0, gate e1, gate e2" in run.stdout
    assert "gate e7," not in run.stdout
    assert audit(copy, "--customer", "other")["differences"] == []


def test_a_line_item_is_explained(data: Path) -> None:
    run = in_process("explain", tokens(data), "--data", data, "--limit", "9")
    assert run.returncode == 0, run
    text = re.sub(r" +", " ", run.stdout)
    for expected in (
        "customer acme, subscription default",
        "price book launch, version 1",
        "usage tokens: sum of $.tokens over llm.request",
        "quantity 192.5",
        "amount 2.4625",
        "by the archive the same",
        "0 to 100 100 × 0.01 1",
        "100 and above 92.5 × 0.005 + 1 1.4625",
        "19 events counted, 1 taken back, 1 duplicate",
        "2026-11-08T10:00:00Z gate e7 7.5 taken back by gate v1",
        "page 1 of 3; --page 2 shows the next",
    ):
        assert expected in text, f"{expected!r} is not in\n{run.stdout}"
    assert text.count("gate e3 3.5 counted") == 1 and text.count("gate e3 3.5 duplicate") == 1
    last = in_process("explain", tokens(data), "--data", data, "--limit", "9", "--page", "3")
    assert "e19" in last.stdout and "e7 " not in last.stdout


def test_an_explanation_as_json(data: Path) -> None:
    found = json.loads(in_process("explain", tokens(data), "--data", data, "--json").stdout)
    assert found["computed_again"]["amount"] == found["line_item"]["amount"] == "2.4625"
    assert len(found["events"]) == 21
    assert found["events"][0] == {
        "source": "gate", "id": "e0", "time": "2026-11-01T10:00:00Z", "value": "0.5", "offset": 1, "counts": "counted",
        "note": "",
    }  # fmt: skip


@pytest.mark.parametrize("command", [["audit"], ["explain", "li_x"]])
def test_what_is_asked_wrongly(command: list[str], tmp_path: Path) -> None:
    assert in_process(*command).returncode == 2
    assert in_process(*command, "--bootstrap", "localhost:1").returncode == 2
    missing = in_process(*command, "--data", tmp_path / "none")
    assert missing.returncode == 1 and "found no log" in missing.stderr


def test_an_id_that_is_not_there(data: Path) -> None:
    run = in_process("explain", "li_0", "--data", data)
    assert run.returncode == 2 and "found no line item 'li_0'" in run.stderr


def test_without_an_archive_none_is_written(tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--archive", "none", catalogue=BOOK) as server:
        server.send(EVENTS[:2])
        server.stop()
    assert not (tmp_path / "data" / "archive").exists()
    assert audit(tmp_path / "data")["events"] == 2  # what the log still holds is archived then
