"""Shippers of logs and events that know nothing of us: the exact bytes that each sends, and curl itself.

curl runs for real. Of Vector, Redpanda Connect, Fluent Bit and syslog-ng the bytes are made here as their sources and
docs say: the framing, the headers, the compression.
"""

import gzip
import json
import shutil
import socket
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.compat.openmeter_door import door
from tests.face.running import Server

COUNT = {"event": "log", "aggregate": "count"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with door(tmp_path_factory.mktemp("shippers")) as running:
        assert running.client.put("/v1/meters/logs", json=COUNT).status_code == 201
        yield running


def lines(source: str, count: int, **data: Any) -> list[bytes]:
    """Events, each as one line of JSON."""
    common = {"specversion": "1.0", "source": source, "type": "log", "subject": f"host-{source[:4]}"}
    common |= {"time": "2026-11-05T10:00:00Z"}
    return [json.dumps(common | {"id": str(number), "data": {"n": number, **data}}).encode() for number in range(count)]


def counted(server: Server, position: str, source: str) -> int:
    """How many events of a source are kept."""
    found, cursor = 0, None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        page = server.get("/v1/events", position, source=source, limit=1000, **more)
        found, cursor = found + len(page["events"]), page["next_cursor"]
        if cursor is None:
            return found


FORMS = {
    "vector, json, an array": ("application/json", lambda own: b"[" + b",".join(own) + b"]"),
    "vector, newline_delimited": ("application/x-ndjson", lambda own: b"\n".join(own) + b"\n"),
    "connect, archive lines": ("application/x-ndjson", b"\n".join),
    "connect, archive json_array": ("application/json", lambda own: b"[" + b",".join(own) + b"]"),
    "fluent bit, json_lines": ("application/x-ndjson", lambda own: b"".join(line + b"\n" for line in own)),
    "fluent bit, json": ("application/json", lambda own: b"[" + b", ".join(own) + b"]"),
    "syslog-ng, lines": ("application/x-ndjson", b"\n".join),
    "syslog-ng, array": ("application/json", lambda own: b"[" + b",".join(own) + b"]"),
    "windows line ends and blank lines": ("application/x-ndjson", lambda own: b"\r\n\r\n".join(own) + b"\r\n"),
}
SQUEEZED = {
    "identity": lambda body: body,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": lambda body: pa.Codec("zstd").compress(body, asbytes=True),
}


@pytest.mark.parametrize("encoding", SQUEEZED)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_taken_whole(server: Server, form: str, encoding: str) -> None:
    content_type, framed = FORMS[form]
    body = SQUEEZED[encoding](framed(lines(f"{form} {encoding}", 50)))
    answer = server.post(body, content_type, content_encoding=encoding)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 50)
    assert counted(server, answer.json()["position"], f"{form} {encoding}") == 50


def test_a_batch_of_vectors_default_size(server: Server) -> None:
    """10 MB, and as many events as that holds: it has no other bound, and drops what is refused."""
    own = lines("vector full", 60_000)
    while sum(map(len, own)) + len(own) + 1 > 10_000_000:
        own.pop()
    body = b"[" + b",".join(own) + b"]"
    assert len(own) > 50_000
    answer = server.post(body, "application/json")
    assert (answer.status_code, answer.json()["accepted"]) == (200, len(own))


def test_health_checks(server: Server) -> None:
    assert server.client.head("/v1/events").status_code == 200
    assert server.client.head("/health/ready").status_code == 200
    assert server.client.head("/openmeter/api/v1/meters").status_code == 200


def test_a_poisoned_batch_is_permanent_and_not_a_reason_to_try_again(server: Server) -> None:
    for body, content_type in (
        (b"{", "application/json"),
        (b"x", "application/octet-stream"),
        (b"no\nno\n", "application/x-ndjson"),
    ):
        answer = server.post(body, content_type)
        assert answer.status_code in (400, 415)
        assert "retry-after" not in answer.headers


def test_curl_waits_for_100_continue(server: Server, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    assert curl is not None
    batch = tmp_path / "batch"
    batch.write_bytes(b"\n".join(lines("curl", 20_000, text="x" * 60)))
    command = [curl, "-sS", "-v", "--data-binary", f"@{batch}", "-H", "content-type: application/x-ndjson"]
    for more in (["-H", "Expect: 100-continue"], ["--http1.0"], ["-H", "Transfer-Encoding: chunked"]):
        url = f"{server.url}/v1/events"
        done = subprocess.run([*command, *more, url], capture_output=True, text=True, timeout=60, check=True)
        answer = json.loads(done.stdout)
        assert answer["accepted"] + answer["duplicates"] == 20_000, done.stderr
        if "Expect" in more[-1]:
            assert "100 Continue" in done.stderr
    assert counted(server, answer["position"], "curl") == 60_000, "kept thrice, counted once"
    (window,) = server.get("/v1/usage", answer["position"], meter="logs", window="total", subject="host-curl")[
        "windows"
    ]
    assert window["value"] == "20000"


def test_the_very_bytes_of_syslog_ng(server: Server) -> None:
    """As libcurl writes them in syslog-ng's http(): lines joined, no last newline."""
    body = b"\n".join(lines("syslog raw", 15))
    head = (
        "POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: syslog-ng 3.38.1/libcurl 7.88.1\r\nAccept: */*\r\n"
        "X-Syslog-Host: host-1\r\nX-Syslog-Program: app\r\nX-Syslog-Facility: user\r\nX-Syslog-Level: notice\r\n"
        f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["accepted"] == 15
