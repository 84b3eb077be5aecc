"""The Alibaba trace: the engine says what SQL says of the whole of it, and what the oracle says, to the last digit.

The oracle takes its time, so it rates one customer in eight; TAXIMETER_ORACLE_SHARE=1 gives it all of them.
"""

import json
import os
from typing import Any

import pytest

from tests.alibaba.expected import AS_OF, expected
from tests.alibaba.trace import HERE, find_trace, read_events
from tests.oracle.engine import Outputs, differences, run_engine
from tests.oracle.oracle import rate

BOOK = (HERE / "book.yaml").read_text()


@pytest.fixture(scope="module")
def trace() -> tuple[list[str], list[str]]:
    return read_events(find_trace())


@pytest.fixture(scope="module")
def calculated() -> dict[str, list[dict[str, Any]]]:
    return expected(find_trace())


@pytest.fixture(scope="module")
def share(trace: Any) -> list[str]:
    """The events of some customers, as they lie in the trace."""
    every = int(os.environ.get("TAXIMETER_ORACLE_SHARE", "8"))
    subjects = [json.loads(event)["subject"] for event in trace[0]]
    chosen = set(sorted(set(subjects))[::every])
    return [event for event, subject in zip(trace[0], subjects, strict=True) if subject in chosen]


@pytest.mark.slow
def test_engine_agrees_with_sql(trace: Any, calculated: Any) -> None:
    _compare(run_engine(BOOK, trace[0], AS_OF), calculated, trace[1])


@pytest.mark.slow
def test_engine_agrees_with_oracle(share: list[str]) -> None:
    assert len(share) > 1_000
    found = differences(run_engine(BOOK, share, AS_OF, 997), rate(BOOK, share, AS_OF))
    assert not found, f"{len(found)} differences\n" + "\n".join(found[:20])


def _compare(outputs: Outputs, calculated: dict[str, list[dict[str, Any]]], ids: list[str]) -> None:
    """Holds outputs against the SQL's rows, part by part."""
    items = {_item_key(i): _item(i) for i in outputs["line_items"]}
    wanted = {
        (r["customer"], r["month"], r["charge"], r["dimensions"]): (
            str(r["quantity"]), r["amount"], r["events"], r["first_event"], r["last_event"]
        )
        for r in calculated["line_items"]
    }  # fmt: skip
    _same("line items", items, wanted)
    for word, found in (("invoices", outputs["invoices"]), ("alerts", outputs["alerts"])):
        by_period: dict[Any, list[Any]] = {}
        for output in found:
            entry = _invoice(output) if word == "invoices" else (*_why(output), output["spend"])
            by_period.setdefault(_period(output), []).append(entry)
        right: dict[Any, list[Any]] = {}
        for row in calculated[word]:
            right.setdefault((row["customer"], row["month"]), []).append(_row(row, ids))
        _same(word, by_period, right)
    rejected = sorted((r["id"], r["code"], r["meter"]) for r in outputs["rejections"])
    assert rejected == sorted((ids[r["place"] - 1], r["code"], r["meter"]) for r in calculated["rejections"])
    assert all(calculated.values()), "the trace has line items, invoices, alerts and rejections"


def _same(word: str, found: dict[Any, Any], wanted: dict[Any, Any]) -> None:
    wrong = [
        f"{k}: {found.get(k)}, SQL {wanted.get(k)}"
        for k in found.keys() | wanted.keys()
        if found.get(k) != wanted.get(k)
    ]
    assert not wrong, f"{len(wrong)} of {len(wanted)} {word} differ:\n" + "\n".join(sorted(wrong)[:10])


def _period(output: dict[str, Any]) -> tuple[str, str]:
    return output["customer"], output["period"]["start"][:10]


def _item_key(item: dict[str, Any]) -> tuple[str, ...]:
    dimensions = ",".join(f"{k}={'null' if v is None else v}" for k, v in item["dimensions"].items())
    return *_period(item), item["charge"], dimensions


def _item(item: dict[str, Any]) -> tuple[Any, ...]:
    return item["quantity"], item["amount"], item["events"], item["first_event"], item["last_event"]


def _why(output: dict[str, Any]) -> tuple[str, ...]:
    because = output.get("because")
    return (because["level"], because["threshold"], because["event"]["id"]) if because else ()


def _invoice(invoice: dict[str, Any]) -> tuple[Any, ...]:
    return invoice["kind"], *_why(invoice), invoice["total"], invoice["minimum"]


def _row(row: dict[str, Any], ids: list[str]) -> tuple[Any, ...]:
    why = (str(row["level"]), str(row["threshold"]), ids[row["place"] - 1]) if row["level"] is not None else ()
    if "kind" in row:
        return row["kind"], *why, row["total"], row["minimum"]
    return *why, row["spend"]
