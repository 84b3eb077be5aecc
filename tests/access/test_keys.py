"""Keys as records: what is kept, what a ring makes of it in any order, and the file that several processes share."""

import asyncio
import itertools
import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.times import DAY, HOUR, SECOND, format_time
from taximeter.access.keys import (
    KEY_TEXT,
    Key,
    KeyRefused,
    Record,
    digest_of,
    encode_record,
    make_key,
    revoke,
    rotate,
    shown,
)
from taximeter.access.ring import KeyRing, KeysUnavailable
from taximeter.access.sqlite_store import FILE_NAME, SqliteKeys

NOW = 1_790_000_000 * SECOND


def ring_of(*records: Record) -> KeyRing:
    ring = KeyRing()
    ring.add(map(encode_record, records))
    return ring


def key_of(ring: KeyRing, text: str) -> Key:
    key = ring.key(text.split("_")[1])
    assert key is not None
    return key


def test_a_key_is_found_by_itself_and_by_nothing_else() -> None:
    text, records = make_key("acme", "gateway", ["query", "ingest"], NOW)
    ring = ring_of(*records)
    assert KEY_TEXT.match(text) and len({make_key("a", "b", ["admin"], NOW)[0] for _ in range(100)}) == 100
    access = ring.access(text.encode(), NOW)
    assert not isinstance(access, str)
    assert (access.tenant, access.scopes, access.key) == ("acme", {"ingest", "query"}, text.split("_")[1])
    wrong = [
        text[:-1],
        text + "0",
        text.upper(),
        "",
        "tmk_",
        text[:-1] + ("0" if text[-1] != "0" else "1"),
        "\xff" * 81,
    ]
    other = make_key("acme", "other", ["admin"], NOW)[0]
    mixed = text[:17] + other[17:]
    assert {ring.access(one.encode("latin-1"), NOW) for one in (*wrong, other, mixed)} == {"unknown"}


def test_nothing_kept_lets_anybody_in() -> None:
    text, records = make_key("acme", "gateway", ["admin"], NOW)
    kept = b"".join(map(encode_record, records)).decode()
    secret = text.split("_")[2]
    assert secret not in kept and digest_of(text) in kept
    ring = ring_of(*records)
    assert ring.access(digest_of(text).encode(), NOW) == "unknown"
    assert secret not in str(shown(key_of(ring, text), NOW)) and digest_of(text) not in str(
        shown(key_of(ring, text), NOW)
    )


def test_an_expiry_holds_to_the_microsecond_for_a_key_that_was_let_in_before() -> None:
    text, records = make_key("acme", "gateway", ["admin"], NOW, NOW + HOUR)
    ring = ring_of(*records)
    assert not isinstance(ring.access(text.encode(), NOW + HOUR - 1), str)
    assert ring.access(text.encode(), NOW + HOUR) == "expired"
    assert shown(key_of(ring, text), NOW + HOUR)["state"] == "expired"


def test_a_rotated_key_goes_on_for_its_grace() -> None:
    old, records = make_key("acme", "gateway", ["admin"], NOW)
    ring = ring_of(*records)
    new, more = rotate(key_of(ring, old), NOW + HOUR, DAY)
    ring.add(map(encode_record, more))
    for text in (old, new):
        assert not isinstance(ring.access(text.encode(), NOW + HOUR + DAY - 1), str)
    assert ring.access(old.encode(), NOW + HOUR + DAY) == "expired"
    assert not isinstance(ring.access(new.encode(), NOW + HOUR + DAY), str)
    # A second rotation ends what was already ending no later than it was said, and at once without a grace.
    third, last = rotate(key_of(ring, old), NOW + 2 * HOUR, 0)
    ring.add(map(encode_record, last))
    assert [ring.access(one.encode(), NOW + 2 * HOUR) for one in (old, new)] == ["expired", "expired"]
    assert not isinstance(ring.access(third.encode(), NOW + 2 * HOUR), str)


def test_a_rotation_does_not_lengthen_what_ends_sooner() -> None:
    old, records = make_key("acme", "gateway", ["admin"], NOW)
    ring = ring_of(*records)
    for grace in (HOUR, DAY):
        ring.add(map(encode_record, rotate(key_of(ring, old), NOW, grace)[1]))
    assert ring.access(old.encode(), NOW + HOUR) == "expired"


def test_what_is_revoked_stays_revoked_in_any_order_of_records() -> None:
    old, records = make_key("acme", "gateway", ["admin"], NOW)
    key = key_of(ring_of(*records), old)
    new, rotated = rotate(key, NOW, DAY)
    other, again = rotate(key, NOW, DAY)  # by another process at the same time
    every = [*records, *rotated, *again, *revoke(key, NOW)]
    for order in random.Random(6).sample(list(itertools.permutations(every)), 200):
        ring = ring_of(*order)
        assert [ring.access(text.encode(), NOW) for text in (old, new, other)] == ["revoked"] * 3
    with pytest.raises(KeyRefused, match="is revoked"):
        rotate(key_of(ring, old), NOW, DAY)
    assert revoke(key_of(ring, old), NOW) == []


def test_two_rotations_at_once_both_hold() -> None:
    old, records = make_key("acme", "gateway", ["admin"], NOW)
    key = key_of(ring_of(*records), old)
    (one, first), (two, second) = rotate(key, NOW, DAY), rotate(key, NOW, HOUR)
    for order in itertools.permutations([records, first, second]):
        ring = ring_of(*itertools.chain(*order))
        assert not any(isinstance(ring.access(text.encode(), NOW + 2 * DAY), str) for text in (one, two))


@pytest.mark.parametrize(
    ("tenant", "name", "scopes", "expires", "field"),
    [
        ("", "n", ["admin"], None, "tenant"),
        ("a b", "n", ["admin"], None, "tenant"),
        ("x" * 129, "n", ["admin"], None, "tenant"),
        ("a", "", ["admin"], None, "name"),
        ("a", "x" * 129, ["admin"], None, "name"),
        ("a", "new\nline", ["admin"], None, "name"),
        ("a", "n", [], None, "scopes"),
        ("a", "n", ["root"], None, "scopes"),
        ("a", "n", ["admin"], NOW, "expires"),
    ],
)
def test_a_wrong_key_is_refused_by_its_field(
    tenant: str, name: str, scopes: list[str], expires: int | None, field: str
) -> None:
    with pytest.raises(KeyRefused, match=f"^{field}: found"):
        make_key(tenant, name, scopes, NOW, expires)


def test_a_record_that_cannot_be_read_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    text, records = make_key("acme", "gateway", ["admin"], NOW)
    ring = KeyRing()
    ring.add([b"", b"{}", *map(encode_record, records), b"\xff"])
    assert not isinstance(ring.access(text.encode(), NOW), str)
    assert len(caplog.records) == 3


# The file ---------------------------------------------------------------------------------------------------------


async def until(condition: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 10, "not within 10 s"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def test_a_file_is_shared_by_those_who_have_it_open(tmp_path: Path) -> None:
    server, command = SqliteKeys(tmp_path, follow=True), SqliteKeys(tmp_path)
    try:
        text, records = make_key("acme", "gateway", ["admin"], NOW)
        await command.append(records)
        assert not isinstance(command.ring.access(text.encode(), NOW), str), "in force where it was made, at once"
        await until(lambda: server.ring.key(text.split("_")[1]) is not None)
        await server.append(revoke(key_of(server.ring, text), NOW))
        assert SqliteKeys(tmp_path).ring.access(text.encode(), NOW) == "revoked"
    finally:
        server.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert text.split("_")[2].encode() not in content and digest_of(text).encode() in content
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o077 == 0, "nobody else may read it"


async def test_a_change_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    store = SqliteKeys(tmp_path)
    _, records = make_key("acme", "gateway", ["admin"], NOW)

    def broken() -> Iterator[Record]:
        yield records[0]
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        await store.append(broken())
    assert SqliteKeys(tmp_path).ring.empty


def test_a_file_that_is_no_store_of_keys_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"something else entirely" * 100)
    with pytest.raises(KeysUnavailable, match=re.escape(str(tmp_path / FILE_NAME))):
        SqliteKeys(tmp_path)


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    SqliteKeys(tmp_path)
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(KeysUnavailable, match="format 2"):
        SqliteKeys(tmp_path)


def test_times_are_shown_as_they_were_given() -> None:
    text, records = make_key("acme", "gateway", ["admin"], NOW, NOW + DAY)
    found = shown(key_of(ring_of(*records), text), NOW)
    assert found == {
        "id": text.split("_")[1], "tenant": "acme", "name": "gateway", "scopes": ["admin"],
        "created": format_time(NOW), "expires": format_time(NOW + DAY), "state": "valid",
        "secrets": [{"created": format_time(NOW)}],
    }  # fmt: skip
