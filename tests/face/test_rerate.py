"""`taximeter rerate` and `POST /v1/rerate`: shown first, then done; on a running server and on its folder."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.face.running import Server, event, in_process, taximeter

BOOKS = """
meters: {tokens: {event: llm.request, aggregate: sum, value: $.tokens, dimensions: {model: $.model}}}
price_books:
  launch: &launch
    currency: USD
    charges:
      platform: {price: {model: flat, amount: "20"}, when: in_advance}
      tokens: {meter: tokens, group_by: [model], price: {model: unit, unit_amount: "0.01"}}
  partner:
    currency: USD
    charges:
      tokens: {meter: tokens, group_by: [model], price: {model: unit, unit_amount: "0.004"}}
  gross: {currency: USD, charges: {tokens: {meter: tokens, price: {model: unit, unit_amount: "0.004"}}}}
customers: {acme: {subjects: [team-a]}}
default_subscription: {price_book: launch, period: month}
"""
EVENTS = [
    event("1", "2026-11-05T00:00:00Z", '{"tokens": 1000, "model": "large"}'),
    event("2", "2026-11-06T00:00:00Z", '{"tokens": 500.5, "model": "small"}'),
    event("3", "2026-12-05T00:00:00Z", '{"tokens": 100, "model": "large"}'),
    event("4", "2026-11-05T00:00:00Z", '{"tokens": 10, "model": "large"}', subject="other"),
]
ASKED = {"customer": "acme", "from": "2026-11-01T00:00:00Z"}


def total(invoices: list[Any], month: str = "2026-11", customer: str = "acme") -> Decimal:
    own = [one for one in invoices if one["period"]["start"].startswith(month) and one["customer"] == customer]
    return sum((Decimal(one["total"]) for one in own), Decimal(0))


def post(server: Server, body: Any, status: int = 200) -> Any:
    answer = server.client.post("/v1/rerate", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_re_rating_is_shown_first_and_then_done(tmp_path: Path) -> None:
    with Server(tmp_path / "data", catalogue=BOOKS) as server:
        server.send(EVENTS)
        at = server.tick("2026-12-10T00:00:00Z")
        assert total(server.listing("invoices", at)) == Decimal("35.01")  # 20 + 10 + 5.005, rounded up
        asked = {**ASKED, "price_book": "partner", "to": "2026-12-01T00:00:00Z", "reason": "partner since November"}
        shown = post(server, asked)
        assert (shown["dry_run"], shown["periods"], shown["unchanged"]) == (True, 1, 0)
        assert [(line["charge"], line["before"], line["after"], line["difference"]) for line in shown["lines"]] == [
            ("platform", "20", "0", "-20"), ("tokens", "10", "4", "-6"), ("tokens", "5.005", "2.002", "-3.003"),
        ]  # fmt: skip
        assert shown["totals"] == [{"currency": "USD", "before": "35.005", "after": "6.002", "difference": "-29.003"}]
        (correction,) = shown["invoices"]
        assert (correction["kind"], correction["total"]) == ("correction", "-29.01")
        assert total(server.listing("invoices", at)) == Decimal("35.01")  # nothing was written
        done = post(server, {**asked, "dry_run": False})
        assert {**done, "position": None} == {**shown, "dry_run": False, "id": done["id"], "position": None}
        invoices = server.listing("invoices", done["position"])
        assert total(invoices) == Decimal("6.00")
        assert correction in [{name: one[name] for name in correction} for one in invoices]
        again = post(server, asked)
        assert (again["lines"], again["invoices"], again["unchanged"]) == ([], [], 2)
        assert server.stop()[0] == 0
    with Server(tmp_path / "data") as server:
        assert total(server.listing("invoices", done["position"])) == Decimal("6.00")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"customer": "nobody"}, 422, "customer: found 'nobody', expected a customer that has used something"),
        ({"from": "2027-06-01T00:00:00Z"}, 422, "from: no billing period of acme begins at or after 2027-06-01"),
        ({"to": "2026-11-01T00:00:00Z"}, 422, "to: found 2026-11-01T00:00:00Z, expected a time after"),
        ({"from": "yesterday"}, 422, "from: found 'yesterday', expected an RFC 3339 time"),
        ({"price_book": "partnr"}, 422, "price_book: no such price book: found 'partnr' (did you mean 'partner'?)"),
        ({"price_book": "gross"}, 422, "tokens: gross (version 1) reads usage otherwise than launch (version 1)"),
        ({"form": "2026"}, 400, "unknown field `form`"),
        ({"dry_run": "no"}, 400, "Expected `bool`"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    shared: Server, body: dict[str, Any], status: int, words: str
) -> None:
    for dry_run in (True, False):
        problem = post(shared, {**ASKED, "dry_run": dry_run, **body}, status)
        assert words in problem["detail"]
    assert total(shared.listing("invoices")) == Decimal("35.01")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Server(tmp_path_factory.mktemp("rerate") / "data", catalogue=BOOKS) as server:
        server.send(EVENTS)
        server.listing("invoices", server.tick("2026-12-10T00:00:00Z"))
        yield server


WORDS = ("rerate", "--customer", "acme", "--from", "2026-11-01T00:00:00Z", "--price-book", "partner")


def test_the_command_shows_a_table_through_a_server_and_on_its_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Server(data, catalogue=BOOKS) as server:
        server.send(EVENTS)
        server.listing("invoices", server.tick("2026-12-10T00:00:00Z"))
        told = taximeter(*WORDS, "--url", server.url)
        held = taximeter(*WORDS, "--data", data)
        assert held.returncode == 1 and "is in use by the process" in held.stderr
        server.stop()
    assert told.returncode == 0, told.stderr
    assert max(map(len, told.stdout.splitlines())) <= 100
    assert "tokens  small" in told.stdout and "correction invoice of 1 November 2026" in told.stdout
    assert "-29.01" in told.stdout and told.stdout.splitlines()[-1].startswith("Nothing is written yet")
    on_folder = taximeter(*WORDS, "--data", data)
    assert on_folder.stdout == told.stdout
    applied = taximeter(*WORDS, "--data", data, "--apply", "--json")
    assert applied.returncode == 0, applied.stderr
    answer = json.loads(applied.stdout)
    assert answer["dry_run"] is False and answer["position"]
    again = taximeter(*WORDS, "--data", data)
    assert "Nothing changes." in again.stdout
    with Server(data) as server:
        invoices = server.listing("invoices", answer["position"])
        assert total(invoices) == Decimal("6.00") and total(invoices, customer="other") == Decimal("20.1")


def test_wrong_words_end_with_2(tmp_path: Path) -> None:
    for words, said in (
        (WORDS, "give either --url (a running server) or --data (a folder that no server holds)"),
        ((*WORDS, "--to", "soon", "--data", tmp_path), "expected an RFC 3339 time"),
    ):
        done = in_process(*words)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    nothing = taximeter(*WORDS, "--data", tmp_path / "none")
    assert nothing.returncode == 1 and "found no log in" in nothing.stderr
