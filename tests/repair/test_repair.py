"""`taximeter repair --data`: what is damaged is named, and once it is mended everything is as if nothing had been."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from schemas import topics
from tests.face.running import BOOK, Server, in_process
from tests.repair.conftest import Folder
from tests.repair.damage import bills, consumers_view, flip, rows_of, serve_refused, snapshots_of, table_of, tear

Damaged = Callable[[Callable[[Path], object]], Path]


def refused(data: Path, *patterns: str) -> None:
    """A server stops in one line that names the place and the command; no traceback."""
    status, said = serve_refused(data)
    assert status in (1, 70), said
    assert "Traceback" not in said
    for pattern in (*patterns, re.escape(f"`taximeter repair --data {data}`")):
        assert re.search(pattern, said), said


def mended(data: Path, killed: Folder, *patterns: str) -> None:
    """A dry run changes nothing, the repair mends, a second one finds nothing, and all is as it was."""
    before = {path.name: path.read_bytes() for path in data.rglob("*.snapshot")}
    dry = in_process("repair", "--data", data, "--dry-run")
    assert (dry.returncode, "Nothing is changed yet" in dry.stdout) == (0, True), dry.stdout
    assert {path.name: path.read_bytes() for path in data.rglob("*.snapshot")} == before
    done = in_process("repair", "--data", data)
    assert (done.returncode, "All that was damaged is mended" in done.stdout) == (0, True), done.stdout
    for pattern in patterns:
        assert re.search(pattern, done.stdout), done.stdout
    assert done.stdout.replace("mended:", "would be mended:").split("\n")[:-2] == dry.stdout.split("\n")[:-2]
    again = in_process("repair", "--data", data)
    assert (again.returncode, again.stdout) == (0, "Nothing is damaged.\n")
    assert bills(data) == killed.bills
    assert consumers_view(data) == killed.view


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ((-4,), r"the lost \[\d+, \d+\) known from"),
        ((-1,), "lost end"),
        ((-2, -1), "lost end"),
        ((-5, -3, -2), "known from"),
    ],
)
def test_a_damaged_journal(killed: Folder, damaged: Damaged, rows: tuple[int, ...], says: str) -> None:
    def spoil(folder: Path) -> None:
        assert len(rows_of(folder, topics.JOURNAL)) > 7
        for row in rows:
            flip(folder, topics.JOURNAL, row)

    data = damaged(spoil)
    refused(data, r"taximeter\.journal/0, offset \d+: found a row with the checksum \w{8}, expected \w{8}")
    mended(data, killed, says)


def test_a_record_of_the_journal_that_is_damaged_within_a_whole_row(killed: Folder, damaged: Damaged) -> None:
    """As a fault of ours would leave it, or a broker's: the record's own checksum finds it."""
    from streams.embedded.log import SqliteLog

    def damage(folder: Path) -> None:
        position = rows_of(folder, topics.JOURNAL)[-4][0]
        log = SqliteLog(folder, 1)
        (record,) = log.read_records(topics.JOURNAL, 0, position, records_max=1)[:1]
        log.replace_row(topics.JOURNAL, 0, position, [(b"", record.value[:-1] + b"\xff")])
        log.close()

    data = damaged(damage)
    refused(data, r"taximeter\.journal/0, offset \d+: found the checksum \w{8}, expected \w{8}")
    mended(data, killed, "known from")


def test_the_newest_snapshot_torn(killed: Folder, damaged: Damaged) -> None:
    """A start passes it over by itself; a repair puts two whole ones in its place."""
    data = damaged(lambda folder: tear(snapshots_of(folder)[0]))
    mended(data, killed, "the snapshot .* does not agree")
    assert len(snapshots_of(data)) == 2


def test_both_snapshots_torn_and_the_journal_before_them_gone(killed: Folder, damaged: Damaged) -> None:
    data = damaged(lambda folder: [tear(path) for path in snapshots_of(folder)])
    assert rows_of(data, topics.JOURNAL)[0][0] > 0
    refused(data, "snapshots that went with it are missing or damaged")
    mended(data, killed, r"the lost \[0, \d+\) known from")


def test_no_snapshots_at_all(killed: Folder, damaged: Damaged) -> None:
    data = damaged(lambda folder: [path.unlink() for path in snapshots_of(folder)])
    refused(data, "missing or damaged")
    mended(data, killed, "found no snapshot")


@pytest.mark.parametrize(
    ("topic", "row"),
    [
        (topics.LINE_ITEMS, 2),
        (topics.LINE_ITEMS, -1),
        (topics.INVOICES, 0),
        (topics.ALERTS, 0),
        (topics.REJECTIONS, 0),
        (topics.CATALOGUE, 0),
    ],
)
def test_a_damaged_output_is_made_again(killed: Folder, damaged: Damaged, topic: str, row: int) -> None:
    data = damaged(lambda folder: flip(folder, topic, row))
    (data / "spend.duckdb").unlink()  # so that everything is read again
    mended(data, killed, rf"{re.escape(topic)}/0, offset \d+: found a row")


def test_two_damaged_rows_of_line_items(killed: Folder, damaged: Damaged) -> None:
    data = damaged(lambda folder: [flip(folder, topics.LINE_ITEMS, row) for row in (-2, -1)])
    (data / "spend.duckdb").unlink()
    mended(data, killed)


def test_a_damaged_event_is_named_and_never_skipped(killed: Folder, damaged: Damaged) -> None:
    data = damaged(lambda folder: flip(folder, topics.EVENTS, -2))
    start, end, _ = rows_of(data, topics.EVENTS)[-2]
    refused(data, rf"taximeter\.events/0, offset {start}: found a row with the checksum")
    found = in_process("repair", "--data", data)
    assert found.returncode == 1
    assert re.search(rf"taximeter\.events/0, offset {start}: .* up to {end}", found.stdout)
    assert "events cannot be made again: no snapshot includes these events" in found.stdout
    assert f"The spend store has {end - start} of them" in found.stdout
    assert "Something could not be mended" in found.stdout
    assert serve_refused(data)[0] == 70


def test_a_damaged_event_that_a_snapshot_includes_does_not_stop_the_engine(killed: Folder, damaged: Damaged) -> None:
    data = damaged(lambda folder: flip(folder, topics.EVENTS, 1))
    found = in_process("repair", "--data", data)
    assert (found.returncode, "nothing of the bills is missing" in found.stdout) == (1, True)
    assert bills(data) == killed.bills


@pytest.mark.parametrize("content", [b"", b"garbage" * 3000, None])
def test_a_damaged_spend_store_is_built_again(killed: Folder, damaged: Damaged, content: bytes | None) -> None:
    def damage(folder: Path) -> None:
        path = folder / "spend.duckdb"
        (folder / "spend.duckdb.wal").unlink(missing_ok=True)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)

    data = damaged(damage)
    by_itself = bills(data)  # the start notices it, and puts it aside
    assert by_itself == killed.bills
    assert consumers_view(data) == killed.view


def test_a_spend_store_that_is_damaged_inside_is_put_aside(killed: Folder, damaged: Damaged) -> None:
    def damage(folder: Path) -> None:
        Server(folder).__enter__().stop()  # a clean stop moves everything into the file
        raw = bytearray((folder / "spend.duckdb").read_bytes())
        for at in range(300_000, len(raw), 100_000):
            raw[at] ^= 1
        (folder / "spend.duckdb").write_bytes(raw)

    data = damaged(damage)
    found = in_process("repair", "--data", data)
    assert found.returncode == 0
    assert "put aside as spend.duckdb.damaged" in found.stdout, found.stdout
    assert bills(data) == killed.bills


def test_a_log_that_lost_what_a_snapshot_includes_is_refused(damaged: Damaged) -> None:
    def damage(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "log.sqlite")) as connection:
            for topic in (topics.EVENTS, topics.JOURNAL):
                table = table_of(folder, topic)
                connection.execute(f"DELETE FROM {table} WHERE position > (SELECT min(position) + 2 FROM {table})")
            connection.commit()

    data = damaged(damage)
    status, said = serve_refused(data)
    assert (status, "Traceback" in said) == (70, False)
    assert re.search(r"the log in .* has lost what it had answered for", said), said
    found = in_process("repair", "--data", data)
    assert (found.returncode, "has lost what it had answered for" in found.stdout) == (1, True)


def test_a_folder_of_the_version_before_is_taken_over(killed: Folder, damaged: Damaged) -> None:
    """Without the column, journal records as JSON: as the version before wrote it."""
    import msgspec

    from streams.embedded.rows import pack_row, unpack
    from streams.journal import decode_record

    def damage(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "log.sqlite")) as connection:
            journal = table_of(folder, topics.JOURNAL)
            for position, _, value in rows_of(folder, topics.JOURNAL):
                row = pack_row([(key, msgspec.json.encode(decode_record(record))) for key, record in unpack(value)])
                connection.execute(f"UPDATE {journal} SET value = ? WHERE position = ?", (row.value, position))
            for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'topic__%'").fetchall():
                if table != "topics":
                    connection.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
            connection.execute("PRAGMA user_version = 1")
            connection.commit()

    data = damaged(damage)
    assert bills(data) == killed.bills
    assert consumers_view(data) == killed.view
    with closing(sqlite3.connect(data / "log.sqlite")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        checked = connection.execute(
            f"SELECT count(checksum), count(*) FROM {table_of(data, topics.EVENTS)}"
        ).fetchone()
    assert 0 < checked[0] < checked[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give either --data"),
        (("--bootstrap", "localhost:1"), "give either --data"),
        (("--data", "nowhere"), "found no log in nowhere"),
    ],
)
def test_wrong_arguments(words: tuple[str, ...], says: str) -> None:
    found = in_process("repair", *words)
    assert (found.returncode, says in found.stderr) == (2, True)


def test_a_folder_that_a_server_holds_is_refused(tmp_path: Path) -> None:
    with Server(tmp_path / "data", catalogue=BOOK) as server:
        found = in_process("repair", "--data", server.data)
        assert (found.returncode, f"in use by the process {server.process.pid}" in found.stderr) == (1, True)
        assert in_process("repair", "--data", server.data, "--partition", "7").returncode == 2
