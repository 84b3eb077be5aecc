"""Trace contexts that travel with a pack: found, cut, written and read again; never more than a few."""

import pyarrow as pa
import pytest

from ingest.pack import encode_packs
from schemas.limits import PACK_EVENTS_MAX
from schemas.trace import (
    PACK_TRACES_MAX,
    TRACES_KEY,
    Stretch,
    cut,
    decode_traces,
    encode_traces,
    event_traces,
    sampled,
)
from tests.unit.ingest.test_pack import rows


def context(number: int, flags: str = "01") -> str:
    return f"00-{number:032x}-{number:016x}-{flags}"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (context(1), True),
        (context(1, "03"), True),
        (context(1, "00"), False),
        (context(0), False),
        ("ff" + context(1)[2:], False),
        (context(1).upper().replace("1", "A"), False),
        (context(1) + "\n", False),
        ("", False),
        (None, False),
    ],
)
def test_only_a_sampled_context_counts(text: str | None, is_one: bool) -> None:
    assert sampled(text) is is_one


def test_events_bring_their_own_and_neighbours_are_one_stretch() -> None:
    one, two = (f'{{"traceparent":"{context(n)}"}}' for n in (1, 2))
    wrong = ['{"traceparent":"00-no"}', '{"traceparent":7}', '{"other":"\\"traceparent\\""}', None]
    assert event_traces([one, one, *wrong, two, one]) == [
        Stretch(context(1), 0, 2), Stretch(context(2), 6, 7), Stretch(context(1), 7, 8)
    ]  # fmt: skip
    assert event_traces([None] * 5) == [] == event_traces([])
    many = [f'{{"traceparent":"{context(n)}"}}' for n in range(1, 100)]
    assert len(event_traces(many)) == PACK_TRACES_MAX


def test_what_is_written_is_read_and_what_is_broken_is_nothing() -> None:
    traces = [Stretch(context(n), n, n + 2) for n in range(1, 5)]
    assert decode_traces(encode_traces(traces)) == traces
    assert len(decode_traces(encode_traces(traces * 5))) == PACK_TRACES_MAX
    for broken in (None, b"", b"\xff", b"nonsense", context(1).encode(), f"{context(1)}/a-b".encode()):
        assert decode_traces(broken) == []


def test_a_cut_counts_from_its_start() -> None:
    traces = [Stretch("a", 0, 10), Stretch("b", 10, 20), Stretch("c", 20, 30)]
    assert cut(traces, 5, 25) == [Stretch("a", 0, 5), Stretch("b", 5, 15), Stretch("c", 15, 20)]
    assert cut(traces, 10, 20) == [Stretch("b", 0, 10)]


def test_packs_carry_those_of_their_rows_and_nothing_where_there_are_none() -> None:
    many = rows([b'{"tokens":1}'] * (PACK_EVENTS_MAX + 10))
    packs = encode_packs("t1", many, None, [Stretch(context(1), 0, 5), Stretch(context(2), 5, PACK_EVENTS_MAX + 10)])
    found = [decode_traces(pa.ipc.open_stream(value).schema.metadata.get(TRACES_KEY)) for value, _ in packs]
    assert found == [
        [Stretch(context(1), 0, 5), Stretch(context(2), 5, PACK_EVENTS_MAX)], [Stretch(context(2), 0, 10)]
    ]  # fmt: skip
    plain = [value for value, _ in encode_packs("t1", many, None)]
    assert all(TRACES_KEY not in (pa.ipc.open_stream(value).schema.metadata or {}) for value in plain)
    own = rows([b"{}"] * 3, extensions=f'{{"traceparent":"{context(3)}"}}')
    [(value, _)] = encode_packs("t1", own, None, [Stretch(context(1), 0, 3)])
    assert decode_traces(pa.ipc.open_stream(value).schema.metadata[TRACES_KEY])[0] == Stretch(context(3), 0, 3)
