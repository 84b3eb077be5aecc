"""`taximeter rate-file` by its contract: four files, exit status, what is said, exact numbers."""

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.face.running import BOOK, event, in_process, taximeter

FILES = ["line_items.ndjson", "invoices.ndjson", "alerts.ndjson", "rejections.ndjson"]
Rate = Callable[..., tuple[subprocess.CompletedProcess[str], dict[str, list[Any]]]]


def read(folder: Path) -> dict[str, list[Any]]:
    return {name: [json.loads(line) for line in (folder / name).read_text().splitlines()] for name in FILES}


@pytest.fixture
def rate(tmp_path: Path) -> Rate:
    """Rates lines under a book's text; the finished process and what stands in the four files."""

    def run(
        lines: list[str],
        *options: str,
        book: str = BOOK,
        out: str = "out",
        name: str = "events.ndjson",
        command: Callable[..., subprocess.CompletedProcess[str]] = in_process,
    ) -> Any:
        (tmp_path / "book.yaml").write_text(book)
        text = "\n".join(lines).encode() + b"\n"
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        words = ["--catalogue", tmp_path / "book.yaml", "--events", tmp_path / name, "--out", tmp_path / out]
        done = command("rate-file", *words, *options)
        return done, read(tmp_path / out) if done.returncode in (0, 3) else {}

    return run


def one_price(amount: str, value: str = "$.tokens") -> str:
    return f"""
meters: {{m: {{event: llm.request, aggregate: sum, value: "{value}"}}}}
price_books: {{b: {{currency: USD, charges: {{c: {{meter: m, price: {{model: unit, unit_amount: {amount}}}}}}}}}}}
default_subscription: {{price_book: b, period: month}}
"""


def tokens(*values: str) -> list[str]:
    return [event(f"e{i}", data=f'{{"tokens": {value}}}') for i, value in enumerate(values)]


def test_a_file_is_rated_into_four_files(rate: Rate) -> None:
    done, files = rate(
        [event("a"), event("b", subject="team-b"), event("c", subject="other")], "--as-of", "2026-12-01T00:00:00Z"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "3 events: 3 accepted, 0 duplicates, 0 conflicts",
        "       4 line_items.ndjson",
        "       2 invoices.ndjson",
        "       0 alerts.ndjson",
        "       0 rejections.ndjson",
        "0 rejected",
    ]
    assert [(i["customer"], i["charge"], i["quantity"], i["amount"]) for i in files["line_items.ndjson"]] == [
        ("acme", "calls", "2", "1"),
        ("acme", "tokens", "2", "0.02"),
        ("other", "calls", "1", "1"),
        ("other", "tokens", "1", "0.01"),
    ]
    assert sorted((i["customer"], i["kind"], i["total"]) for i in files["invoices.ndjson"]) == [
        ("acme", "period", "1.02"),
        ("other", "period", "1.01"),
    ]


def test_without_as_of_periods_stay_open_and_invoices_are_threshold_ones(rate: Rate) -> None:
    done, files = rate([event("a"), event("b", data='{"tokens": 60000, "model": "large"}')])
    assert done.returncode == 0
    [invoice] = files["invoices.ndjson"]
    assert (invoice["kind"], invoice["because"]["event"]) == ("threshold", {"source": "gate", "id": "b"})
    assert [alert["because"]["level"] for alert in files["alerts.ndjson"]] == ["500"]


def test_an_event_later_than_as_of_is_rated_into_its_open_period(rate: Rate) -> None:
    done, files = rate([event("a"), event("b", "2029-01-01T00:00:00Z")], "--as-of", "2026-12-01T00:00:00Z")
    assert done.returncode == 0
    assert len(files["line_items.ndjson"]) == 4
    assert [invoice["period"]["start"] for invoice in files["invoices.ndjson"]] == ["2026-11-01T00:00:00Z"]


def test_as_of_closes_what_ended_at_it_and_not_a_microsecond_before(rate: Rate) -> None:
    assert rate([event("a")], "--as-of", "2026-11-30T23:59:59.999999Z")[1]["invoices.ndjson"] == []
    assert len(rate([event("a")], "--as-of", "2026-12-01T01:00:00+01:00")[1]["invoices.ndjson"]) == 1


def test_rejected_events_are_counted_on_the_last_line_and_the_rest_is_rated(rate: Rate) -> None:
    lines = [event("a"), "", "not json", event("b", data='{"model": "x"}'), event("c", time="soon"), event("d")]
    done, files = rate(lines)
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1] == "3 rejected"
    found = [(r["where"], r["code"], r.get("meter"), r.get("path")) for r in files["rejections.ndjson"]]
    assert found == [
        ({"line": 3}, "invalid_json", None, None),
        ({"line": 4}, "missing_value", "tokens", "data.tokens"),
        ({"line": 5}, "invalid_time", None, "time"),
    ]
    calls = next(i for i in files["line_items.ndjson"] if i["charge"] == "calls")
    assert calls["quantity"] == "3"  # `b` lacks its tokens, and is a call all the same


def test_a_rejection_shows_the_event_as_it_came(rate: Rate) -> None:
    data = '{"tokens": "many", "big": 9007199254740993, "small": 0.10}'
    rejection = rate([event("a", data=data)])[1]["rejections.ndjson"][0]
    assert rejection["event"]["data"]["big"] == 9007199254740993
    assert (rejection["event"]["id"], rejection["code"]) == ("a", "invalid_value")


def test_duplicates_and_conflicts_are_no_rejected_events(rate: Rate) -> None:
    lines = [event("a"), event("a"), event("a", data='{"tokens": 9, "model": "large"}')]
    done, files = rate(lines)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "3 events: 1 accepted, 1 duplicates, 1 conflicts"
    assert done.stdout.splitlines()[-1] == "0 rejected"
    assert [(r["code"], r["where"]) for r in files["rejections.ndjson"]] == [("conflict", {"line": 3})]


def test_a_file_sent_twice_is_counted_once(rate: Rate) -> None:
    lines = [event(f"e{i}", f"2026-11-{1 + i % 28:02d}T00:00:00Z") for i in range(300)]
    once, twice = rate(lines)[1], rate(lines + lines)[1]
    assert twice == once


def test_a_second_run_writes_the_same_bytes(rate: Rate, tmp_path: Path) -> None:
    lines = [event(f"e{i}", data=f'{{"tokens": {i}.5, "model": "m{i % 7}"}}', subject=f"s{i % 11}") for i in range(500)]
    lines.append("broken")
    for out in ("one", "two"):
        assert rate(lines, "--as-of", "2027-01-01T00:00:00Z", out=out, command=taximeter)[0].returncode == 3
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert (tmp_path / "one" / name).stat().st_size or name == "alerts.ndjson"


def test_gzip_is_the_same(rate: Rate) -> None:
    lines = tokens("1", "2", "3")
    assert rate(lines, name="events.ndjson.gz", out="gz")[1] == rate(lines)[1]


@pytest.mark.parametrize(
    ("values", "price", "quantity", "amount"),
    [
        (["0.1"] * 10, '"1"', "1", "1"),
        (["9007199254740993"], '"1"', "9007199254740993", "9007199254740993"),
        (["9007199254740993", "9007199254740993"], '"0.5"', "18014398509481986", "9007199254740993"),
        (["3e9"], "1e-9", "3000000000", "3"),
        (["3000000000"], '"0.000000001"', "3000000000", "3"),
        (["1"], '"0.000000000001"', "1", "0.000000000001"),
        (["0.5"], '"0.000000000001"', "0.5", "0.000000000001"),
        (["-0.5"], '"0.000000000001"', "-0.5", "-0.000000000001"),
        (["0.1", "0.2"], "3", "0.3", "0.9"),
        (["1E2", "-1.50"], "1", "98.5", "98.5"),
        (['"7.25"'], "2", "7.25", "14.5"),
        (["99999999999999999999999999.999999999999"], "1", *["99999999999999999999999999.999999999999"] * 2),
    ],
)
def test_numbers_are_exact(rate: Rate, values: list[str], price: str, quantity: str, amount: str) -> None:
    done, files = rate(tokens(*values), book=one_price(price))
    assert done.returncode == 0, done.stdout
    [item] = files["line_items.ndjson"]
    assert (item["quantity"], item["amount"]) == (quantity, amount)


@pytest.mark.parametrize(
    "value", ["0.0000000000001", "1e26", "1" + "0" * 26, '"1e26"', "1e999999", "123.1234567890123"]
)
def test_too_many_digits_are_rejected_and_never_rounded(rate: Rate, value: str) -> None:
    done, files = rate(tokens("1", value), book=one_price("1"))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (3, "1 rejected")
    [rejection] = files["rejections.ndjson"]
    assert (rejection["code"], rejection["meter"], rejection["where"]) == ("out_of_range", "m", {"line": 2})
    assert files["line_items.ndjson"][0]["quantity"] == "1"


def test_a_total_that_would_not_fit_is_rejected(rate: Rate) -> None:
    done, files = rate(tokens("9e25", "9e25", "1"), book=one_price('"0.01"'))
    assert done.returncode == 3
    assert [(r["code"], r["where"]) for r in files["rejections.ndjson"]] == [("out_of_range", {"line": 2})]
    assert files["line_items.ndjson"][0]["quantity"] == "90000000000000000000000001"


def test_a_refused_catalogue_ends_with_2_and_names_every_fault(rate: Rate, tmp_path: Path) -> None:
    book = BOOK.replace("aggregate: sum", "aggregate: summ").replace("currency: USD", "currency: USDX")
    done, _ = rate([event("a")], book=book)
    assert (done.returncode, done.stdout) == (2, "")
    assert "meters.tokens.aggregate: found 'summ' (did you mean 'sum'?)" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_empty_file_gives_four_empty_files(rate: Rate) -> None:
    done, files = rate([])
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "0 rejected")
    assert files == {name: [] for name in FILES}


def test_another_run_replaces_the_files(rate: Rate) -> None:
    rate(tokens("1"), book=one_price("1"))
    assert rate([], book=one_price("1"))[1] == {name: [] for name in FILES}
