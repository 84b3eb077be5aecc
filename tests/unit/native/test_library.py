"""The compiled library is built from these sources, is used, and can be left out."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from native import build, library
from schemas.numbers import ONE

ROOT = Path(__file__).resolve().parents[3]


def test_it_is_built_and_used() -> None:
    assert build.built() is not None
    scale = library.function("tx_scale", ctypes.c_int64)
    assert scale is not None and scale() == ONE


def _run(setting: str, code: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, library.SETTING: setting, **more}
    return subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_can_be_left_out() -> None:
    done = _run("off", "from native.library import function; assert function('tx_scale', None) is None")
    assert (done.returncode, done.stderr) == (0, "")


_ELSEWHERE = "import native.build as b, pathlib; b.FOLDER = pathlib.Path('/nonexistent'); import native.library"


def test_where_it_is_missing_that_is_said() -> None:
    done = _run("auto", _ELSEWHERE)
    assert done.returncode == 0
    assert "everything runs in Python, slower: build it with `python -m native.build`" in done.stderr


def test_where_it_is_required_and_missing_nothing_starts() -> None:
    done = _run("require", _ELSEWHERE)
    assert done.returncode == 1
    assert "NativeMissing: the compiled library is not there (TAXIMETER_NATIVE=require)" in done.stderr


def test_a_wrong_setting_is_named() -> None:
    assert "TAXIMETER_NATIVE is 'yes': expected auto, off or require" in _run("yes", "import native.library").stderr


def test_a_changed_source_has_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build.target().name
    (tmp_path / "src").mkdir()
    for source in build.sources():
        (tmp_path / "src" / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(build, "HERE", tmp_path)
    assert build.target().name == before
    (tmp_path / "src" / "hash.c").write_text("/* other */\n")
    assert build.target().name != before
