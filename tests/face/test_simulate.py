"""`taximeter simulate`: bills and differences as a person reads them, by the engine's own amounts."""

import gzip
from pathlib import Path

from taximeter.rate_file import rate_events
from taximeter.simulate import bills, compare
from tests.face.running import BOOK, event, in_process

AS_OF = "2026-12-02T00:00:00Z"
COMMITTED = BOOK.replace("    thresholds", "    minimum: 50\n    thresholds")
DEARER = COMMITTED.replace('"0.01"', '"0.02"')
EVENTS = [
    event("a", data='{"tokens": 1000, "model": "large"}'),
    event("b", data='{"tokens": 500.5, "model": "small"}'),
    event("c", subject="other", data='{"tokens": 10, "model": "large"}'),
    event("d", subject="other", data='{"tokens": "x", "model": "large"}'),
]


def files(folder: Path) -> tuple[Path, Path, Path]:
    (folder / "now.yaml").write_text(COMMITTED)
    (folder / "dearer.yaml").write_text(DEARER)
    (folder / "events.ndjson").write_text("\n".join(EVENTS))
    return folder / "now.yaml", folder / "dearer.yaml", folder / "events.ndjson"


def rows(text: str) -> list[list[str]]:
    """Each line's cells: what two or more spaces part."""
    return [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in text.splitlines() if line.strip()]


def test_bills_are_shown_with_what_invoices_add(tmp_path: Path) -> None:
    now, _, events = files(tmp_path)
    done = in_process("simulate", "--catalogue", now, "--events", events, "--as-of", AS_OF)
    assert done.returncode == 3 and done.stdout.splitlines()[-1] == "1 rejected", done.stdout
    found = rows(done.stdout)
    assert found[:2] == [["4 events: 4 accepted, 0 duplicates"],
                         ["1 invalid_value (first: line 4, found 'x', expected a finite number)"]]  # fmt: skip
    start = found.index(["acme, 1 November 2026 to 1 December 2026", "in USD"])
    assert found[start + 2 : start + 10] == [
        ["charge", "quantity", "amount"], ["calls", "2", "1"], ["tokens  large", "1,000", "10"],
        ["tokens  small", "500.5", "5.005"], ["charges", "16.005"], ["invoiced (1 invoice)", "16.01"],
        ["commitment", "33.99"], ["to pay", "50.00"],
    ]  # fmt: skip
    assert ["USD", "17.105", "100.00"] in found
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_two_catalogues_are_compared_by_customer_and_charge(tmp_path: Path) -> None:
    now, dearer, events = files(tmp_path)
    words = ("simulate", "--catalogue", dearer, "--against", now, "--events", events, "--as-of", AS_OF)
    found = rows(in_process(*words).stdout)
    start = found.index(["dearer.yaml against now.yaml"])
    assert found[start + 2 : start + 8] == [
        ["now.yaml", "dearer.yaml", "difference"], ["acme, USD"], ["calls", "1", "1", "0"],
        ["tokens", "15.005", "30.01", "+15.005", "+100 %"], ["charges", "16.005", "31.01", "+15.005", "+93.8 %"],
        ["to pay by invoices", "50.00", "50.00", "0.00"],
    ]  # fmt: skip
    assert found[start + 13] == ["all customers, USD"]
    assert ["tokens", "15.105", "30.21", "+15.105", "+100 %"] in found[start + 13 :]
    one = in_process(*words, "--customer", "other").stdout
    assert "other, USD" in one and "acme" not in one and "all customers" not in one


def test_without_an_end_nothing_is_invoiced_but_at_thresholds(tmp_path: Path) -> None:
    now, _, _ = files(tmp_path)
    with gzip.open(tmp_path / "one.ndjson.gz", "wt") as file:
        file.write(EVENTS[0])
    done = in_process("simulate", "--catalogue", now, "--events", tmp_path / "one.ndjson.gz")
    assert done.returncode == 0 and "invoiced" not in done.stdout and "tokens  large" in done.stdout


def test_a_refused_catalogue_of_either_side_ends_with_2(tmp_path: Path) -> None:
    now, dearer, events = files(tmp_path)
    dearer.write_text(DEARER.replace("model: unit", "model: unti"))
    for words in (("--catalogue", dearer), ("--catalogue", now, "--against", dearer)):
        done = in_process("simulate", *words, "--events", events)
        assert (done.returncode, done.stdout) == (2, "")
        assert "price_books.launch.charges.tokens.price.model: found 'unti' (did you mean 'unit'?)" in done.stderr


def test_bills_and_differences_sum_to_the_engine_s_own() -> None:
    texts = [text.encode() for text in EVENTS]
    now, dearer = (rate_events(book, texts, 1_796_169_600_000_000) for book in (COMMITTED, DEARER))
    assert {bill.customer: bill.amount for bill in bills(now)} == {"acme": 16_005 * 10**9, "other": 1_100 * 10**9}
    assert all(bill.totals is not None and bill.totals["total"] == 50 * 10**12 for bill in bills(now))
    found = {(one.customer, one.charge): one.after - one.before for one in compare(now, dearer)}
    assert found["acme", "tokens"] == 15_005 * 10**9 and found["acme", None] == 0
