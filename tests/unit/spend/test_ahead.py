"""Steps that are joined to one write."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.spend.ahead import join_staged

ROWS = st.lists(st.tuples(st.sampled_from(["", "a", "b", "é"]), st.integers(1, 3) | st.just(2**62)), max_size=8)


@settings(deadline=None)
@given(st.lists(ROWS, min_size=2, max_size=4))
def test_of_each_identity_the_highest_revision_stays_and_the_first_of_several(
    steps: list[list[tuple[str, int]]],
) -> None:
    newest: dict[str, tuple[int, int]] = {}
    tables, count = [], 0
    for step in steps:
        for id, revision in step:
            if id not in newest or newest[id][0] < revision:
                newest[id] = revision, count
            count += 1
        ids, revisions = [id for id, _ in step], [revision for _, revision in step]
        at = range(count - len(step), count)
        columns = [pa.array(ids, pa.string()), pa.array(revisions, pa.int64()), pa.array(at, pa.int64()), _views(at)]
        tables.append(pa.table(columns, ["id", "revision", "at", "body"]))
    joined = join_staged([{"line_items": table} for table in tables])["line_items"]
    assert joined["at"].to_pylist() == [at for _, at in newest.values()]
    assert joined["id"].to_pylist() == list(newest)
    assert joined["body"].type == pa.string_view()
    assert joined["body"].to_pylist() == [_body(at) for _, at in newest.values()]


def _body(at: int) -> str:
    return f"{at}{'é' * (at % 3 * 10)}"


def _views(at: range) -> pa.Array:
    """Short texts and long ones, as a part of a longer column."""
    return pa.array(["before", *map(_body, at)], pa.string()).cast(pa.string_view())[1:]
