"""`taximeter load`: every kind of file, a door that is busy, a door that refuses, and an embedded log."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taximeter.load import load

CSV = """id,who,at,n
r1,acme,2026-10-01 10:00:00,0.10

r2,"be
ta",2026-10-01 11:00:00,9007199254740993
r3,acme,2026-10-01 12:00:00,
"""
MAPPING = """
event:
  id: {column: id}
  source: export
  type: use
  subject: {column: who}
  time: {column: at, timezone: UTC}
data:
  n: {column: n, as: number}
  region: eu
"""
DATA = ['{"n":0.10,"region":"eu"}', '{"n":9007199254740993,"region":"eu"}', '{"region":"eu"}']


class FakeDoor:
    """Answers with the statuses of `script` first, then takes everything."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.ticks: list[Any] = []
        self.busy = 0
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, headers = door.script.pop(0) if door.script else (200, {})
                self.answer(status, headers, door.answer(self.path, status, body))

            def answer(self, status: int, headers: dict[str, str], body: Any) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                kind = "application/json" if status == 200 else "application/problem+json"
                for name, value in {"content-type": kind, "content-length": str(len(text)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, status: int, body: bytes) -> Any:
        if status != 200:
            self.busy += 1
            return {"detail": "come again"}
        if path == "/v1/ticks":
            self.ticks.append(json.loads(body))
            return {"time": "", "position": "0:1"}
        self.bodies.append(body)
        lines = body.split(b"\n")
        return {"accepted": len(lines), "duplicates": 0, "rejected": 0, "position": f"0:{len(lines)}", "events": []}

    @property
    def lines(self) -> list[str]:
        return [line.decode() for body in self.bodies for line in body.split(b"\n")]


@pytest.fixture
def door() -> Iterator[FakeDoor]:
    door = FakeDoor()
    yield door
    door.server.shutdown()
    door.server.server_close()


async def send(file: Path, url: str | None, mapping: str | None = MAPPING, **options: Any) -> int:
    path = None
    if mapping is not None:
        path = file.parent / "mapping.yaml"
        path.write_text(mapping)
    defaults: dict[str, Any] = {
        "data": None, "catalogue": None, "batch": 1000, "concurrency": 2, "tick": None, "limit": None
    }  # fmt: skip
    return await load(file=file, mapping=path, url=url, **{**defaults, **options})


def write(path: Path, text: str | bytes) -> Path:
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def data_of(lines: list[str]) -> list[str]:
    return [line.partition('"data":')[2][:-1] for line in lines]


@pytest.mark.parametrize("name", ["use.csv", "use.csv.gz", "use.tsv"])
async def test_csv_keeps_every_digit(door: FakeDoor, tmp_path: Path, name: str) -> None:
    text = CSV.replace(",", "\t") if name.endswith("tsv") else "\ufeff" + CSV
    assert await send(write(tmp_path / name, text), door.url) == 0
    assert data_of(door.lines) == DATA
    events = [json.loads(line) for line in door.lines]
    assert [event["subject"] for event in events] == ["acme", "be\nta", "acme"]
    assert events[0]["time"] == "2026-10-01T10:00:00Z" and events[0]["specversion"] == "1.0"


async def test_parquet(door: FakeDoor, tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["a", "b"],
            "who": pa.array(["x", "y"]).dictionary_encode(),
            "at": pa.array([1_790_000_000_000_000_001, None], pa.timestamp("ns", "UTC")),
            "n": pa.array(["1.50", None]).cast(pa.decimal128(30, 2)),
        }
    )
    pq.write_table(table, tmp_path / "use.parquet")
    assert await send(tmp_path / "use.parquet", door.url) == 0
    assert data_of(door.lines) == ['{"n":1.50,"region":"eu"}', '{"region":"eu"}']
    assert json.loads(door.lines[0])["time"] == "2026-09-21T14:13:20Z" and "time" not in json.loads(door.lines[1])


async def test_parquet_rows_have_their_own_hash(door: FakeDoor, tmp_path: Path) -> None:
    pq.write_table(pa.table({"who": ["x"] * 3, "n": [1, 2, 1]}), tmp_path / "use.parquet", row_group_size=1)
    mapping = "event: {id: {hash: row}, source: s, type: t, subject: {column: who}}"
    assert await send(tmp_path / "use.parquet", door.url, mapping) == 0
    ids = [json.loads(line)["id"] for line in door.lines]
    assert ids[0] == ids[2] != ids[1]


async def test_plain_objects_in_lines(door: FakeDoor, tmp_path: Path) -> None:
    mapping = MAPPING.replace("{column: n, as: number}", "{column: use.n}").replace("{column: who}", "{column: who.id}")
    row = '{"id": 5, "who": {"id": "acme"}, "at": "2026-10-01T10:00:00Z", "use": {"n": 1.10}}'
    assert await send(write(tmp_path / "use.jsonl", row + "\n\n"), door.url, mapping) == 0
    assert json.loads(door.lines[0])["id"] == "5" and data_of(door.lines) == ['{"n":1.10,"region":"eu"}']


async def test_cloudevents_are_sent_as_they_are(door: FakeDoor, tmp_path: Path) -> None:
    lines = [f'{{"specversion":"1.0", "id":"{n}"}}' for n in range(25)]
    file = write(tmp_path / "events.ndjson.gz", "\n".join(lines) + "\n")
    assert await send(file, door.url, None, batch=10, concurrency=1, limit=21) == 0
    assert door.lines == lines[:21] and [body.count(b"\n") + 1 for body in door.bodies] == [10, 10, 1]


async def test_busy_door_is_asked_again_with_the_same_ids(
    door: FakeDoor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    door.script = [(503, {"retry-after": "0"}), (503, {}), (429, {"retry-after": "0"})]
    assert await send(write(tmp_path / "use.csv", CSV), door.url, tick=1_790_000_000_000_000) == 0
    assert door.busy == 3 and len(door.bodies) == 1
    assert door.ticks == [{"time": "2026-09-21T14:13:20Z"}]
    assert "3 requests were sent again" in capsys.readouterr().out


async def test_refusing_door_ends_it(door: FakeDoor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    door.script = [(415, {})]
    assert await send(write(tmp_path / "use.csv", CSV), door.url) == 1
    assert "answered 415: come again" in capsys.readouterr().err


async def test_unreadable_rows_are_told_and_the_rest_is_sent(
    door: FakeDoor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "use.csv", CSV.replace("0.10", "a lot"))
    assert await send(file, door.url) == 3
    said = capsys.readouterr()
    assert "row 1, column n: found 'a lot', data.n expects a number" in said.err
    assert "2 accepted" in said.out and "1 rejected (1 unreadable_row)" in said.out


@pytest.mark.parametrize(
    ("name", "text", "mapping", "said"),
    [
        ("use.csv", CSV.replace("who", "whom"), MAPPING, "event.subject: found 'who' (did you mean 'whom'?)"),
        ("use.csv", "", MAPPING, "expected a line of column names"),
        ("use.csv", CSV, None, "needs --mapping"),
        ("use.data", CSV, MAPPING, "its name does not say what it holds"),
        ("use.csv", CSV + "r4,acme\n", MAPPING, "row 4 (line 7): found 2 fields, expected 4"),
        ("use.csv", CSV.encode() + b"r4,\xff,,\n", MAPPING, "after row 3: not UTF-8"),
        ("use.csv", CSV, "event: {id: 1}", "event.source: missing"),
        ("use.csv", CSV, "event: [", "not YAML"),
        ("use.parquet", b"PAR?", MAPPING, "use.parquet"),
    ],
)
async def test_faults_name_their_place(
    door: FakeDoor, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: Any, mapping: Any, said: str
) -> None:
    assert await send(write(tmp_path / name, text), door.url, mapping) in (1, 2)
    assert said in capsys.readouterr().err


async def test_damaged_gzip_is_told(door: FakeDoor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "use.csv.gz"
    file.write_bytes(gzip.compress(CSV.encode())[:-9])
    assert await send(file, door.url) in (1, 2)
    assert "not a whole gzip file" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"url": None}, {"url": "http://x", "data": Path("y")},
                                     {"url": "http://x", "catalogue": Path("c")}])  # fmt: skip
async def test_wrong_options(tmp_path: Path, options: dict[str, Any]) -> None:
    assert await send(write(tmp_path / "use.csv", CSV), **options) == 2


BOOK = """
meters: {n: {event: use, aggregate: sum, value: $.n}}
price_books: {b: {currency: USD, charges: {n: {meter: n, price: {model: unit, unit_amount: "2"}}}}}
default_subscription: {price_book: b}
"""


async def test_into_an_embedded_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rating.spend.duckdb_store import DuckdbStore

    book = write(tmp_path / "book.yaml", BOOK)
    file = write(tmp_path / "use.csv", CSV.replace("9007199254740993", "3").replace('"be\nta"', "acme"))
    ending = 1_793_000_000_000_000
    assert await send(file, None, data=tmp_path / "data", catalogue=book, tick=ending) == 0
    assert await send(file, None, data=tmp_path / "data") == 0  # the same ids: nothing counts twice
    assert "3 accepted" in capsys.readouterr().out
    store = DuckdbStore(tmp_path / "data" / "spend.duckdb")
    try:
        rows = [json.loads(row.body) for row in store.page("line_items", {"tenant": "default"}, None, 10)]
        assert [(row["quantity"], row["amount"], row["events"]) for row in rows] == [("3.1", "6.2", 2)]
        assert [json.loads(row.body)["code"] for row in store.page("rejections", {"tenant": "default"}, None, 10)] == [
            "missing_value"
        ]
    finally:
        store.close()
