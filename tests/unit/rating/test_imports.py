"""The engine stands alone: importing it brings neither Faust nor Kafka nor a web server."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOREIGN = [
    "faust",
    "mode",
    "aiokafka",
    "confluent_kafka",
    "starlette",
    "uvicorn",
    "httpx",
    "sqlite3",
    "duckdb",
    "click",
]


@pytest.mark.parametrize("module", ["rating.engine", "taximeter.rate_file"])
def test_a_fresh_interpreter_that_imports_the_engine_has_no_broker_in_it(module: str) -> None:
    code = f"import {module}, sys; print(*sorted(name for name in {FOREIGN} if name in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == []


def test_an_embedded_server_starts_without_kafkas_clients() -> None:
    kafka = ["faust", "mode", "aiokafka", "confluent_kafka", "aiohttp", "fastavro"]
    code = f"import taximeter.serve, sys; print(*sorted(name for name in {kafka} if name in sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout.split(), run.stderr) == (0, [], "")
