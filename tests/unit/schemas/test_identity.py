"""Identities: stable for ever (they are persisted), and different where the parts are."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.identity import (
    IDENTIFIER,
    content_fingerprint,
    digest,
    event_identities,
    event_identity,
    identity_hasher,
    output_id,
    partition_of,
)
from schemas.limits import ID_LENGTH_MAX

PARTS = st.lists(st.text(max_size=8), max_size=4).map(tuple)


@given(PARTS, PARTS)
def test_different_parts_have_different_digests(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


def test_where_one_part_ends_matters() -> None:
    assert digest("a", "b-c") != digest("a-b", "c")
    assert digest("a", "", "b") != digest("a", "b")
    assert digest() != digest("")
    assert event_identity("t", "a", "b-c", "d") != event_identity("t", "a-b", "c", "d")
    assert event_identity("t", "c", "s", "1") != event_identity("t", "c", "s1", "")


@given(st.text(), st.text(), st.text(), st.lists(st.text(), max_size=5))
def test_identities_by_column_are_those_one_by_one(tenant: str, customer: str, source: str, ids: list[str]) -> None:
    hasher = identity_hasher(tenant, customer, source)
    expected = [digest(tenant, customer, source, id) for id in ids]
    assert event_identities([hasher] * len(ids), ids) == expected
    assert [event_identity(tenant, customer, source, id) for id in ids] == expected


def test_what_is_persisted_never_changes() -> None:
    """These values stand in logs, snapshots and other people's databases. A change here is a new version."""
    assert digest().hex() == "cae66941d9efbd404e4d88758ea67670"
    assert digest("a", "b-c").hex() == PINNED["digest"]
    assert event_identity("default", "acme", "gateway", "e1").hex() == PINNED["event"]
    assert output_id("li", "default", "acme", "acme-launch", "tokens", "2026-11-01T00:00:00Z") == PINNED["line"]
    assert event_identity("default", "Zürich", "源", "🚕").hex() == PINNED["letters"]
    assert content_fingerprint(b"llm.request", b'{"tokens":5}') == PINNED["content"]
    assert [partition_of("default", f"c{i}", 8) for i in range(8)] == PINNED["partitions"]


PINNED: dict[str, object] = {
    "digest": "b1facb517e14f897477c4adf48606963",
    "event": "49c3d9428378af7208f9ebb660e0e203",
    "line": "li_db3316eeccba9453a808e618041086d4",
    "letters": "f2fdff786a054c2df530395700319f5d",
    "content": 4065832932,
    "partitions": [1, 5, 2, 0, 5, 5, 6, 5],
}


@pytest.mark.parametrize("partitions", [1, 3, 8])
def test_partitions_are_in_range_and_all_used(partitions: int) -> None:
    found = [partition_of("default", f"customer-{i}", partitions) for i in range(3000)]
    share = 3000 / partitions
    assert set(found) == set(range(partitions))
    assert all(0.8 * share < found.count(p) < 1.2 * share for p in range(partitions))


def test_a_fingerprint_never_misses_a_change_within_four_bytes() -> None:
    dice = random.Random(1)
    text = bytes(dice.randrange(256) for _ in range(200))
    for _ in range(2000):
        at, width = dice.randrange(196), dice.randrange(1, 5)
        change = bytes(dice.randrange(256) for _ in range(width))
        other = text[:at] + change + text[at + width :]
        assert (content_fingerprint(text) == content_fingerprint(other)) == (text == other)


@pytest.mark.parametrize("text", ["a", "A-1", "x._-:@/y", "0" * ID_LENGTH_MAX])
def test_identifiers(text: str) -> None:
    assert IDENTIFIER.match(text)


@pytest.mark.parametrize("text", ["", "a b", "ä", "a\n", "a#", "0" * (ID_LENGTH_MAX + 1), "１"])
def test_what_is_no_identifier(text: str) -> None:
    assert not IDENTIFIER.match(text)
