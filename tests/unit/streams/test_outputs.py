"""Outputs in blocks are the outputs."""

from hypothesis import given
from hypothesis import strategies as st

from streams.processor import Block, Output, Outputs, parts_of
from tests.unit.streams.blocks import block, blocks

PARTS = st.lists(st.builds(Output, st.just("one"), st.binary(), st.binary()) | blocks("many"), max_size=6)


@given(PARTS)
def test_they_are_a_sequence_of_single_outputs(parts: list[Output | Block]) -> None:
    outputs = Outputs(parts)
    singles: list[Output] = []
    for part in parts:
        singles += part if isinstance(part, Block) else [part]
    assert (list(outputs), len(outputs), bool(outputs)) == (singles, len(singles), bool(singles))
    assert [outputs[at] for at in range(-len(singles), len(singles))] == [*singles, *singles]
    assert outputs[1:3] == singles[1:3]
    assert outputs == singles == outputs == Outputs(singles)
    assert outputs != [*singles, Output("one", b"", b"")]
    assert parts_of(outputs) == parts
    assert parts_of(singles) == singles


def test_a_block_says_its_records_and_takes_other_values() -> None:
    records = [(b"k1", b"one"), (b"k2", b""), (b"k3", b"three")]
    one = block("t", records)
    assert (len(one), list(one)) == (3, [Output("t", *record) for record in records])
    other = one.with_values([b"", b"2", b"33"])
    assert list(other) == [Output("t", b"k1", b""), Output("t", b"k2", b"2"), Output("t", b"k3", b"33")]
