"""The commands of `taximeter` as processes of their own: started, awaited by their ready lines, killed, stopped.

Every wait has a bound; where one is missed, the error shows the end of each log.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY_S = 90.0
STOP_S = 30.0
_POLL_S = 0.01
_LOG_TAIL = 2500
_PORTS = range(15_000, 30_000)
"""Below those that outgoing connections get: a client that tries a closed port again cannot meet itself there."""
_given: set[int] = set()
WORDS: tuple[str, ...] = ()
"""What stands between `taximeter` and the command: nothing, unless a test says otherwise."""


class Process:
    """One command; `said` is its standard output so far, `log` its standard error."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.name = name
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        command = [sys.executable, "-m", "taximeter", *WORDS, *arguments]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TAXIMETER_")}
        environment["PYTHONPATH"] = str(ROOT)
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)

    @property
    def said(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def log(self) -> str:
        return self._err.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def url(self) -> str | None:
        """Where it answers, once it has said so."""
        found = re.search(r"ready at (http://[^\s]+)", self.said)
        return found[1] if found else None

    def partitions(self) -> list[int] | None:
        """What a rating worker owned when it last said so."""
        found = re.findall(r"owns partitions \[([^]]*)\]", self.said)
        return [int(part) for part in found[-1].split(",") if part.strip()] if found else None

    def kill(self) -> None:
        """Kill -9; it is gone when this returns."""
        self._process.kill()
        self._process.wait(STOP_S)

    def stop(self) -> None:
        """SIGTERM. Raises: AssertionError where it does not end, or not with status 0."""
        self._process.send_signal(signal.SIGTERM)
        status = self.wait(STOP_S)
        assert status == 0, f"{self.name}: stopped with status {status}, expected 0\n{self.tail()}"

    def wait(self, timeout_s: float) -> int:
        """The exit status. Raises: AssertionError."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name}: not ended within {timeout_s:.0f} s\n{self.tail()}") from None

    def tail(self) -> str:
        """The end of what it said and logged."""
        status = "running" if self.running else f"ended with status {self._process.returncode}"
        return f"--- {self.name} ({status})\n{self.said[-_LOG_TAIL:]}{self.log[-_LOG_TAIL:]}"


class Processes:
    """All processes of one test; a context manager that ends what still runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[Process] = []

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.all:
            if process.running:
                process.kill()

    def start(self, name: str, *arguments: object) -> Process:
        """Starts `taximeter ARGUMENTS`, without waiting for it."""
        process = Process(f"{len(self.all)}-{name}", [str(argument) for argument in arguments], self.folder)
        self.all.append(process)
        return process

    def start_serve(self, book: Path, port: int = 0, data: str = "data") -> tuple[Process, str]:
        """The whole engine in one process, without a clock of its own, and its URL."""
        periods = ("--tick", 0, "--lateness", 0, "--max-ahead", 0)
        process = self.start("serve", "serve", "--port", port, "--data", data, "--catalogue", book, *periods)
        return process, self.ready(process)

    def ready(self, process: Process) -> str:
        """The URL of a process that serves HTTP, when it answers there."""
        self.until(lambda: process.url() is not None or not process.running, f"{process.name} is ready", READY_S)
        url = process.url()
        assert url is not None, f"{process.name} ended before it was ready\n{process.tail()}"
        return url

    def load(self, url: str, *arguments: object, timeout_s: float = 60.0) -> None:
        """Sends a file of events to a door, and waits until all of it is acknowledged."""
        self.finish(self.start_load(url, *arguments), timeout_s)

    def start_load(self, url: str, *arguments: object) -> Process:
        """Begins to send a file of events, in its order unless `arguments` say otherwise."""
        return self.start("load", "load", "--url", url, "--concurrency", 1, *arguments)

    def finish(self, process: Process, timeout_s: float = 60.0) -> None:
        """Waits for a process that ends by itself, with status 0."""
        status = process.wait(timeout_s)
        assert status == 0, f"{process.name} ended with status {status}, expected 0\n{self.tails()}"

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Waits until the condition holds. Raises: AssertionError."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s:.0f} s: {what}\n{self.tails()}")
            time.sleep(_POLL_S)

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(process.tail() for process in self.all)


def free_port() -> int:
    """A port that a server can have again after it was killed."""
    while True:
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port
