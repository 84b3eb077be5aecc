"""Damage to the files of a data folder that nobody has open, and what a server makes of a folder."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from schemas import topics
from streams.embedded.log import SqliteLog
from tests.face.running import BOOK, Server, event

JANUARY = "2027-01-15T00:00:00Z"


def usage(count: int, first: int = 0) -> list[str]:
    """Usage of some customers; a level is crossed on the way, some of it has no value, some comes twice."""
    found = []
    for i in range(first, first + count):
        data = f'{{"tokens": {i % 89}.5, "model": "m{i % 3}"}}' if i % 40 else '{"model": "none"}'
        found.append(event(f"e{i}", f"2026-11-{1 + i % 28:02d}T01:00:00Z", data, subject=f"c{i % 5}"))
        if i % 25 == 0:
            found.append(found[-1])
    found.append(event(f"big{first}", "2026-11-20T00:00:00Z", '{"tokens": 60000, "model": "m1"}', subject="c1"))
    return found


def table_of(folder: Path, topic: str, partition: int = 0) -> str:
    """The table that holds a topic."""
    with closing(sqlite3.connect(folder / "log.sqlite")) as connection:
        number = connection.execute("SELECT id FROM topics WHERE name = ?", (topic,)).fetchone()[0]
    return f"topic_{number}_{partition}"


def rows_of(folder: Path, topic: str, partition: int = 0) -> list[tuple[int, int, bytes]]:
    """(position, after, value) of every row."""
    with closing(sqlite3.connect(folder / "log.sqlite")) as connection:
        table = table_of(folder, topic, partition)
        return connection.execute(f"SELECT position, after, value FROM {table} ORDER BY position").fetchall()


def flip(folder: Path, topic: str, row: int, partition: int = 0) -> int:
    """Flips one bit of a row's value in the file, as a bad disk would. Returns the row's position."""
    position, _, value = rows_of(folder, topic, partition)[row]
    with closing(sqlite3.connect(folder / "log.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = (folder / "log.sqlite").read_bytes()
    size = min(len(value), 64)
    for start in range(0, len(value) - size + 1, 61):
        at = whole.find(value[start : start + size])
        while at >= 0:  # the same bytes may stand in other rows, and in pages that are free
            raw = bytearray(whole)
            raw[at + size // 2] ^= 0x10
            (folder / "log.sqlite").write_bytes(raw)
            if rows_of(folder, topic, partition)[row][2] != value:
                return position
            at = whole.find(value[start : start + size], at + 1)
    raise AssertionError("the row's bytes were not found in the file")


def snapshots_of(folder: Path, processor: str = "rating") -> list[Path]:
    """The newest first."""
    return sorted((folder / "snapshots" / processor).rglob("*.snapshot"), reverse=True)


def tear(path: Path) -> None:
    """Only the first half of the file is there."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bills(data: Path, *options: str) -> dict[str, Any]:
    """Starts a server on the folder, closes November, and says what it answers for everybody; then stops it."""
    with Server(data, *options) as server:
        position = server.tick(JANUARY)
        found = {name: server.listing(name, position) for name in ("line-items", "invoices")}
        found["spend"] = [server.get(f"/v1/customers/c{i}/spend", position) for i in range(5)]
        assert server.stop()[0] == 0, server.complaints()
    for one in found["spend"]:
        one.pop("through", None), one.pop("position", None), one.pop("as_of", None)
    return found


def consumers_view(data: Path) -> dict[str, dict[bytes, tuple[int, bytes]]]:
    """What a reader of the output topics from their beginning has: of each id the highest revision."""
    import json

    log = SqliteLog(data, 1)
    view: dict[str, dict[bytes, tuple[int, bytes]]] = {}
    try:
        for topic in (topics.LINE_ITEMS, topics.INVOICES, topics.ALERTS):
            held = view.setdefault(topic, {})
            seen: dict[tuple[bytes, int], bytes] = {}
            position = 0
            while records := log.read_records(topic, 0, position):
                position = records[-1].end
                for record in records:
                    if record.value:
                        revision = json.loads(record.value).get("revision", 0)
                        assert seen.setdefault((record.key, revision), record.value) == record.value
                        if revision >= held.get(record.key, (-1, b""))[0]:
                            held[record.key] = revision, record.value
    finally:
        log.close()
    return view


def serve_refused(data: Path) -> tuple[int, str]:
    """Runs a server that must end by itself; (status, what it said on standard error)."""
    from tests.face.running import ROOT, TAXIMETER, environment

    book = data.parent / "book.yaml"
    book.write_text(BOOK)
    command = [*TAXIMETER, "serve", "--port", "0", "--data", str(data), "--tick", "0", "--catalogue", str(book)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=20, env=environment() | {"PYTHONPATH": str(ROOT)}, check=False
    )
    return done.returncode, done.stderr
