"""`taximeter demo-kafka`: the demo's day over a real Kafka broker, in processes of their own, one of them killed.

A door, two rating workers that share their snapshots, and a spend server. Half way one of the workers is killed
(SIGKILL) and started again; at the end every cent must be as if nothing had happened.
"""

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from rich.console import Console

from taximeter.demo_day import catalogue_path
from taximeter.demo_run import Place, Run, prepare, run_day, until_done_or_stopped
from taximeter.demo_view import View
from taximeter.demo_watch import AnswerMissing
from taximeter.post import DoorRefused, DoorUnavailable
from taximeter.process import complain

_PARTITIONS: Final = 4
_READY_S: Final = 60.0
_STOP_S: Final = 20.0
_DOWN_S: Final = 1.0
"""How long the killed worker stays dead."""

_LOG_LINES: Final = 12
_SHARED: Final = (
    "Broker, door, workers, spend server, sender and this view share this machine, "
    "and one worker of two was dead for a while."
)
_ROOT: Final = Path(__file__).resolve().parents[1]
_BROKER: Final = _ROOT / "infra" / "kafka" / "broker.py"


class PartFailed(Exception):
    """A process that did not start, or ended on its own; the message says what it said last."""


@dataclass(slots=True)
class Part:
    """One process of the deployment. Its output goes to `log`."""

    name: str
    command: list[str]
    log: Path
    process: asyncio.subprocess.Process | None = None
    said: int = 0
    """How much of the log was there when the process was started."""

    async def start(self) -> None:
        """Starts it (again)."""
        self.said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.log.parent,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH")))),
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which ends its parts in order
            )

    async def ready(self) -> str:
        """Waits until it says that it is ready. Returns what stands behind the word. Raises: PartFailed."""
        assert self.process is not None
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            text = self.log.read_bytes()[self.said :].decode(errors="replace")
            for line in text.splitlines(keepends=True):
                if ": ready" in line and line.endswith("\n"):
                    return line.partition(": ready")[2].strip()
            if self.process.returncode is not None:
                raise PartFailed(f"{self.name} ended with the status {self.process.returncode}:\n{self._end()}")
            await asyncio.sleep(0.05)
        raise PartFailed(f"{self.name} was not ready within {_READY_S:.0f} s:\n{self._end()}")

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM; SIGKILL for what has not ended in time."""
        if self.process is None or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), _STOP_S)
        except TimeoutError:
            complain(f"{self.name} did not stop within {_STOP_S:.0f} s and was killed")
            await self.kill()

    def _end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


@dataclass(slots=True)
class Deployment:
    """The four processes. `url` by name for those that listen."""

    console: Console
    parts: dict[str, Part] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    async def start(self, folder: Path, bootstrap: str, prefix: str) -> None:
        """Starts all of them and waits until each is ready. Raises: PartFailed."""
        kafka = ["--bootstrap", bootstrap, "--prefix", prefix, "--partitions", str(_PARTITIONS)]
        # The door first: it brings the catalogue into force. The clock is the demo's own.
        door = ["--port", "0", "--max-ahead", "0", "--catalogue", str(catalogue_path())]
        rate = ["--snapshots", str(folder / "snapshots"), "--tick", "0"]
        await self._start("ingest", folder, ["ingest", *kafka, *door])
        await asyncio.gather(
            self._start("rate-1", folder, ["rate", *kafka, *rate]),
            self._start("rate-2", folder, ["rate", *kafka, *rate]),
            self._start("spend", folder, ["spend", *kafka, "--port", "0", "--data", str(folder / "spend")]),
        )
        self.console.print(
            f"Running: a door at {self.urls['ingest']}, two rating workers on {_PARTITIONS} partitions, and a spend "
            f"server at {self.urls['spend']}.",
            highlight=False,
        )

    async def stop(self) -> None:
        """Ends all of them: the door first, so that nothing comes in any more."""
        for names in (["ingest"], ["rate-1", "rate-2"], ["spend"]):
            await asyncio.gather(*(self.parts[name].stop() for name in names if name in self.parts))

    async def kill_one(self, view: View) -> None:
        """Kills a rating worker without warning and starts it again while events keep coming."""
        part = self.parts["rate-1"]
        assert part.process is not None
        await part.kill()
        view.say(f"while events come in, rating worker 1 (process {part.process.pid}) was killed with SIGKILL")
        await asyncio.sleep(_DOWN_S)
        begun = time.monotonic()
        await part.start()
        await part.ready()
        view.say(f"rating worker 1 was started again and is ready after {time.monotonic() - begun:.1f} s")

    async def _start(self, name: str, folder: Path, arguments: list[str]) -> None:
        part = Part(name, [sys.executable, "-m", "taximeter", *arguments], folder / f"{name}.log")
        self.parts[name] = part
        await part.start()
        self.urls[name] = (await part.ready()).removeprefix("at ")


async def demo_kafka(*, customers: int, events: int, seed: int, plain: bool) -> int:
    """Runs the demo. Returns 0 where every cent is as it must be, 1 where not or something failed, 130 when stopped."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="taximeter-demo-kafka-") as name:
        folder = Path(name)
        run = Run(console, folder / "demo-events.ndjson", customers, events, seed, plain)
        try:
            return await until_done_or_stopped(_demo(run, folder), console)
        except (PartFailed, DoorRefused, DoorUnavailable, AnswerMissing) as error:
            complain(f"taximeter demo-kafka: {error}")
        except OSError as error:
            complain(f"taximeter demo-kafka: {error.filename or folder}: {error.strerror or error}")
        return 1


async def _demo(run: Run, folder: Path) -> int:
    facts = await asyncio.to_thread(prepare, run)
    deployment = Deployment(run.console)
    async with _broker(run.console, folder) as (bootstrap, prefix):
        killing: list[asyncio.Task[None]] = []

        async def at_half(view: View) -> None:
            killing.append(asyncio.create_task(deployment.kill_one(view)))

        try:
            await deployment.start(folder, bootstrap, prefix)
            title = f"taximeter demo-kafka · door, 2 rating workers, spend · Kafka at {bootstrap}"
            place = Place(deployment.urls["ingest"], deployment.urls["spend"], title, at_half, _SHARED)
            status = await run_day(run, facts, place)
            await asyncio.gather(*killing)
            return status
        finally:
            for task in killing:
                task.cancel()
            await asyncio.gather(*killing, return_exceptions=True)
            await deployment.stop()


@contextlib.asynccontextmanager
async def _broker(console: Console, folder: Path) -> AsyncIterator[tuple[str, str]]:
    """A broker's address and a prefix for topics: KAFKA_BOOTSTRAP's, under names of this run's own; else a new one.

    Raises: PartFailed.
    """
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        prefix = f"demo-{uuid.uuid4().hex[:8]}."
        console.print(f"Kafka at {given} (KAFKA_BOOTSTRAP); this run's topics begin with {prefix}", highlight=False)
        yield given, prefix
        return
    module = _broker_module()
    broker: Any = module.Broker(folder / "kafka")
    try:
        await asyncio.to_thread(broker.start)
    except module.BrokerError as error:
        raise PartFailed(str(error)) from None
    try:
        console.print(f"Kafka runs at {broker.bootstrap} for this demo.", highlight=False)
        yield broker.bootstrap, ""
    finally:
        await asyncio.to_thread(broker.stop)


def _broker_module() -> ModuleType:
    """`infra/kafka/broker.py` of this repository, which is not part of the package. Raises: PartFailed."""
    spec = importlib.util.spec_from_file_location("taximeter_infra_kafka_broker", _BROKER)
    if not _BROKER.is_file() or spec is None or spec.loader is None:
        raise PartFailed(
            f"{_BROKER} is not there: run this from a checkout of the repository, or set KAFKA_BOOTSTRAP to a broker"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
