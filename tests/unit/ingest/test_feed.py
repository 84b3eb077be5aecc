"""The feed turns messages into packs, the same ones every time."""

import msgspec
import pytest

from ingest.feed import FeedProcessor, decode_json_entry, encode_json_entry
from ingest.route import View
from schemas import topics
from schemas.entry import Entry, EntryError
from schemas.identity import event_identity, partition_of
from schemas.times import parse_time
from streams.processor import Step
from tests.unit.ingest.doors import NOW, event, read_pack, text

VIEW = View({"team-a": "acme"}, ["$.tokens"])


def run(messages: list[bytes], partition: int = 2, arrived: int = NOW) -> Step:
    entries = [Entry(100 + i, 101 + i, encode_json_entry(arrived + i, m)) for i, m in enumerate(messages)]
    processor = FeedProcessor(lambda _: VIEW, partitions=8)
    return processor.open(partition, None).process(entries)


def test_messages_become_packs_for_their_partitions() -> None:
    subjects = ["team-a", "acme", "b", "c", "d"]
    step = run([text(event(id=f"e{i}", subject=s, time=...)) for i, s in enumerate(subjects)])
    assert (step.summary.entries, step.summary.events, step.summary.accepted, step.summary.rejected) == (5, 5, 5, 0)
    rows = {}
    for output in step.outputs:
        assert output.topic == topics.EVENTS
        for row in read_pack(output.value).to_pylist():
            rows[row["id"]] = row
            assert int(output.key) == partition_of("default", row["customer"], 8)
    for i, subject in enumerate(subjects):
        assert rows[f"e{i}"]["subject"] == subject
        assert rows[f"e{i}"]["arrived"] == rows[f"e{i}"]["time"] == NOW + i


def test_wrong_messages_become_rejections() -> None:
    step = run([text(event()), b"", b"{", text(event(subject="a b")), text(event(time="2026-11-23T10:00:00Z"))])
    assert (step.summary.accepted, step.summary.rejected) == (1, 4)
    found = [o for o in step.outputs if o.topic == topics.REJECTIONS]
    assert {o.key for o in found} == {b"default"}
    documents = [msgspec.json.decode(o.value) for o in found]
    assert [(d["where"]["partition"], d["where"]["offset"], d["code"]) for d in documents] == [
        (2, 101, "invalid_json"), (2, 102, "invalid_json"), (2, 103, "invalid_event"), (2, 104, "time_out_of_bounds"),
    ]  # fmt: skip


def test_the_events_are_those_of_the_tenant_that_the_feed_was_given() -> None:
    asked: list[str] = []

    def view_of(tenant: str) -> View:
        asked.append(tenant)
        return VIEW

    entries = [Entry(i, i + 1, encode_json_entry(NOW, m)) for i, m in enumerate([text(event()), b"{"])]
    step = FeedProcessor(view_of, 8, "two").open(2, None).process(entries)
    [pack] = [output.value for output in step.outputs if output.topic == topics.EVENTS]
    assert read_pack(pack).schema.metadata[b"tenant"] == b"two"
    [row] = read_pack(pack).to_pylist()
    assert row["identity"] == event_identity("two", row["customer"], row["source"], row["id"])
    [rejection] = [output for output in step.outputs if output.topic == topics.REJECTIONS]
    assert (rejection.key, msgspec.json.decode(rejection.value)["tenant"]) == (b"two", "two")
    assert set(asked) == {"two"}


def test_the_same_messages_give_the_same_step() -> None:
    messages = [text(event(id=f"e{i}", subject=f"s{i % 5}")) for i in range(50)] + [b"no JSON"]
    assert run(messages) == run(messages)
    assert run([]).outputs == []


@pytest.mark.parametrize("arrived", [0, -1, parse_time("9998-12-31T23:59:59Z")])
def test_entries_come_back(arrived: int) -> None:
    assert decode_json_entry(encode_json_entry(arrived, b"{}")) == (arrived, b"{}")


@pytest.mark.parametrize("value", [b"", b"\x01J123", b"\x01E" + b"0" * 20, b"\x02J" + b"0" * 20])
def test_what_is_no_entry_is_a_broken_invariant(value: bytes) -> None:
    with pytest.raises(EntryError):
        decode_json_entry(value)
