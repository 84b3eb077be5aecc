"""Who takes part: how each is installed and started, and what it does not do."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.rivals.job import Lines, read_plain

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
BUILD: Final = ROOT / "build" / "rivals"


class NotInstalled(Exception):
    """It could not be installed here; the message says why."""


class Place(NamedTuple):
    """Where a contender finds its events and leaves its lines; a folder of its own."""

    bootstrap: str
    source: str
    out: str
    folder: Path


@dataclass(frozen=True)
class Contender:
    """One program over Kafka. `events`: how many it is given, by its speed, so that a run takes seconds."""

    name: str
    title: str
    version: str
    events: int
    lacks: str
    """What it does not do, of what Taximeter does."""
    install: Callable[[], None]
    command: Callable[[Place], list[str | Path]]
    environment: Callable[[Place], Mapping[str, str]] = field(default=lambda place: {})
    read: Callable[[Iterable[bytes]], Lines] = read_plain


def streaming() -> list[Contender]:
    """All but Taximeter itself, which needs a door before and a clean prefix (`taximeter_runs`)."""
    lacks = "prices as data, forgetting identities, conflicts, invoices, an audit"
    faust = _pinned("faust", "faust-streaming")
    return [
        *(
            Contender(
                name, title, f"faust-streaming {faust}", events, f"exactly-once, {lacks}", lambda: _venv("faust"),
                lambda place, how=how, store=store: [
                    _python("faust"), HERE / "faust" / "agent.py", *_words(place), how, store,
                ],
            )
            for name, title, events, how, store in (
                ("faust", "Faust, Tables in memory", 60_000, "each", "memory"),
                ("faust-take", "Faust, Tables in memory, batches by take()", 60_000, "take", "memory"),
                ("faust-rocksdb", "Faust, Tables in RocksDB", 60_000, "each", "rocksdb"),
            )
        ),
        Contender(
            "quix", "Quix Streams, RocksDB", f"quixstreams {_pinned('quix', 'quixstreams')}", 100_000,
            f"exactly-once (a setting), {lacks}", lambda: _venv("quix"),
            lambda place: [_python("quix"), HERE / "quix" / "app.py", *_words(place)],
        ),
        Contender(
            "bytewax", "Bytewax, in memory", f"bytewax {_pinned('bytewax', 'bytewax')}", 300_000,
            f"surviving its process (as run), {lacks}", lambda: _venv("bytewax"),
            lambda place: [_python("bytewax"), "-m", "bytewax.run", HERE / "bytewax" / "flow.py"],
            lambda place: {"RIVALS": f"{place.bootstrap} {place.source} {place.out}"},
        ),
        Contender(
            "pathway", "Pathway, in memory", f"pathway {_pinned('pathway', 'pathway')}", 300_000,
            f"surviving its process (as run), {lacks}", lambda: _venv("pathway"),
            lambda place: [_python("pathway"), HERE / "pathway" / "query.py", *_words(place)[:3]],
            lambda place: {"PATHWAY_THREADS": "1", "PATHWAY_MONITORING_SERVER": ""},
        ),
        *(
            Contender(
                f"kafka-streams{suffix}", f"Kafka Streams, {title}", "kafka-streams 4.3.1, Java 17", 500_000,
                f"exactly-once (a setting), {lacks}", _java,
                lambda place, store=store: [
                    "java", "-Xmx2g", "-cp", f"{BUILD}/kafka_streams/classes:{BUILD}/kafka_streams/lib/*", "Rate",
                    *_words(place), store,
                ],
            )
            for suffix, title, store in (("", "in memory", "memory"), ("-rocksdb", "RocksDB", "rocksdb"))
        ),
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """What every process is given: this project on its path, threads that are counted."""
    return {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}


def _words(place: Place) -> list[str]:
    return [place.bootstrap, place.source, place.out, str(place.folder)]


def _python(name: str) -> Path:
    return BUILD / name / "bin" / "python"


def _pinned(name: str, package: str) -> str:
    for line in (HERE / name / "requirements.txt").read_text().splitlines():
        if line.startswith(package):
            return line.partition("==")[2]
    raise AssertionError(f"{name}/requirements.txt does not pin {package}")


def _venv(name: str) -> None:
    """An environment of its own, made again where its requirements have changed. Raises: NotInstalled."""
    wanted = HERE / name / "requirements.txt"
    folder, mark = BUILD / name, hashlib.sha256(wanted.read_bytes()).hexdigest()
    stamp = folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == mark:
        return
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", folder])
    _run([_python(name), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", wanted])
    stamp.write_text(mark)


def _java() -> None:
    """The jars by Maven, the class by javac. Raises: NotInstalled."""
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            raise NotInstalled(f"no `{tool}` on the path (Debian, Ubuntu: openjdk-17-jdk-headless and maven)")
    source, folder = HERE / "kafka_streams", BUILD / "kafka_streams"
    if not (folder / "lib").exists():
        unfinished = folder / "lib.unfinished"
        _run(["mvn", "-q", "-B", "-f", source / "pom.xml", "dependency:copy-dependencies", "-DincludeScope=runtime",
              f"-DoutputDirectory={unfinished}"])  # fmt: skip
        unfinished.rename(folder / "lib")
    _run(["javac", "-proc:none", "-cp", f"{folder}/lib/*", "-d", folder / "classes", source / "Rate.java"])


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise NotInstalled(f"`{' '.join(map(str, command[:4]))} …` failed: {' / '.join(last)}")
