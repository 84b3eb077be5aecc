"""A data folder that was killed in the middle of its work, made once; each test damages a copy."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.face.running import Server
from tests.repair.damage import bills, consumers_view, usage


@dataclass
class Folder:
    """A killed server's folder, and what it comes to where nothing is damaged."""

    data: Path
    bills: dict[str, Any]
    view: dict[str, dict[bytes, tuple[int, bytes]]]


@pytest.fixture(scope="session")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Two snapshots from clean stops, a journal behind them, and a kill.

    Look at copies only: SQLite puts a write-ahead log away when it closes a file."""
    data = tmp_path_factory.mktemp("killed") / "data"
    for run in range(3):
        with Server(data) as server:
            for part in range(4):
                position = server.send(usage(50, 1000 * run + 50 * part))
                server.get("/v1/customers/c1/spend", position)  # the engine has come so far: a step of its own
            server.get("/v1/invoices", server.tick(f"2026-11-2{7 + run}T00:00:00Z"))
            if run < 2:
                assert server.stop()[0] == 0
    copy = data.parent / "whole"
    shutil.copytree(data, copy)
    return Folder(data, bills(copy), consumers_view(copy))


@pytest.fixture
def damaged(killed: Folder, tmp_path: Path) -> Callable[[Callable[[Path], object]], Path]:
    """A copy of the folder, with this done to it."""

    def copy(damage: Callable[[Path], object]) -> Path:
        data = tmp_path / "data"
        shutil.copytree(killed.data, data)
        damage(data)
        return data

    return copy
