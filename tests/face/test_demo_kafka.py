"""The demo on Kafka as a user starts it: a worker is killed on the way, and every cent holds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.kafka
@pytest.mark.slow
def test_killed_worker_costs_no_cent(kafka_bootstrap: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "taximeter", "demo-kafka", "--plain", "--customers", "30", "--events", "4000"]
    environment = {**os.environ, "KAFKA_BOOTSTRAP": kafka_bootstrap, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "was killed with SIGKILL" in done.stdout and "is ready after" in done.stdout
    assert "every cent checked" in done.stdout
    # A process that is killed cannot remove its own scratch folder; nothing else may be left.
    left = [path.name for path in tmp_path.iterdir() if not path.name.startswith("taximeter-worker-")]
    assert not left
