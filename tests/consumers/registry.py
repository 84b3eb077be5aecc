"""A real schema registry (Apicurio's, which answers as Confluent's does), fetched by Maven and started here."""

import fcntl
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from types import ModuleType

import httpx

from tests.end_to_end.processes import free_port

VERSION = "3.0.9"
"""The last that runs on Java 17."""
_READY_S = 90.0


def fetch() -> Path:
    """The folder of the registry's jars; downloaded once into the user's cache. Raises: AssertionError."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taximeter"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"apicurio-registry-{VERSION}"
    with (cache / ".apicurio.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            maven = shutil.which("mvn")
            assert maven is not None, "the test of the schema registry needs Maven, to fetch one (Debian: maven)"
            with tempfile.TemporaryDirectory(dir=cache) as temporary:
                # Later versions of Maven's plugin ask for the POMs of parents, which the archive does not need.
                goal = ["org.apache.maven.plugins:maven-dependency-plugin:2.8:get", "-Dtransitive=false"]
                artifact = f"-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
                command = [maven, "-q", "-B", *goal, artifact, f"-Dmaven.repo.local={temporary}"]
                done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
                archives = list(Path(temporary).rglob("apicurio-*.tar.gz"))
                assert archives, f"Maven could not fetch the registry:\n{(done.stdout + done.stderr)[-2000:]}"
                unpacked = Path(temporary) / "unpacked"
                with tarfile.open(archives[0]) as archive:
                    archive.extractall(unpacked, filter="data")
                unpacked.rename(folder)
    return folder


class SchemaRegistry:
    """One registry that keeps everything in memory; a context manager. `url` is that of its Confluent interface."""

    def __init__(self, broker_module: ModuleType, folder: Path) -> None:
        self._java, _ = broker_module.find_java()
        self._folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "SchemaRegistry":
        jars = fetch()
        settings = [f"-Dquarkus.http.port={self.port}", "-Dquarkus.http.host=127.0.0.1"]
        jar = next(jars.glob("*-runner.jar"))
        command = [self._java, "-Xmx256m", "-XX:TieredStopAtLevel=1", *settings, "-jar", str(jar)]
        log = (self._folder / "registry.log").open("wb")
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=subprocess.STDOUT)
        log.close()
        deadline = time.monotonic() + _READY_S
        while not self._answers():
            text = (self._folder / "registry.log").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None and time.monotonic() < deadline, f"the registry is not ready:\n{text}"
            time.sleep(0.2)
        return self

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/subjects", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def get(self, path: str) -> object:
        """The JSON that it answers."""
        answer = httpx.get(self.url + path, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
