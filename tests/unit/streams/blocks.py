"""Blocks for tests: of given records, and any."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from streams.processor import Block

BEFORE = b"before the first"


def block(topic: str, records: Sequence[tuple[bytes, bytes]]) -> Block:
    """These records, whose keys are of one length, as a part of a larger buffer."""
    keys, values = zip(*records, strict=True)
    (width,) = {len(key) for key in keys}
    ends = np.cumsum([len(BEFORE), *map(len, values)])
    return Block(topic, width, b"".join(keys), BEFORE + b"".join(values) + b"behind the last", ends)


def blocks(topic: str, value_bytes_max: int = 300) -> st.SearchStrategy[Block]:
    """Any, of a few records."""
    values = st.binary(max_size=value_bytes_max)
    of_width = st.integers(0, 40).map(lambda width: st.tuples(st.binary(min_size=width, max_size=width), values))
    return of_width.flatmap(lambda record: st.lists(record, min_size=1, max_size=8)).map(lambda all: block(topic, all))
