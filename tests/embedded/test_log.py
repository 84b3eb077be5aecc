"""Laws of the embedded log: appended is there, in order, once; read is what was appended."""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from schemas.entry import encode_tick
from schemas.topics import CATALOGUE, EVENTS, INVOICES, JOURNAL, LINE_ITEMS, REJECTIONS
from streams.embedded.folder import FolderRefused, LogError
from streams.embedded.log import TRIM_ROWS, VALUE_BYTES_MAX, Fenced, SqliteLog
from streams.embedded.writer import Transaction
from streams.journal import Batch, Done, Open, decode_record
from streams.log import LogUnavailable, TopicRecord
from streams.processor import Output, Summary

LIMITS = {"entries_max": 1000, "events_max": 1_000_000, "bytes_max": 1_000_000_000}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = SqliteLog(tmp_path / "data", 3)
    yield log
    log.close()


async def take(reading: AsyncIterator[list[TopicRecord]], count: int) -> list[TopicRecord]:
    """The next `count` records."""
    found: list[TopicRecord] = []
    while len(found) < count:
        found += await asyncio.wait_for(anext(reading), 10)
    return found


# Appending ------------------------------------------------------------------------------------------


async def test_offsets_number_events_and_what_holds_none_takes_one(log: SqliteLog) -> None:
    assert await log.append(0, b"pack", 7) == 7
    assert await log.append(0, encode_tick(1), 0) == 8
    assert await log.append(0, b"pack", 1) == 9
    assert await log.append(2, b"pack", 5) == 5
    assert log.append_everywhere_blocking(b"tick") == {0: 10, 1: 1, 2: 6}
    assert [(e.offset, e.end) for e in log.read_entries(0, 0, **LIMITS)] == [(0, 7), (7, 8), (8, 9), (9, 10)]
    assert [log.end(EVENTS, partition) for partition in range(3)] == [10, 1, 6]


async def test_fifty_callers_at_once_each_get_their_own_place_in_their_own_order(log: SqliteLog) -> None:
    async def call(caller: int) -> list[tuple[int, int, bytes]]:
        answers = []
        for number in range(20):
            events = (caller + number) % 4
            value = b"%d/%d" % (caller, number)
            answers.append((caller % 3, await log.append(caller % 3, value, events), value))
        return answers

    answers = [answer for answers in await asyncio.gather(*map(call, range(50))) for answer in answers]
    for partition in range(3):
        entries = log.read_entries(partition, 0, **LIMITS)
        assert {(entry.end, entry.value) for entry in entries} == {(end, v) for p, end, v in answers if p == partition}
        assert [entry.offset for entry in entries] == [0, *(entry.end for entry in entries[:-1])]
        for caller in range(partition, 50, 3):
            own = [e.value for e in entries if e.value.startswith(b"%d/" % caller)]
            assert own == [b"%d/%d" % (caller, number) for number in range(20)]


async def test_callers_share_commits(log: SqliteLog) -> None:
    commits = []
    with log.watching([(EVENTS, 0)], lambda: commits.append(1)):
        await asyncio.gather(*(log.append(0, b"entry", 1) for _ in range(500)))
    assert len(commits) < 20


async def test_threads_and_tasks_may_append_at_once(log: SqliteLog) -> None:
    ends: list[int] = []
    threads = [threading.Thread(target=lambda: ends.append(log.append_blocking(0, b"thread", 1))) for _ in range(10)]
    for thread in threads:
        thread.start()
    ends += await asyncio.gather(*(log.append(0, b"task", 1) for _ in range(10)))
    for thread in threads:
        thread.join()
    assert sorted(ends) == list(range(1, 21))


async def test_a_caller_that_gave_up_disturbs_nobody(log: SqliteLog) -> None:
    tasks = [asyncio.create_task(log.append(0, b"%d" % number, 1)) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
    assert await log.append(0, b"last", 1) == log.end(EVENTS, 0)
    assert {b"%d" % number for number in range(1, 20, 2)} <= {e.value for e in log.read_entries(0, 0, **LIMITS)}


async def test_a_full_queue_refuses_at_once_and_takes_again_later(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "small", 1, queue_bytes_max=100_000)
    held = threading.Event()
    started = threading.Event()

    def hold(_: Transaction) -> None:
        started.set()
        held.wait(10)

    holder = threading.Thread(target=log._writer.submit_blocking, args=(hold, 0, ()))
    holder.start()
    started.wait(10)
    tasks = [asyncio.create_task(log.append(0, bytes(10_000), 1)) for _ in range(20)]
    await asyncio.sleep(0)
    held.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, LogUnavailable)]
    assert 8 <= len(refused) <= 12
    assert "queue" in str(refused[0]) and "100000" in str(refused[0])
    assert await log.append(0, b"later", 1) == 21 - len(refused)
    holder.join()
    log.close()


async def test_an_entry_too_large_is_refused_by_its_size(log: SqliteLog) -> None:
    with pytest.raises(ValueError, match=str(VALUE_BYTES_MAX + 1)):
        await log.append(0, bytes(VALUE_BYTES_MAX + 1), 1)
    with pytest.raises(ValueError, match="partition 3"):
        await log.append(3, b"", 1)


async def test_a_closed_log_refuses_and_says_so(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, 1)
    log.close()
    log.close()
    with pytest.raises(LogUnavailable, match="closed"):
        await log.append(0, b"", 1)


def test_what_was_queued_before_the_close_is_kept(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, 1)
    asyncio.run(_append_many(log, 100))
    log.close()
    log = SqliteLog(tmp_path, 1)
    assert log.end(EVENTS, 0) == 100
    assert log.append_blocking(0, b"after", 2) == 102
    log.close()


async def _append_many(log: SqliteLog, count: int) -> None:
    await asyncio.gather(*(log.append(0, b"%d" % number, 1) for number in range(count)))


# Steps and topics -----------------------------------------------------------------------------------


def test_a_step_writes_batch_outputs_and_done_in_their_order(log: SqliteLog) -> None:
    assert log.open_epoch(1, 4, "me") == 1
    batch = Batch(4, 0, 9, Summary(entries=2))
    outputs = [Output(LINE_ITEMS, b"a", b"1"), Output(INVOICES, b"i", b"x"), Output(LINE_ITEMS, b"b", b"2")]
    assert log.commit_step(1, batch, 4, 9, outputs) == 3
    journal = [decode_record(record.value) for record in log.read_records(JOURNAL, 1, 0)]
    assert journal == [Open(4, "me"), batch, Done(4, 9, {LINE_ITEMS: 2, INVOICES: 1})]
    assert log.read_records(LINE_ITEMS, 1, 0) == [
        TopicRecord(LINE_ITEMS, 1, 0, 1, b"a", b"1"),
        TopicRecord(LINE_ITEMS, 1, 1, 2, b"b", b"2"),
    ]
    assert log.read_records(LINE_ITEMS, 1, 1) == [TopicRecord(LINE_ITEMS, 1, 1, 2, b"b", b"2")]
    assert log.read_records(LINE_ITEMS, 0, 0) == []


def test_a_step_of_an_epoch_that_is_over_writes_nothing(log: SqliteLog) -> None:
    log.open_epoch(0, 1, "first")
    log.open_epoch(0, 2, "second")
    with pytest.raises(Fenced, match="epoch 2 open, expected 1"):
        log.commit_step(0, Batch(1, 0, 1, Summary()), 1, 1, [Output(LINE_ITEMS, b"a", b"1")])
    with pytest.raises(Fenced):
        log.open_epoch(0, 2, "third")
    assert log.end(JOURNAL, 0) == 2
    assert log.end(LINE_ITEMS, 0) == 0


async def test_records_can_be_published_to_any_topic_but_the_source(log: SqliteLog) -> None:
    assert await log.publish(REJECTIONS, 2, [(b"tenant", b"bad"), (b"tenant", b"worse")]) == 2
    assert log.publish_blocking(REJECTIONS, 2, []) == 2
    assert log.publish_blocking("access.grants", 0, [(b"k", b"v")]) == 1
    with pytest.raises(ValueError, match="append"):
        await log.publish(EVENTS, 0, [(b"", b"")])


# Reading --------------------------------------------------------------------------------------------


async def test_a_reader_is_woken_by_what_comes_and_never_repeats_or_skips(log: SqliteLog) -> None:
    await log.append(0, b"before", 3)
    reading = log.read([EVENTS, REJECTIONS], {(EVENTS, 1): 0})
    assert (await take(reading, 1))[0] == TopicRecord(EVENTS, 0, 0, 3, b"", b"before")
    waiting = asyncio.create_task(take(reading, 40))
    await asyncio.sleep(0.02)
    for number in range(20):
        await log.append(number % 3, b"%d" % number, 2)
        await log.publish(REJECTIONS, number % 3, [(b"k", b"%d" % number)])
    found = await waiting
    for topic in (EVENTS, REJECTIONS):
        for partition in range(3):
            mine = [record for record in found if (record.topic, record.partition) == (topic, partition)]
            assert [int(record.value) for record in mine] == list(range(partition, 20, 3))
            assert [record.offset for record in mine[1:]] == [record.end for record in mine[:-1]]


async def test_a_reader_goes_on_where_it_says_it_was(log: SqliteLog) -> None:
    await log.publish(LINE_ITEMS, 0, [(b"%d" % number, b"") for number in range(10)])
    found = await take(log.read([LINE_ITEMS], {(LINE_ITEMS, 0): 7}), 3)
    assert [record.key for record in found] == [b"7", b"8", b"9"]


async def test_a_reader_beyond_the_end_is_told(log: SqliteLog) -> None:
    await log.append(0, b"one", 1)
    with pytest.raises(LogError, match="end 1, expected at least the reader's position 5"):
        await anext(log.read([EVENTS], {(EVENTS, 0): 5}))


async def test_a_reader_of_a_closed_log_ends(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, 1)
    reading = log.read([EVENTS], {})
    waiting = asyncio.create_task(anext(reading, None))
    await asyncio.sleep(0.02)
    log.close()
    assert await asyncio.wait_for(waiting, 5) is None


def test_a_read_holds_no_more_than_asked_but_at_least_one(log: SqliteLog) -> None:
    for size in (10, 20, 30):
        log.append_blocking(0, bytes(size), 5)

    def lengths(entries: int, events: int, size: int) -> list[int]:
        found = log.read_entries(0, 0, entries_max=entries, events_max=events, bytes_max=size)
        return [len(entry.value) for entry in found]

    assert lengths(9, 99, 999) == [10, 20, 30]
    assert lengths(2, 99, 999) == [10, 20]
    assert lengths(9, 10, 999) == [10, 20]
    assert lengths(9, 99, 30) == [10, 20]
    assert lengths(1, 1, 1) == [10]


def test_a_position_inside_an_entry_is_no_place_to_go_on_from(log: SqliteLog) -> None:
    log.append_blocking(0, b"pack", 5)
    with pytest.raises(LogError, match="entry at 0, expected one at 2"):
        log.read_entries(0, 2, **LIMITS)
    with pytest.raises(LogError, match="expected"):
        log.read_cut(0, 0, 6)
    assert [record.offset for record in log.read_records(EVENTS, 0, 2)] == [0]


# Trimming -------------------------------------------------------------------------------------------


def test_what_is_trimmed_is_gone_and_offsets_go_on(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, 1)
    count = 3 * TRIM_ROWS
    asyncio.run(_append_many(log, count))
    log.trim(EVENTS, 0, count - 10)
    assert log.begin(EVENTS, 0) == count - 10
    with pytest.raises(LogError, match="trimmed"):
        log.read_entries(0, 0, **LIMITS)
    assert [record.offset for record in log.read_records(EVENTS, 0, 0)] == list(range(count - 10, count))
    log.trim(EVENTS, 0, 10 * count)
    log.close()
    log = SqliteLog(tmp_path, 1)
    assert (log.begin(EVENTS, 0), log.end(EVENTS, 0)) == (count - 1, count)
    log.close()


def test_a_row_stays_as_long_as_one_of_its_records_is_wanted(log: SqliteLog) -> None:
    for _ in range(3):
        log.publish_blocking(LINE_ITEMS, 0, [(b"k", b"v")] * 10)
    log.trim(LINE_ITEMS, 0, 15)
    assert log.begin(LINE_ITEMS, 0) == 10
    log.trim(CATALOGUE, 0, 5)
    assert log.begin(CATALOGUE, 0) == 0


def test_a_time_is_found_in_the_log(log: SqliteLog) -> None:
    log.append_blocking(0, b"early", 3)
    assert log.offset_at(EVENTS, 0, 0) == 0
    assert log.offset_at(EVENTS, 0, 2**60) == 3
    assert log.offset_at(EVENTS, 1, 0) == 0


# The folder -----------------------------------------------------------------------------------------


def test_a_second_process_is_refused_with_the_folder_and_the_first_ones_number(log: SqliteLog) -> None:
    program = f"from streams.embedded.log import SqliteLog\nSqliteLog({str(log.folder)!r}, 3)"
    second = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    with pytest.raises(FolderRefused) as refusal:
        SqliteLog(log.folder, 3)
    for message in (second.stderr, str(refusal.value)):
        assert str(log.folder) in message
        assert f"process {os.getpid()}" in message


def change(folder: Path, statement: str) -> None:
    """Changes a log behind its back."""
    connection = sqlite3.connect(folder / "log.sqlite", isolation_level=None)
    connection.execute(statement)
    connection.close()


def refusal(folder: Path, partitions: int) -> str:
    """Why the folder is refused; the refusal leaves no lock behind."""
    with pytest.raises(FolderRefused) as refused:
        SqliteLog(folder, partitions)
    with pytest.raises(FolderRefused) as again:
        SqliteLog(folder, partitions)
    assert str(refused.value) == str(again.value)
    return str(refused.value)


def test_another_number_of_partitions_is_refused(tmp_path: Path) -> None:
    SqliteLog(tmp_path, 2).close()
    assert "made with 2 partitions, the setting says 4" in refusal(tmp_path, 4)
    SqliteLog(tmp_path, 2).close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    SqliteLog(tmp_path, 2).close()
    change(tmp_path, "PRAGMA user_version = 3")
    assert "format version 3, this program knows up to 2" in refusal(tmp_path, 2)


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    change(tmp_path, "CREATE TABLE other (a)")
    assert "no Taximeter log" in refusal(tmp_path, 2)
    (tmp_path / "log.sqlite").write_bytes(random.Random(1).randbytes(20_000))
    assert "not a database" in refusal(tmp_path, 2)


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "cannot use the data folder" in refusal(tmp_path / "file", 2)
