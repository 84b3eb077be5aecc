"""Receives Taximeter's webhooks: verifies the signature, and acts once on each message. The standard library alone.

    python examples/webhook_receiver.py --secret whsec_… --database received.sqlite --port 9000

The signature is checked as the Standard Webhooks specification has it. The message's id is remembered in the same
transaction as what is done about it, before the answer: told again, nothing is done twice, and nothing that was
answered with 204 is forgotten.
"""

import argparse
import base64
import hmac
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOLERANCE_S = 300
"""How far a message's time may be from ours: older ones may be replayed by somebody who has seen them."""
BODY_MAX = 8 * 1024 * 1024
SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS outputs (id TEXT PRIMARY KEY, revision INTEGER NOT NULL, type TEXT NOT NULL,
                                    data TEXT NOT NULL);
"""


class Refused(ValueError):
    """The message is not from who has the secret, or too old. The text says which."""


def verify(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: float) -> str:
    """The id of a message that is genuine. `headers`: names in lower case. Raises: Refused.

    What is signed is `id.timestamp.body`, by HMAC-SHA256; the key is the secret without `whsec_`, from base64. The
    header holds one or several signatures `v1,BASE64` with blanks between, of which one must be right.
    """
    try:
        id, stamp, given = (headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as missing:
        raise Refused(f"the header {missing} is missing") from None
    if not (stamp.isascii() and stamp.isdigit()):
        raise Refused(f"found the webhook-timestamp {stamp!r}, expected whole seconds since 1970")
    if abs(now - int(stamp)) > TOLERANCE_S:
        raise Refused(f"the message is of {stamp}, more than {TOLERANCE_S} s away from now")
    signed = f"{id}.{stamp}.".encode() + body
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        expected = base64.b64encode(hmac.digest(key, signed, sha256))
        for signature in given.split(" "):
            version, _, text = signature.partition(",")
            if version == "v1" and hmac.compare_digest(text.encode(), expected):
                return id
    raise Refused("no signature is right")


def act(database: sqlite3.Connection, id: str, body: bytes) -> bool:
    """Keeps the highest revision of what a message tells. False where the message was here before."""
    message = json.loads(body)
    data = message["data"]
    with database:
        database.execute("BEGIN IMMEDIATE")
        if database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (id,)).rowcount == 0:
            return False
        # Here belongs what is to happen: an entry, a payment. In the same transaction, or idempotent by `id`.
        database.execute(
            "INSERT INTO outputs VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, "
            "type = excluded.type, data = excluded.data WHERE excluded.revision > outputs.revision",
            (data["id"], data.get("revision", 1), message["type"], json.dumps(data)),
        )
    return True


def make_server(secrets: Sequence[str], path: Path, port: int) -> ThreadingHTTPServer:
    """A server on the loopback address; behind a proxy that speaks TLS it is ready for the world."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, timeout=30)

    with connect() as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(SCHEMA)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = self.headers.get("content-length", "")
            if not size.isdigit() or int(size) > BODY_MAX:
                return self._answer(413, f"expected a content-length of at most {BODY_MAX}")
            body = self.rfile.read(int(size))
            try:
                id = verify(secrets, {name.lower(): value for name, value in self.headers.items()}, body, time.time())
            except Refused as refused:
                return self._answer(401, str(refused))
            database = connect()
            try:
                act(database, id, body)
            except (ValueError, KeyError) as error:
                return self._answer(422, f"the body is not what was expected: {error!r}")
            finally:
                database.close()
            return self._answer(204, "")

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    """Receives until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secret", action="append", required=True, help="given twice while it is being changed")
    parser.add_argument("--database", type=Path, default=Path("received.sqlite"))
    parser.add_argument("--port", type=int, default=9000)
    options = parser.parse_args()
    server = make_server(options.secret, options.database, options.port)
    print(f"ready at http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
