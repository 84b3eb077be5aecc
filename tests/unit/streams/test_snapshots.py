"""Laws of the snapshots: the newest whole one is loaded, a damaged one never is, two are kept."""

import logging
import os
import time
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import pytest

from streams.durable import write_named
from streams.snapshots import Snapshot, SnapshotError, SnapshotStore


def snapshot(position: int, state: bytes = b"state") -> Snapshot:
    return Snapshot(position=position, journal_offset=2 * position, epoch=7, state=state)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_without_a_snapshot_there_is_none(tmp_path: Path) -> None:
    assert SnapshotStore(tmp_path / "new").load("rating", 0) is None


@pytest.mark.parametrize("url", ["{}", "file://{}", "memory:///"])
def test_what_is_saved_is_loaded(tmp_path: Path, url: str) -> None:
    store = SnapshotStore(url.format(tmp_path / "a folder".replace(" ", "-")))
    store.save("rating", 3, snapshot(10))
    store.save("rating", 4, snapshot(11))
    store.save("other", 3, snapshot(12))
    assert store.load("rating", 3) == snapshot(10)
    assert store.load("rating", 4) == snapshot(11)
    assert store.load("other", 3) == snapshot(12)
    assert store.load("rating", 5) is None


def test_a_large_and_an_empty_state_arrive(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    for position, state in enumerate((b"", bytes(range(256)) * 100_000)):
        store.save("rating", 0, snapshot(position, state))
        assert store.load("rating", 0) == snapshot(position, state)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    for position in (1, 20, 300, 4000):
        store.save("rating", 0, snapshot(position))
    assert [int(path.name.split("-")[0]) for path in files(tmp_path)] == [300, 4000]


@pytest.mark.parametrize("cut", [0, 1, 41, 42, 60, -1])
def test_a_torn_snapshot_is_skipped_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture, cut: int) -> None:
    store = SnapshotStore(tmp_path)
    store.save("rating", 0, snapshot(1))
    store.save("rating", 0, snapshot(2))
    newest = files(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:cut])
    with caplog.at_level(logging.WARNING):
        assert store.load("rating", 0) == snapshot(1)
    assert newest.name in caplog.text


def test_a_bit_flipped_anywhere_is_found(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.save("rating", 0, snapshot(1))
    store.save("rating", 0, snapshot(2))
    newest = files(tmp_path)[-1]
    whole = newest.read_bytes()
    for byte in range(len(whole)):
        newest.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1 << byte % 8]) + whole[byte + 1 :])
        assert store.load("rating", 0) == snapshot(1), f"byte {byte}"


def test_a_damaged_snapshot_does_not_push_out_a_whole_one(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.save("rating", 0, snapshot(1))
    store.save("rating", 0, snapshot(2))
    files(tmp_path)[-1].write_bytes(b"damaged")
    assert store.load("rating", 0) == snapshot(1)
    store.save("rating", 0, snapshot(3))
    assert [int(path.name.split("-")[0]) for path in files(tmp_path)] == [1, 3]


def test_a_newer_format_is_refused_and_not_skipped(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.save("rating", 0, snapshot(1))
    store.save("rating", 0, snapshot(2))
    newest = files(tmp_path)[-1]
    body = bytearray(newest.read_bytes()[:-32])
    body[8:10] = (99).to_bytes(2, "big")
    newest.write_bytes(bytes(body) + blake2b(body, digest_size=32).digest())
    with pytest.raises(SnapshotError, match=r"format version 99.*up to 2"):
        store.load("rating", 0)


def test_what_a_crash_left_over_is_neither_loaded_nor_kept(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.save("rating", 0, snapshot(1))
    (tmp_path / "rating/00000/00000000000000000009-0000000007.snapshot.123.tmp").write_bytes(b"half")
    assert store.load("rating", 0) == snapshot(1)
    store.save("rating", 0, snapshot(2))
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    (tmp_path / "rating").write_bytes(b"a file where a folder should be")
    with pytest.raises(SnapshotError, match=str(tmp_path)):
        store.save("rating", 0, snapshot(1))


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65])
def test_a_processor_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="processor name"):
        SnapshotStore(tmp_path).save(name, 0, snapshot(1))


def file_of(folder: Path, content: bytes) -> dict[str, Path]:
    path = write_named(folder, [content], ".run")
    return {path.name: path}


@pytest.mark.parametrize("place", ["folder", "object store"])
def test_files_are_kept_with_the_snapshots_that_name_them(tmp_path: Path, place: str) -> None:
    url = str(tmp_path / "snapshots")
    store = SnapshotStore(url if place == "folder" else f"file://{url}")
    one, two = file_of(tmp_path / "own", b"one"), file_of(tmp_path / "own", b"two")
    store.save("rating", 0, replace(snapshot(1), files=one | two))
    for path in (one | two).values():
        path.unlink()
    assert SnapshotStore(url).load("rating", 0) == snapshot(1)
    for name, content in zip([*one, *two], [b"one", b"two"], strict=True):
        SnapshotStore(url).fetch("rating", 0, name, tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == content


def test_a_file_that_no_snapshot_names_goes_an_hour_after_it_came(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "snapshots")
    one, two, three = (file_of(tmp_path / "own", content) for content in (b"one", b"two", b"three"))
    store.save("rating", 0, replace(snapshot(1), files=one | two))
    long_ago = time.time() - 3601
    kept = tmp_path / "snapshots" / "rating" / "00000" / "files"
    os.utime(kept / next(iter(one)), (long_ago, long_ago))
    os.utime(kept / next(iter(two)), (long_ago, long_ago))
    another = SnapshotStore(tmp_path / "snapshots")  # which has read nothing
    another.save("rating", 0, replace(snapshot(2), files=two | three))
    assert sorted(os.listdir(kept)) == sorted([*one, *two, *three]), "the snapshot at 1 is still kept"
    another.save("rating", 0, replace(snapshot(3), files=three))
    assert sorted(os.listdir(kept)) == sorted([*two, *three])
    another.save("rating", 0, replace(snapshot(4), files=one | three))
    assert sorted(os.listdir(kept)) == sorted([*one, *three])


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "snapshots")
    one = file_of(tmp_path / "own", b"one")
    store.save("rating", 0, replace(snapshot(1), files=one))
    next((tmp_path / "snapshots" / "rating" / "00000" / "files").iterdir()).write_bytes(b"onf")
    with pytest.raises(SnapshotError, match=f"{next(iter(one))} .* is damaged"):
        store.fetch("rating", 0, next(iter(one)), tmp_path / "fetched")
    with pytest.raises(SnapshotError, match=r"cannot bring the file .*missing"):
        store.fetch("rating", 0, "missing", tmp_path / "fetched")


def test_a_snapshot_of_the_first_format_is_read(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.save("rating", 0, snapshot(1))
    path = next(tmp_path.rglob("*.snapshot"))
    body = bytearray(path.read_bytes()[:-34])  # without the names and the checksum
    body[8:10] = (1).to_bytes(2)
    path.write_bytes(bytes(body) + blake2b(body, digest_size=32).digest())
    assert SnapshotStore(tmp_path).load("rating", 0) == snapshot(1)
