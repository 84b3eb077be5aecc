"""Laws of the outbox: nothing that was put is lost or changes its order, whatever is taken, given back and reopened."""

import shutil
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter.client.outbox import BufferFull, BufferInUse, Outbox, Parcel

STEPS = st.lists(
    st.sampled_from(["put", "put", "put", "done", "give back", "spill", "reopen", "reopen after a crash"]), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 4), st.integers(4, 40))
def test_what_was_put_is_acknowledged_once_and_in_order_unless_a_crash_comes(
    steps: list[str], batch: int, memory: int
) -> None:
    folder = Path(mkdtemp())
    try:
        outbox = Outbox(folder, memory, 10**6)
        expected: list[bytes] = []
        sent: list[bytes] = []
        for number, step in enumerate(steps):
            if step == "put":
                expected.append(b"%04d" % number)
                outbox.put(expected[-1])
            elif step in ("done", "give back"):
                parcel = outbox.take(batch, 10**6)
                if parcel is not None and step == "done":
                    sent += parcel.events
                    outbox.done(parcel)
                elif parcel is not None:
                    outbox.give_back(parcel)
            elif step == "spill":
                outbox.spill()
            elif step == "reopen":
                assert outbox.close() == 0
                outbox = Outbox(folder, memory, 10**6)
            else:  # what was in memory only is gone with the process
                kept = len(sent) + len(outbox) - outbox.waiting
                shutil.copytree(folder, folder / "copy")
                outbox.close()
                for path in folder.glob("*.ndjson"):
                    path.unlink()
                for path in (folder / "copy").glob("*.ndjson"):
                    path.rename(folder / path.name)
                shutil.rmtree(folder / "copy")
                outbox, expected = Outbox(folder, memory, 10**6), expected[:kept]
            assert len(outbox) == len(expected) - len(sent)
        while parcel := outbox.take(batch, 10**6):
            sent += parcel.events
            outbox.done(parcel)
        assert sent == expected
        outbox.close()
    finally:
        shutil.rmtree(folder)


def test_parcels_keep_within_their_bounds() -> None:
    outbox = Outbox(None, 1000, 0)
    for event in (b"a" * 10, b"b" * 10, b"c" * 50, b"d"):
        outbox.put(event)
    taken = [outbox.take(3, 25) for _ in range(4)]
    assert [parcel and parcel.events for parcel in taken] == [[b"a" * 10, b"b" * 10], [b"c" * 50], [b"d"], None]


def test_a_full_buffer_refuses_the_next_event_and_keeps_the_others(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, 10, 25)
    for number in range(6):
        outbox.put(b"%05d" % number)
    with pytest.raises(BufferFull, match=r"10 bytes in memory and 22 in .*expected room for 5 bytes more"):
        outbox.put(b"00006")
    assert len(outbox) == 6
    memory_only = Outbox(None, 4, 0)
    with pytest.raises(BufferFull, match="found 0 bytes in memory unsent, expected room for 5"):
        memory_only.put(b"00000")


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    first = Outbox(tmp_path, 10, 10)
    with pytest.raises(BufferInUse, match="give each its own"):
        Outbox(tmp_path, 10, 10)
    first.close()
    Outbox(tmp_path, 10, 10).close()


def test_a_part_of_a_file_does_not_remove_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, 100, 100)
    for event in (b"a", b"b"):
        outbox.put(event)
    outbox.spill()
    parcel = outbox.take(10, 100)
    assert parcel is not None and parcel.file is not None
    outbox.done(Parcel(parcel.events[:1], parcel.file, last=False))
    assert parcel.file.exists()
    outbox.done(Parcel(parcel.events[1:], parcel.file))
    assert len(outbox) == 0 and not parcel.file.exists()
