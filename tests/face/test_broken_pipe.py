"""Whoever reads our output may have enough of it at any moment: `| head` is no fault of the command."""

import subprocess
import sys
from pathlib import Path

CATALOGUE = """
meters:
  calls: {event: call, aggregate: count}
price_books:
  plain:
    currency: USD
    effective_from: 2026-01-01T00:00:00Z
    charges:
      calls: {meter: calls, price: {model: unit, unit_amount: "1"}}
default_subscription: {price_book: plain}
"""


def test_an_output_that_nobody_reads_ends_a_command_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "book.yaml").write_text(CATALOGUE)
    (tmp_path / "none.ndjson").write_text("")
    command = [sys.executable, "-m", "taximeter", "rate-file", "--catalogue", "book.yaml", "--events", "none.ndjson"]
    process = subprocess.Popen(
        [*command, "--out", "bills"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1
    assert (tmp_path / "bills" / "line_items.ndjson").exists()
