"""The folder for identities of a rating worker: held by one process, and none is left behind for good."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streams.embedded.folder import FolderRefused
from taximeter.state_folder import state_folder

OTHER = """
import time
from taximeter.state_folder import state_folder
with state_folder(None) as folder:
    (folder / "00000").mkdir()
    (folder / "00000" / "a.run").write_bytes(b"identities")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def test_a_temporary_folder_goes_with_its_process() -> None:
    with state_folder(None) as folder:
        (folder / "00000").mkdir()
        (folder / "00000" / "a.run").write_bytes(b"identities")
    assert not folder.exists()


def test_what_a_killed_process_left_goes_at_the_next_start_and_what_is_held_stays(temporary: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OTHER], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        with state_folder(None) as folder:
            assert folder != left
            assert (left / "00000" / "a.run").exists()
        other.send_signal(signal.SIGKILL)
    with state_folder(None):
        assert not left.exists()
    assert list(temporary.iterdir()) == []


def test_a_named_folder_stays_and_is_held_by_one_process(temporary: Path) -> None:
    named = temporary / "state"
    with state_folder(named) as folder, pytest.raises(FolderRefused, match="is in use"), state_folder(named):
        pass
    assert folder == named
    assert named.is_dir()
    with state_folder(named):
        pass
