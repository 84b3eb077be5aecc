"""A receiver of webhooks in a thread: what came, and answers as they were ordered."""

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Call(NamedTuple):
    """One request."""

    id: str
    body: bytes
    headers: dict[str, str]

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.body)  # type: ignore[no-any-return]


def is_signed(call: Call, secret: str = SECRET) -> bool:
    """Verified as a receiver would, by the specification's words and no code of ours."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.body
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    recent = abs(time.time() - int(call.headers["webhook-timestamp"])) < 300
    return recent and expected in call.headers["webhook-signature"].split(" ")


class Receiver:
    """`answer`: the status for the n-th call (from 0)."""

    def __init__(self, answer: Callable[[int], int] = lambda n: 204) -> None:
        self.calls: list[Call] = []
        self.answer = answer
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.calls.append(Call(headers["webhook-id"], body, headers))
                self.send_response(outer.answer(len(outer.calls) - 1))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, count: int, timeout: float = 30) -> list[Call]:
        """The calls, as soon as there are so many."""
        deadline = time.monotonic() + timeout
        while len(self.calls) < count:
            assert time.monotonic() < deadline, f"found {len(self.calls)} calls, expected {count}"
            time.sleep(0.02)
        return self.calls
