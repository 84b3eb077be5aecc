"""The program's processes, and the supervisor that the program asks for: what ends is started again."""

import contextlib
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from native.library import SETTING as NATIVE

ROOT: Final = Path(__file__).resolve().parents[2]
READY_S: Final = 60.0
STOP_S: Final = 40.0
_RESTART_PAUSE_S: Final = 0.3
_PORTS: Final = range(15_000, 30_000)
"""Below those that outgoing connections get: a client that tries a closed port again cannot meet itself there."""
_given: set[int] = set()
_TAIL: Final = 3000


class HarnessError(RuntimeError):
    """The run could not go on: a process that never became ready, a wait that had no end. With the ends of the logs."""


class Member:
    """One place in the deployment: a command that is started, ends in some way, and is started again."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self.command = list(command)
        self.keep = True
        """Whether the supervisor starts it again."""
        self.fault = ""
        """TAXIMETER_FAULT of the next start only."""
        self.memory: int | None = None
        """Bytes of address space of the next start only."""
        self.exits: list[int] = []
        """The status of every start that has ended, killed or not."""
        self.stopped_itself: list[int] = []
        """Those that nobody had ordered."""
        self.started_at = 0.0
        self._ordered = self._noted = False
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        self._said_before = 0
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; what it says is appended to its files."""
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("TAXIMETER_", "KAFKA_")) or key == NATIVE
        }
        environment |= {"PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": "1"}
        if self.fault:
            environment["TAXIMETER_FAULT"] = self.fault
            self.fault = ""
        self._said_before = self._out.stat().st_size if self._out.exists() else 0
        self._ordered = self._noted = False
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self._process = subprocess.Popen(
                self.command, cwd=self._folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        if self.memory is not None:
            self.limit(resource.RLIMIT_AS, self.memory)
            self.memory = None
            self._ordered = True  # it will die of it
        self.started_at = time.monotonic()

    @property
    def pid(self) -> int:
        """Of the newest start; 0 before the first."""
        return self._process.pid if self._process is not None else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def said(self) -> str:
        """What this start has printed."""
        if not self._out.exists():
            return ""
        return self._out.read_bytes()[self._said_before :].decode(errors="replace")

    @property
    def ready(self) -> bool:
        """Whether this start has said so."""
        return ": ready" in self.said()

    def signal(self, number: int) -> None:
        """A signal that is no end (SIGSTOP, SIGCONT)."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def standing_still(self) -> bool:
        """Whether a signal has stopped it."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    def kill(self) -> bool:
        """kill -9. False where it had ended before."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._ordered = True
        self._process.kill()
        self._process.wait(STOP_S)
        return True

    def stop(self, keep: bool = False) -> int | None:
        """SIGTERM, and its status; None where it had to be killed, or does not run. Started again only with `keep`."""
        self.keep = keep
        if self._process is None or self._process.poll() is not None:
            return None
        self._ordered = True
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S)
            return None

    def wait(self, seconds: float) -> int | None:
        """The status when it ends; None where it does not in time."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def order_end(self) -> None:
        """Its end has been ordered by other means (a fault inside, a limit)."""
        self._ordered = True

    def limit(self, what: int, soft: int | None) -> None:
        """Sets a soft resource limit of the running process; None takes it away again."""
        with contextlib.suppress(ProcessLookupError, OSError):
            _, hard = resource.prlimit(self.pid, what)
            resource.prlimit(self.pid, what, (hard if soft is None else soft, hard))

    def address_space(self) -> int:
        """Bytes of virtual memory that it has now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[0])
        return pages * resource.getpagesize()

    def note_end(self) -> bool:
        """Writes an end down once. Whether there was one."""
        if self._process is None or self._noted or self._process.poll() is None:
            return False
        self._noted = True
        self.exits.append(self._process.returncode)
        if not self._ordered:
            self.stopped_itself.append(self._process.returncode)
        return True

    @property
    def gone(self) -> bool:
        """Whether it has ended, and that is written down."""
        return self._noted

    def log(self) -> str:
        """All that it has logged."""
        return self._err.read_text(errors="replace") if self._err.exists() else ""

    def tail(self) -> str:
        """The end of what it said and logged."""
        state = "running" if self.running else f"ended, statuses {self.exits[-3:]}"
        return f"--- {self.name} ({state})\n{self.said()[-_TAIL:]}{self.log()[-_TAIL:]}"


class Fleet:
    """All members, and the thread that starts again what has ended. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.members: list[Member] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def __enter__(self) -> "Fleet":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for member in self.members:
            member.signal(signal.SIGCONT)
            member.kill()

    def add(
        self, name: str, *arguments: object, module: str = "taximeter", keep: bool = True, fault: str = ""
    ) -> Member:
        """Starts `python -m MODULE ARGUMENTS`; `keep`: start it again whenever it ends; `fault`: TAXIMETER_FAULT."""
        command = [sys.executable, "-m", module, *map(str, arguments)]
        member = Member(name, command, self.folder)
        member.keep, member.fault = keep, fault
        member.start()
        self.members.append(member)
        return member

    def remove(self, member: Member) -> None:
        """Ends a member for good."""
        member.keep = False
        member.signal(signal.SIGCONT)
        member.kill()
        self.members.remove(member)

    def wait_ready(self, member: Member, seconds: float = READY_S) -> None:
        """Until it says so. Raises: HarnessError."""
        self.until(lambda: member.ready, f"{member.name} is ready", seconds)

    def wait_standing_still(self, member: Member, seconds: float = READY_S) -> None:
        """Until a signal has stopped it. Raises: HarnessError."""
        self.until(member.standing_still, f"{member.name} stands still", seconds)

    def wait_logged(self, member: Member, words: str, before: int, seconds: float = READY_S) -> None:
        """Until it has logged these words more than `before` times. Raises: HarnessError."""
        self.until(lambda: member.log().count(words) > before, f"{member.name} logs {words!r}", seconds)

    def wait_ended(self, member: Member, times: int, seconds: float = READY_S) -> None:
        """Until it has ended so many times in all. Raises: HarnessError."""
        self.until(lambda: len(member.exits) >= times, f"{member.name} has ended {times} times", seconds)

    def until(self, condition: Callable[[], bool], what: str | Callable[[], str], seconds: float) -> None:
        """Until the condition holds. Raises: HarnessError."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                tails = "\n".join(member.tail() for member in self.members)
                raise HarnessError(f"not within {seconds:.0f} s: {what if isinstance(what, str) else what()}\n{tails}")
            time.sleep(0.02)

    def _supervise(self) -> None:
        ended_at: dict[str, float] = {}
        while not self._ended.wait(0.05):
            for member in list(self.members):
                if member.note_end():
                    ended_at[member.name] = time.monotonic()
                elif member.gone and member.keep and time.monotonic() - ended_at[member.name] > _RESTART_PAUSE_S:
                    member.start()


def free_port() -> int:
    """A port that a server can have again after it was killed."""
    while True:
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port


def first_said(text: str, pattern: str) -> str:
    """The first group of the last match, or nothing."""
    found = re.findall(pattern, text)
    return found[-1] if found else ""
