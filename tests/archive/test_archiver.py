"""The archiver on a real log and real files: nothing missing, nothing twice, whatever stops it."""

import asyncio
import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from rating.archive.archiver import Archiver, ArchiveSettings
from rating.archive.ranges import EVENTS, Cut
from rating.archive.store import ROWS, Archive
from schemas import topics
from schemas.entry import EVENTS as PACK
from schemas.entry import Entry, encode_entry, encode_tick
from streams.embedded.log import SqliteLog
from tests.archive.packs import pack

DAY = 86_400_000_000
OFTEN = ArchiveSettings(entries_max=3, seconds_max=0.2)


def entries() -> list[tuple[bytes, int]]:
    """Packs over two days of arrival, with duplicates, and ticks between."""
    values: list[tuple[bytes, int]] = []
    for at in range(10):
        ids = [f"{at}-{n}" for n in range(at % 3 + 1)] + ["again"]
        arrived = [20_000 * DAY + (at + n) * DAY // 8 for n in range(len(ids))]
        values.append((encode_entry(PACK, pack(ids, arrived)), len(ids)))
        if at % 4 == 0:
            values.append((encode_tick(arrived[-1]), 0))
    return values


async def archived(folder: Path, url: str | Path, until: int | None = None) -> Archive:
    """Appends the entries to a log where it has none, and archives until `until` is covered (all, by default)."""
    log = SqliteLog(folder, 1)
    try:
        if not log.end(topics.EVENTS, 0):
            for value, events in entries():
                await log.append(0, value, events)
        archiver = Archiver(Archive(url), log, OFTEN)
        task = asyncio.create_task(archiver.run())
        while archiver.through.get(0, 0) < (until or log.end(topics.EVENTS, 0)):
            await asyncio.sleep(0.02)
            assert not task.done(), task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if until is None:
            await archiver.close()
        return archiver.archive
    finally:
        log.close()


def rows_of(folder: Path) -> list[tuple[int, int, str]]:
    """What an archive holds of each event, each offset read once."""
    archive = Archive(folder, make=False)
    files, found = archive.files(EVENTS), []
    for part in archive.coverage()[0].parts:
        for path in files.get(part.cut, []):
            rows = duckdb.execute(
                'SELECT "offset", index, id FROM read_parquet(?) WHERE "offset" >= ? AND "offset" < ?',
                [str(folder / path), part.first, part.end],
            ).fetchall()
            found += rows
    return sorted(found)


def expected() -> list[tuple[int, int, str]]:
    found, offset = [], 0
    for value, events in entries():
        if events:
            ids = [f"{id}" for id in _ids(value)]
            found += [(offset, index, id) for index, id in enumerate(ids)]
        offset += max(events, 1)
    return found


def _ids(value: bytes) -> list[str]:
    import pyarrow as pa

    with pa.ipc.open_stream(Entry(0, 1, value).payload) as reader:
        return reader.read_all()["id"].to_pylist()


async def test_everything_in_the_log_stands_in_the_files_in_its_order(tmp_path: Path) -> None:
    archive = await archived(tmp_path / "log", tmp_path / "archive")
    assert rows_of(tmp_path / "archive") == expected()
    assert not archive.coverage()[0].gaps
    days = {path.split("/")[1] for paths in archive.files(EVENTS).values() for path in paths}
    assert days == {"day=2024-10-04", "day=2024-10-05"}
    ticks = duckdb.execute(
        f"SELECT kind, payload FROM read_parquet('{tmp_path}/archive/entries/*.parquet') ORDER BY 2"
    ).fetchall()
    assert [kind for kind, _ in ticks] == ["tick"] * 3
    assert json.loads(ticks[0][1])["time"].startswith("2024-10-04T")


async def test_a_restart_goes_on_where_the_names_end(tmp_path: Path) -> None:
    archive = await archived(tmp_path / "log", tmp_path / "archive", until=8)
    end, cuts = archive.coverage()[0].end, set(archive.files("entries"))
    before = {path: path.read_bytes() for path in (tmp_path / "archive").rglob("*.parquet")}
    await archived(tmp_path / "log", tmp_path / "archive")
    assert rows_of(tmp_path / "archive") == expected()
    assert all(path.read_bytes() == content for path, content in before.items())
    fresh = set(archive.files("entries")) - cuts
    assert end >= 8 and fresh and all(cut.first >= end for cut in fresh)


@pytest.mark.parametrize("lost", ["entries", "events"])
async def test_a_crash_within_a_cut_leaves_nothing_missing_and_nothing_twice(tmp_path: Path, lost: str) -> None:
    archive = await archived(tmp_path / "log", tmp_path / "archive")
    last = max(archive.files("entries"))
    (tmp_path / "archive" / "entries" / last.name).unlink()  # the crash came before the cut's last file
    if lost == "events":
        for path in archive.files(EVENTS).get(last, []):
            (tmp_path / "archive" / path).unlink()
    assert archive.coverage()[0].end == last.first
    await archived(tmp_path / "log", tmp_path / "archive")
    assert rows_of(tmp_path / "archive") == expected()


async def test_two_archivers_on_one_archive_do_no_harm(tmp_path: Path) -> None:
    await archived(tmp_path / "log", tmp_path / "archive", until=5)
    other = Archive(tmp_path / "archive")
    everything, offset = [], 0
    for value, events in entries():
        everything.append(Entry(offset, offset + max(events, 1), value))
        offset += max(events, 1)
    other.write(Cut(0, 0, everything[6].end), everything[:7])
    await archived(tmp_path / "log", tmp_path / "archive")
    assert rows_of(tmp_path / "archive") == expected()


async def test_the_same_cut_is_the_same_files(tmp_path: Path) -> None:
    one = await archived(tmp_path / "log", tmp_path / "one")
    everything, offset = [], 0
    for value, events in entries():
        everything.append(Entry(offset, offset + max(events, 1), value))
        offset += max(events, 1)
    again = Archive(tmp_path / "again")
    for cut in one.files("entries"):
        again.write(cut, [entry for entry in everything if cut.first <= entry.offset < cut.end])
    for path in (tmp_path / "one").rglob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "one")).read_bytes()


async def test_a_cut_says_how_many_events_it_has(tmp_path: Path) -> None:
    archive = await archived(tmp_path / "log", tmp_path / "archive")
    said = 0
    for path in (tmp_path / "archive" / "entries").glob("*.parquet"):
        said += sum(json.loads(pq.read_metadata(path).metadata[ROWS]).values())
    assert said == len(expected())
    assert archive.coverage()[0].begin == 0


def test_files_of_events_that_were_never_finished_go_after_a_while(tmp_path: Path) -> None:
    import os

    archive = Archive(tmp_path)
    archive.write(Cut(0, 0, 2), [Entry(0, 2, encode_entry(PACK, pack(["a", "b"], [DAY, DAY])))])
    (tmp_path / "entries" / Cut(0, 0, 2).name).unlink()
    assert archive.drop_unfinished([0]) == 0  # another process may be about to write the last file
    (path,) = tmp_path.rglob("*.parquet")
    os.utime(path, (0, 0))
    assert archive.drop_unfinished([1]) == 0
    assert archive.drop_unfinished([0]) == 1
    assert not list(tmp_path.rglob("*.parquet"))


async def test_an_object_store_holds_the_same(tmp_path: Path) -> None:
    archive = await archived(tmp_path / "log", "memory:///")
    paths = [path for paths in archive.files(EVENTS).values() for path in paths]
    assert archive.folder is None
    assert sum(pq.read_table(_file(archive.read(path))).num_rows for path in paths) == len(expected())


def _file(data: bytes):  # type: ignore[no-untyped-def]
    import io

    return io.BytesIO(data)
