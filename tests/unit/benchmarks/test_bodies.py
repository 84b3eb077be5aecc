"""What the load generator sends, and what it says that it costs: held against sums by hand and against the engine."""

import json
from collections import Counter
from itertools import count

import pytest

from benchmarks.bodies import (
    BODY_EVENTS,
    Usage,
    amounts,
    differences,
    make_templates,
    probe,
    probe_customer,
)
from benchmarks.lines import Lines
from benchmarks.workload import compiled, packs
from rating.engine import RatingProcessor
from schemas import topics
from schemas.entry import CATALOGUE, Entry, encode_entry
from schemas.faults import encode_document

CENT = 10**10


def events_of(request: bytes) -> list[dict[str, object]]:
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    return json.loads(body)  # type: ignore[no-any-return]


def test_a_template_is_a_request_with_new_ids_each_time() -> None:
    (template,) = make_templates(1, customers=50, address="localhost:1")
    first, second = (events_of(bytes(template.take(number))) for number in (7, 1_234_567_890))
    assert len({event["id"] for event in (*first, *second)}) == 2 * BODY_EVENTS == 2 * template.events
    assert all(str(event["id"]).endswith("-0000000007") for event in first)
    assert [e | {"id": ""} for e in first] == [e | {"id": ""} for e in second]


def test_prices_by_hand() -> None:
    usage = Usage(
        Counter({("c", "large", "output"): 1_000_000, ("c", "large", "input"): 2_000_000, ("d", "mini", "input"): 1}),
        Counter({"c": 1_200, "d": 1}),
        Counter({("c", "a100"): 10_000_000, ("c", "h100"): 10_000_001, ("e", "a100"): 60_001}),
    )
    assert amounts(usage) == {
        ("c", "tokens", "large"): 2100 * CENT,  # 1,000,000 × 0.000015 + 2,000,000 × 0.000003
        ("d", "tokens", "mini"): 3_000_000,
        ("c", "requests", ""): 1050 * CENT,  # 100 free, 1,000 × 0.01, 100 × 0.005
        ("c", "capacity", "a100"): 1000 * CENT,  # 10,000 s × 0.001
        ("c", "capacity", "h100"): 8_000_000_800_000,  # 10,000.001 s × 0.0008
        ("e", "capacity", "a100"): 60_001_000_000,
        ("c", "gpu", ""): 334 * 5 * CENT,  # 20,000.001 s are 334 minutes begun
        ("e", "gpu", ""): 2 * 5 * CENT,
        ("c", "platform", ""): 2000 * CENT,
        ("d", "platform", ""): 2000 * CENT,
        ("e", "platform", ""): 2000 * CENT,
    }


def test_what_was_sent_twice_costs_what_the_engine_says() -> None:
    templates = make_templates(3, customers=40, address="localhost:1")
    usage, numbers, texts = Usage.none(), count(), []
    for template, times in zip(templates, (2, 0, 1), strict=True):
        if times:
            usage.add(template.usage, times)
        requests = [bytes(template.take(next(numbers))) for _ in range(times)]
        texts += [json.dumps(event).encode() for request in requests for event in events_of(request)]
    probed = probe(3, "localhost:1")
    usage.add(probed.usage)
    texts += [json.dumps(event).encode() for event in events_of(bytes(probed.take(0)))]

    catalogue, lines = compiled(), Lines()
    engine = RatingProcessor().open(0, None)
    engine.process([Entry(0, 1, encode_entry(CATALOGUE, encode_document(catalogue.documents)))])
    for pack in packs(iter(texts), catalogue):
        for output in engine.process([pack]).outputs:
            if output.topic == topics.LINE_ITEMS:
                lines.add(output.key, output.value, 1.5)
    assert differences(amounts(usage), lines.amounts()) == []
    assert lines.probed == {probe_customer(3): 1.5}
    assert lines.late == 0


def test_every_wrong_line_is_named() -> None:
    right = {("a", "tokens", "large"): 5, ("b", "gpu", ""): 7}
    assert differences(right, right) == []
    assert differences(right, {("a", "tokens", "large"): 6, ("c", "platform", ""): 1}) == [
        "a/tokens/large: found 6, expected 5 (10^-12 USD)",
        "b/gpu/: found 0, expected 7 (10^-12 USD)",
        "c/platform/: found 1, expected 0 (10^-12 USD)",
    ]


@pytest.mark.parametrize("order", [(1, 2, 3), (1, 3, 2)])
def test_the_highest_revision_counts(order: tuple[int, ...]) -> None:
    lines = Lines()
    for revision in order:
        lines.add(b"k", b'{"id":"li","revision":%d,"customer":"x"}' % revision, 0.0)
    assert lines.newest[b"k"][0] == 3
    assert lines.late == (order[-1] != 3)
