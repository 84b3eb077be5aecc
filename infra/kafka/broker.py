#!/usr/bin/env python3
"""One Apache Kafka broker without Docker: fetch its jars, start it, stop it, kill it.

For development, tests and the demo: one node (KRaft), on 127.0.0.1, nothing replicated. Needs Java 17 or
newer, and Maven for the first `fetch`. From a shell:

    python3 infra/kafka/broker.py start --port 0    # prints the bootstrap address and leaves the broker running
    python3 infra/kafka/broker.py stop

From a test, where the broker ends with the process that started it:

    with Broker(tmp_path) as broker:
        connect(broker.bootstrap)
        broker.kill()       # kill -9
        broker.restart()    # same port, same data

Only the standard library is used. Whatever a user can mend is raised as BrokerError and says how.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
JAVA_MIN = 17
HEAP_MIB = 512
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0

# Below the ports that systems hand out to outgoing connections. A client that retries a closed port from
# that range can connect to itself by chance, and then the killed broker finds its port taken.
FREE_PORTS = range(15_000, 30_000)

# Compiling less and collecting with one thread starts faster, uses half the processor time and, on a
# machine shared with its clients, moves more messages than the server defaults.
JVM_FLAGS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData")

SETTINGS: dict[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    # One node: nothing can be replicated.
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Few internal partitions and threads, small buffers: a quick start in a small heap.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    # Consumers of a test are there when they join, and some tests want to lose one quickly.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # After a kill -9 the controller lets the broker in again only when its old session has run out (default
    # 9 s). And a new broker waits for its next heartbeat.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "200",
    # Topics are made by who owns them, with the partitions that they need; a misspelt name is an error.
    "auto.create.topics.enable": "false",
    "message.max.bytes": str(8 * 1024 * 1024),
    "replica.fetch.max.bytes": str(8 * 1024 * 1024),
}


class BrokerError(Exception):
    """The broker cannot do what was asked; the message says why and what helps."""


# Java and the jars ------------------------------------------------------------------------------------


def find_java() -> tuple[str, str]:
    """Path of a sufficient `java` (JAVA_HOME before PATH) and what it says its version is."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    java = java or shutil.which("java")
    advice = f"Install a Java runtime, {JAVA_MIN} or newer (Debian, Ubuntu: openjdk-17-jre-headless), or set JAVA_HOME."
    if java is None:
        raise BrokerError(f"Kafka needs Java {JAVA_MIN} or newer, and no `java` was found. {advice}")
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    version = answer.stderr.strip() or answer.stdout.strip()
    found = re.search(r'version "(?:1\.)?(\d+)', version)
    if answer.returncode != 0 or found is None:
        raise BrokerError(f"`{java} -version` failed: {version or 'it said nothing'}. {advice}")
    if int(found[1]) < JAVA_MIN:
        raise BrokerError(f"Kafka needs Java {JAVA_MIN} or newer, and {java} is Java {found[1]}. {advice}")
    return java, version


def kafka_version() -> str:
    """The Kafka version that pom.xml names."""
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", (HERE / "pom.xml").read_text())
    if found is None:
        raise BrokerError(f"{HERE / 'pom.xml'} names no kafka.version")
    return found[1]


class Jars:
    """The folder with the jars of one Kafka version, a list of their hashes, and the JVM's class archive.

    `folder`: default TAXIMETER_KAFKA_JARS, else `taximeter/kafka-VERSION` in the user's cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        chosen = folder or os.environ.get("TAXIMETER_KAFKA_JARS")
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.folder = Path(chosen).absolute() if chosen else cache / "taximeter" / f"kafka-{kafka_version()}"
        self.list = self.folder / "jars.json"

    def fault(self) -> str | None:
        """What is wrong with the folder, or None: every jar is there as it was fetched."""
        try:
            listed = json.loads(self.list.read_text())
            if listed["pom"] != _sha256(HERE / "pom.xml"):
                return "fetched for another pom.xml"
            for name, digest in listed["jars"].items():
                if _sha256(self.folder / "lib" / name) != digest:
                    return f"{name} is damaged"
        except FileNotFoundError as error:
            missing = Path(error.filename)
            return "not fetched" if missing == self.list else f"{missing.name} is missing"
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"{self.list.name} is damaged"
        return None

    def classpath(self) -> str:
        """Always in the same order: the class archive is valid for one class path only."""
        return os.pathsep.join(str(jar) for jar in sorted((self.folder / "lib").glob("*.jar")))

    def archive(self, java_version: str) -> Path:
        """Where the classes that a start loads are kept, ready made, for this version of Java."""
        return self.folder / f"classes-{hashlib.sha256(java_version.encode()).hexdigest()[:12]}.jsa"

    def fetch(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Make the folder complete: mended where it is damaged, untouched where it is sound.

        Safe to call from several processes at once. Raises BrokerError without Java or Maven.
        """
        java_version = find_java()[1]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fault = self.fault()
            if fault:
                say(f"Kafka {kafka_version()}: {fault}; fetching into {self.folder}")
                self._copy_from_maven()
            if not self.archive(java_version).exists():
                say("trying the jars, and keeping the loaded classes for quick starts")
                self._try_out(self.archive(java_version))

    def _copy_from_maven(self) -> None:
        mvn = shutil.which("mvn")
        if mvn is None:
            raise BrokerError(
                f"Fetching Kafka's jars needs Maven, and no `mvn` was found. Install Maven (Debian, Ubuntu: maven), "
                f"or point TAXIMETER_KAFKA_JARS to a folder that was fetched elsewhere. Here: {self.folder}"
            )
        shutil.rmtree(self.folder / "lib", ignore_errors=True)
        for old in self.folder.glob("classes-*.jsa"):
            old.unlink()
        with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
            goal = [
                "dependency:copy-dependencies",
                f"-DoutputDirectory={temporary}/lib",
                "-DincludeScope=runtime",
                f"-DmarkersDirectory={temporary}/markers",
            ]
            command = [mvn, "-q", "-B", "-f", str(HERE / "pom.xml"), *goal]
            answer = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            lib = Path(temporary) / "lib"
            jars = {jar.name: _sha256(jar) for jar in sorted(lib.glob("*.jar"))}
            if answer.returncode != 0 or not jars:
                said = _last_lines(answer.stdout + answer.stderr, 8)
                raise BrokerError(
                    f"Maven could not fetch Kafka's jars (is its repository reachable?). It said:\n{said}"
                )
            lib.rename(self.folder / "lib")
        listed = {"pom": _sha256(HERE / "pom.xml"), "jars": jars}
        self.list.write_text(json.dumps(listed, indent=1))

    def _try_out(self, archive: Path) -> None:
        """Start and stop a broker once; the JVM writes what it loaded to `archive` when it ends."""
        with tempfile.TemporaryDirectory() as data:
            fresh = Path(data) / archive.name
            with Broker(data, jars=self.folder, jvm_flags=(f"-XX:ArchiveClassesAtExit={fresh}", "-Xlog:disable")):
                pass
            if fresh.exists():  # without it a start is slower, nothing else
                shutil.move(fresh, archive)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _last_lines(text: str, count: int) -> str:
    """The end of what a program said, without the lines of Java's stack traces."""
    return "\n".join([line for line in text.strip().splitlines() if not line.startswith("\tat ")][-count:])


# Ports and the wire -----------------------------------------------------------------------------------


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does: old connections do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    for _ in range(200):
        port = random.choice(FREE_PORTS)
        if _is_free(port):
            return port
    raise BrokerError(f"no free port found between {FREE_PORTS.start} and {FREE_PORTS.stop - 1} on {HOST}")


def _ask(port: int, api_key: int, version: int, body: bytes) -> bytes:
    """One request of Kafka's protocol and the body of its answer; OSError where there is none."""
    client = b"taximeter"
    request = struct.pack(">hhih", api_key, version, 1, len(client)) + client + body
    with socket.create_connection((HOST, port), timeout=5) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as stream:
            size = stream.read(4)
            answer = stream.read(struct.unpack(">i", size)[0]) if len(size) == 4 else b""
    if len(answer) < 4:
        raise ConnectionError("the connection ended before the answer")
    return answer[4:]


def _serves(port: int) -> bool:
    """Whether producers and consumer groups are served. Asking for them also makes a new broker ready:
    it creates the topic of the groups' offsets and reserves producer ids, which else the first client waits for."""
    try:
        group = _ask(port, 10, 0, struct.pack(">h", 1) + b"-")  # FindCoordinator: error, node, host, port
        producer = _ask(port, 22, 0, struct.pack(">hi", -1, 1000))  # InitProducerId: throttle, error, id, epoch
    except (OSError, struct.error):
        return False
    return len(producer) >= 6 and group[:2] == b"\0\0" and producer[4:6] == b"\0\0"


# The broker -------------------------------------------------------------------------------------------


class Broker:
    """One broker on one data folder.

    `data_dir` is made if it is missing and kept at the end; what is in it is the whole state, so a later
    Broker on the same folder finds the same topics. `port` 0: the port that this folder had last, or a free
    one. `settings` go over SETTINGS. `attached`: the broker is killed when this process ends in any way.
    `listeners`: more of them, name -> SSL, SASL_SSL or SASL_PLAINTEXT, each on a free port (`address(name)`); what
    they need goes into `settings`. `scram`: user -> password, known from the first start on.

    Every method blocks (from asyncio: `await asyncio.to_thread(broker.restart)`) and raises BrokerError.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        port: int = 0,
        heap_mib: int = HEAP_MIB,
        settings: Mapping[str, str] | None = None,
        jars: Path | None = None,
        jvm_flags: tuple[str, ...] = (),
        attached: bool = True,
        listeners: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.heap_mib = heap_mib
        self.settings = dict(settings or {})
        self.jars = Jars(jars)
        self.jvm_flags = jvm_flags
        self.attached = attached
        self.listeners = dict(listeners or {})
        self.scram = dict(scram or {})
        self._ports: dict[str, int] = {}
        self.log_file = self.data_dir / "broker.log"
        self._out_file = self.data_dir / "broker.out"
        self._record_file = self.data_dir / "broker.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._wanted_port = port
        self.pid, self.port = self._recorded()

    @property
    def bootstrap(self) -> str:
        """Address for clients, `host:port`; the same after every restart."""
        if not self.port:
            raise BrokerError(f"the broker on {self.data_dir} was never started: it has no address yet")
        return f"{HOST}:{self.port}"

    def address(self, listener: str) -> str:
        """Address of one of `listeners`; the same after every restart of this object."""
        return f"{HOST}:{self._ports[listener]}"

    def is_running(self) -> bool:
        """Whether the process is there, started by this object or by another process."""
        if self._process is not None:
            return self._process.poll() is None
        return self.pid != 0 and _runs_on(self.pid, self.data_dir)

    def start(self) -> Broker:
        """Start and wait until clients are served. Fetches the jars where they are missing."""
        self.pid, self.port = self._recorded()
        if self.is_running():
            raise BrokerError(f"a broker already runs on {self.data_dir}: {self.bootstrap}, process {self.pid}")
        java, java_version = find_java()
        fault = self.jars.fault()
        if fault == "not fetched":
            self.jars.fetch()
        elif fault:
            raise BrokerError(
                f"The Kafka jars in {self.jars.folder} cannot be used: {fault}. "
                f"Mend them with: python3 infra/kafka/broker.py fetch"
            )
        self._choose_port()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        archive = self.jars.archive(java_version)
        quick = [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []
        command = [java, f"-Xmx{self.heap_mib}m", *JVM_FLAGS, *quick, *self.jvm_flags]
        command += [f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}", f"-Dtaximeter.kafka.log={self.log_file}"]
        command += ["-cp", self.jars.classpath()]
        self._write_settings()
        self._format(command)
        self._launch(command)
        self._wait_until_served()
        return self

    def stop(self) -> None:
        """End cleanly; kill what has not ended after STOP_TIMEOUT_S. Nothing happens where nothing runs."""
        self._signal(signal.SIGTERM)
        if not self._wait_until_gone(STOP_TIMEOUT_S):
            self.kill()
        self._forget_process()

    def kill(self) -> None:
        """kill -9: what the broker had only in its own memory is lost, its files stay as they are."""
        self._signal(signal.SIGKILL)
        if not self._wait_until_gone(STOP_TIMEOUT_S):
            raise BrokerError(f"process {self.pid} did not end within {STOP_TIMEOUT_S:.0f} s of its kill")
        self._forget_process()

    def restart(self) -> Broker:
        """Start again on the same port and data, after `kill` or `stop`, or instead of them."""
        self.stop()
        return self.start()

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _recorded(self) -> tuple[int, int]:
        """Process id (0: none) and port (0: none yet) that the data folder remembers."""
        try:
            record = json.loads(self._record_file.read_text())
            return int(record["pid"]), int(record["port"])
        except FileNotFoundError:
            return 0, 0
        except (ValueError, KeyError, TypeError) as error:
            raise BrokerError(f"{self._record_file} is damaged ({error}): end its broker by hand, remove it") from None

    def _choose_port(self) -> None:
        wanted = self._wanted_port or self.port
        if wanted and not _is_free(wanted):
            raise BrokerError(
                f"Port {wanted} on {HOST} is taken, maybe by another broker. "
                f"Choose another with --port, or any free one with --port 0."
            )
        self.port = wanted or _free_port()
        self._wanted_port = self.port  # clients hold on to the address: it does not change any more

    def _write_settings(self) -> None:
        controller = f"{HOST}:{_free_port()}"
        for name in self.listeners:
            self._ports.setdefault(name, _free_port())
        served = ",".join(f"{name}://{HOST}:{port}" for name, port in {"BROKER": self.port, **self._ports}.items())
        protocols = [SETTINGS["listener.security.protocol.map"], *map(":".join, self.listeners.items())]
        settings = SETTINGS | {
            "listeners": f"{served},CONTROLLER://{controller}",
            "advertised.listeners": served,
            "listener.security.protocol.map": ",".join(protocols),
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(self.data_dir / "log"),
        }
        lines = [f"{key}={value}\n" for key, value in (settings | self.settings).items()]
        (self.data_dir / "server.properties").write_text("".join(lines))

    def _format(self, command: list[str]) -> None:
        if (self.data_dir / "log" / "meta.properties").exists():
            return
        # Kafka's tools take an id that begins with "-" for an option.
        cluster = "T" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster]
        for user, password in self.scram.items():
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                tool += ["--add-scram", f"{mechanism}=[name={user},password={password}]"]
        answer = subprocess.run(
            [*command, *tool, "-c", str(self.data_dir / "server.properties")],
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            said = _last_lines(answer.stdout + answer.stderr, 8)
            raise BrokerError(f"Kafka could not prepare its data folder {self.data_dir}:\n{said}")

    def _launch(self, command: list[str]) -> None:
        with self._out_file.open("wb") as out:
            self._process = subprocess.Popen(
                [*command, "kafka.Kafka", str(self.data_dir / "server.properties")],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the clients; they end before their broker does
            )
        self.pid = self._process.pid
        self._record_file.write_text(json.dumps({"pid": self.pid, "port": self.port}))
        if self.attached:
            # Reads from a pipe that only this process can write to: it ends when this process does, even killed.
            watch = 'read _; kill -9 "$0" 2>/dev/null'
            self._watcher = subprocess.Popen(
                ["sh", "-c", watch, str(self.pid)], stdin=subprocess.PIPE, start_new_session=True
            )

    def _wait_until_served(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _serves(self.port):
            late = time.monotonic() > deadline
            if late or not self.is_running():
                reason = f"did not serve within {START_TIMEOUT_S:.0f} s" if late else "ended while starting"
                self.kill()
                raise BrokerError(f"Kafka {reason}. The end of {self._out_file} and {self.log_file}:\n{self._said()}")
            time.sleep(0.02)

    def _said(self) -> str:
        texts = [file.read_text(errors="replace") for file in (self._out_file, self.log_file) if file.exists()]
        return "\n".join(_last_lines(text, 12) for text in texts)

    def _signal(self, number: signal.Signals) -> None:
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _wait_until_gone(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _forget_process(self) -> None:
        self._process = None
        if self.pid:
            self.pid = 0
            self._record_file.write_text(json.dumps({"pid": 0, "port": self.port}))
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None


def _runs_on(pid: int, data_dir: Path) -> bool:
    """Whether process `pid` is the broker of this folder, and not a stranger that got its number later."""
    try:
        if Path("/proc/self/cmdline").exists():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        else:
            ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
            command = subprocess.run(ps, capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    return str(data_dir / "server.properties") in command


# The command line -------------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fetch(options: argparse.Namespace) -> int:
    """Complete the jars in the cache."""
    jars = Jars(options.jars)
    jars.fetch(_say)
    _say(f"Kafka {kafka_version()} is ready in {jars.folder}")
    return 0


def classpath(options: argparse.Namespace) -> int:
    """Print the jars as a class path: clients of Kafka and Jackson are among them."""
    jars = Jars(options.jars)
    jars.fetch(_say)
    print(jars.classpath())
    return 0


def start(options: argparse.Namespace) -> int:
    """Start a broker that outlives this command; its address goes to standard output."""
    broker = Broker(options.data, port=options.port, heap_mib=options.heap, jars=options.jars, attached=False)
    if broker.is_running():
        _say(f"already running on {broker.data_dir}, process {broker.pid}")
    else:
        if broker.jars.fault() == "not fetched":
            broker.jars.fetch(_say)
        begun = time.monotonic()
        broker.start()
        _say(
            f"Kafka {kafka_version()} started in {time.monotonic() - begun:.1f} s, process {broker.pid}, "
            f"data and log in {broker.data_dir}"
        )
    print(broker.bootstrap)
    return 0


def stop(options: argparse.Namespace) -> int:
    """Stop the broker of a data folder; its data stay."""
    broker = Broker(options.data)
    _say(f"stopping process {broker.pid}" if broker.is_running() else f"nothing runs on {broker.data_dir}")
    broker.stop()
    return 0


def status(options: argparse.Namespace) -> int:
    """Say whether a broker runs on a data folder: exit code 0 if it serves, 1 if not."""
    broker = Broker(options.data)
    if not broker.is_running():
        print(f"not running ({broker.data_dir})")
        return 1
    serves = _serves(broker.port)
    print(f"{'serving' if serves else 'running, but it does not answer'}: {broker.bootstrap}, process {broker.pid}")
    return 0 if serves else 1


def main(arguments: list[str] | None = None) -> int:
    """Entry of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="One Kafka broker without Docker, for development and tests.")
    commands = parser.add_subparsers(required=True, metavar="fetch | classpath | start | stop | status")
    for command in (fetch, classpath, start, stop, status):
        sub = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
        if command in (fetch, classpath, start):
            sub.add_argument("--jars", type=Path, help="folder of the jars (default: in the user's cache)")
        if command not in (fetch, classpath):
            data = HERE.parent.parent / "data" / "kafka"
            sub.add_argument("--data", type=Path, default=data, help="data folder (default: data/kafka in the project)")
        if command is start:
            sub.add_argument("--port", type=int, default=9092, help="0: any free one (default: %(default)s)")
            sub.add_argument("--heap", type=int, default=HEAP_MIB, help="MiB of heap (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        return int(options.command(options))
    except BrokerError as error:
        _say(f"error: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
