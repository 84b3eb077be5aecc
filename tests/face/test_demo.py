"""The demo as a user starts it, and its check against outputs that were tampered with."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from schemas.times import parse_time
from taximeter.demo_bills import show_result
from taximeter.demo_check import Expected, calculate
from taximeter.demo_compare import Outputs, differences
from taximeter.demo_day import CLOSING_TICK, catalogue_path, write_day
from taximeter.demo_prices import plain
from taximeter.rate_file import rate_events

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "taximeter", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_small_day_holds_to_the_cent(tmp_path: Path) -> None:
    done = run("demo", "--plain", "--customers", 40, "--events", 3000, "--seed", 11, "--keep", tmp_path / "kept")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every cent checked" in done.stdout
    assert "events/s" in done.stdout
    assert (tmp_path / "kept" / "demo-events.ndjson").read_bytes().count(b"\n") == 3000
    assert not done.stderr


def test_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "something").write_text("else")
    done = run("demo", "--plain", "--events", 100, "--keep", tmp_path)
    assert done.returncode == 2
    assert "is not empty" in done.stderr


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Expected, Outputs]:
    """A small day: what the check expects, and what the engine says, straight from the file."""
    file = tmp_path_factory.mktemp("day") / "events.ndjson"
    write_day(file, 30, 6000, 3)
    lines = file.read_bytes().splitlines()
    book = catalogue_path().read_text()
    rated = rate_events(book.encode(), iter(lines), parse_time(CLOSING_TICK))
    outputs = Outputs(
        *(_documents(part) for part in (rated.line_items, rated.invoices, rated.alerts, rated.rejections))
    )
    expected = calculate(book, lines)
    outputs.spend = {customer: _spend(outputs, customer) for customer, _ in expected.bills}
    return expected, outputs


def _documents(outputs: list[Any]) -> list[Any]:
    import msgspec

    return [json.loads(msgspec.json.encode(output)) for output in outputs]


def _spend(outputs: Outputs, customer: str) -> Any:
    items = [item for item in outputs.line_items if item["customer"] == customer]
    invoices = [invoice for invoice in outputs.invoices if invoice["customer"] == customer]
    total, billed = (sum(map(Fraction, texts)) for texts in
                     ([i["amount"] for i in items], [i["total"] for i in invoices]))  # fmt: skip
    return {"currencies": [{"total": plain(Fraction(total)), "billed": {"total": plain(Fraction(billed))}}]}


def test_engine_and_check_agree(day: tuple[Expected, Outputs]) -> None:
    expected, outputs = day
    assert differences(expected, outputs) == []
    assert len(expected.lines) > 50 and expected.levels and expected.duplicates and expected.codes["conflict"] >= 0


def _change(listing: str, name: str, value: str) -> Callable[[Outputs], None]:
    return lambda outputs: getattr(outputs, listing)[0].__setitem__(name, value)


def _next_cent(outputs: Outputs) -> None:
    line = outputs.invoices[0]["lines"][0]
    line["amount"] = plain(Fraction(line["amount"]) + Fraction(1, 100))


@pytest.mark.parametrize(
    ("corrupt", "said"),
    [
        (_change("line_items", "amount", "0.000000000001"), "found the amount 0.000000000001"),
        (_change("line_items", "quantity", "1234567"), "found the quantity 1234567"),
        (_change("line_items", "events", "0"), "found the events 0"),
        (_change("line_items", "last_event", "2026-10-30T00:00:00Z"), "found last_event"),
        (_change("line_items", "currency", "EUR"), "in EUR"),
        (_change("invoices", "total", "0.01"), "is not the sum of its lines"),
        (_next_cent, "on invoices, expected"),
        (lambda outputs: outputs.line_items.pop(), "found no line item"),
        (lambda outputs: outputs.line_items.append(outputs.line_items[0]), "more than one line item"),
        (lambda outputs: outputs.invoices.pop(), "found invoices over"),
        (lambda outputs: outputs.alerts.pop(), "found 0 alerts, expected 1"),
        (lambda outputs: outputs.alerts.append(outputs.alerts[0]), "found 2 alerts, expected 1"),
        (lambda outputs: outputs.rejections.pop(), "rejections with the code"),
        (lambda outputs: outputs.spend.popitem(), "the spend query says"),
    ],
)
def test_corrupted_output_is_found(
    day: tuple[Expected, Outputs], corrupt: Callable[[Outputs], object], said: str
) -> None:
    expected, outputs = day
    corrupted = copy.deepcopy(outputs)
    corrupt(corrupted)
    found = differences(expected, corrupted)
    assert any(said in line for line in found), found


async def test_differences_make_the_run_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from taximeter import demo_run
    from taximeter.demo import demo

    honest = demo_run.differences

    def corrupted(expected: Expected, outputs: Outputs) -> list[str]:
        outputs.line_items[0]["amount"] = "0.42"
        return honest(expected, outputs)

    monkeypatch.setattr(demo_run, "differences", corrupted)
    assert await demo(customers=3, events=200, seed=1, keep=None, plain=True) == 1
    assert "found the amount 0.42, expected" in " ".join(capsys.readouterr().out.split())


def test_only_the_first_differences_are_shown(day: tuple[Expected, Outputs]) -> None:
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    show_result(console, *day, [f"difference {n}" for n in range(50)], 1.0)
    text = console.export_text()
    assert "50 differences" in text and "difference 9" in text and "difference 10" not in text
