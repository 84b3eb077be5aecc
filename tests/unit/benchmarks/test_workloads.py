"""Workloads: the same events every time, with the properties that they are named for; what they cost, by two roads."""

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import traces
from benchmarks.book import Book, Wrong
from benchmarks.expected import Cost, expected, summed
from benchmarks.workload import WORKLOADS, compiled, packs
from schemas import topics
from streams.processor import Output
from tests.oracle.oracle import rate

MADE = [name for name in WORKLOADS if not name.startswith(("alibaba", "azure"))]


def _said(name: str, count: int) -> list[dict[str, Any]]:
    return [json.loads(text) for text in WORKLOADS[name].events(count)]


@pytest.mark.parametrize("name", MADE)
def test_a_workload_is_the_same_every_time_and_fits_its_catalogue(name: str) -> None:
    texts = list(WORKLOADS[name].events(50))
    assert texts == list(WORKLOADS[name].events(50))
    assert len(texts) == 50
    log = list(packs(iter(texts), compiled(name), WORKLOADS[name].pack))
    assert log[0].offset == 1
    assert log[-1].end == 51
    assert all(before.end == after.offset for before, after in itertools.pairwise(log))
    assert len(log) == (5 if name == "small-batches" else 1)


def test_workloads_are_what_they_are_named_for() -> None:
    assert len({event["subject"] for event in _said("own-keys", 500)}) == 500
    assert len({event["subject"] for event in _said("hot", 500)}) == 1
    assert len({event["subject"] for event in _said("million-customers", 500)}) > 490
    for name, share in (("duplicates", 0.05), ("duplicates-30", 0.3)):
        ids = Counter(event["id"] for event in _said(name, 4000))
        assert 4000 - len(ids) == pytest.approx(4000 * share, rel=0.2)
    late = sum(event["time"] < "2026-11-01" for event in _said("late-heavy", 1000))
    assert late == pytest.approx(250, rel=0.2), "three tenths, less those that do not reach the month before"
    data = _said("many-dimensions", 2)[0]["data"]
    assert len(data) == 7


@pytest.mark.parametrize("name", ["default", "hot", "duplicates-30", "late-heavy", "many-tiers", "many-dimensions"])
def test_the_sql_says_what_the_oracle_says(name: str) -> None:
    workload = WORKLOADS[name]
    texts = list(workload.events(1800 if name in ("hot", "many-tiers") else 300))
    if name == "many-tiers":  # of few customers, so that they come far
        texts = [text for text in texts if json.loads(text)["subject"] in ("customer-000000", "customer-000001")]
    # Thresholds change no line, and would have the oracle look at everything again after each event.
    catalogue = "\n".join(line for line in workload.catalogue.splitlines() if "thresholds:" not in line)
    items = rate(catalogue, list(dict.fromkeys(texts)))["line_items"]
    found = summed((item["charge"], item["events"], item["amount"]) for item in items)
    assert found == expected(workload.cost, texts)
    assert len(found) > 1


def test_a_line_that_is_wrong_by_the_least_amount_is_found() -> None:
    right = {"tokens": Cost(3, 4_500_000_000_000), "gpu": Cost(1, 10**12)}
    lines = {"a": ("tokens", 1, "1.5"), "b": ("tokens", 2, "3"), "c": ("gpu", 1, "1"), "d": ("gpu", 0, "0")}
    _book(lines).check(right)
    for wrong in (("tokens", 2, "3.000000000001"), ("tokens", 1, "3"), ("gpu", 2, "3")):
        with pytest.raises(Wrong, match=r"found .*, expected "):
            _book({**lines, "b": wrong}).check(right)
    with pytest.raises(Wrong, match="gpu: found None"):
        _book({"a": lines["a"], "b": lines["b"]}).check(right)


def _book(lines: dict[str, tuple[str, int, str]]) -> Book:
    """After a first revision that says something else of each line."""
    book = Book()
    for again in (True, False):
        for id, (charge, events, amount) in lines.items():
            said = {
                "id": id,
                "customer": "acme",
                "charge": charge,
                "events": events,
                "amount": "9" if again else amount,
            }
            book.add([Output(topics.LINE_ITEMS, id.encode(), json.dumps(said).encode())])
    book.add([Output(topics.ALERTS, b"a", b"{}")])
    return book


def test_a_trace_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXIMETER_SHARED_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"the usage trace azure.* is missing: sought it in {tmp_path}"):
        next(WORKLOADS["azure-llm"].events(1))


def test_a_trace_is_repeated_with_later_times_and_new_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXIMETER_SHARED_DATA", str(tmp_path))
    head = "gmt_create,predict_status,predict_type,exec_time_seconds,groupId,num_images_per_prompt,"
    row = "2024-11-15 16:57:50,SUCCEED,TXT_2_IMG,32.0,G0000,1.0,M0000"
    with gzip.open(tmp_path / traces.GENAI, "wt") as file:
        file.write(f"{head}checkpoint_model_version_id\n{row}\n{row}\n")
    events = _said("alibaba-genai", 5)
    days = [event["time"].removesuffix("T16:57:50Z") for event in events]
    assert days == ["2024-11-15", "2024-11-15", "2024-12-09", "2024-12-09", "2025-01-02"]
    first, again, later, *_ = (event["id"] for event in events)
    assert first == again != later
    assert events[0]["data"] == {"status": "SUCCEED", "type": "TXT_2_IMG", "model": "M0000", "images": 1, "seconds": 32}
    assert expected("alibaba-genai", list(WORKLOADS["alibaba-genai"].events(5)))["requests"] == Cost(
        3, 3 * 3_500_000_000
    )
