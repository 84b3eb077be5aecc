"""The folder of what a rating worker keeps on disk: one that is named, or a temporary one of its own."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from streams.embedded.folder import FolderLock, FolderRefused

_PREFIX: Final = "taximeter-rate-"


@contextmanager
def state_folder(named: Path | None) -> Iterator[Path]:
    """The folder, held against other processes; a temporary one goes when this process ends in order, and if it does
    not, when the next one starts. Raises: FolderRefused, OSError.
    """
    if named is None:
        _clear_temporary()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    else:
        folder = named
    lock = FolderLock(folder)
    try:
        yield folder
    finally:
        lock.release()
        if named is None:
            shutil.rmtree(folder, ignore_errors=True)


def _clear_temporary() -> None:
    """Removes the temporary folders of processes that were killed: those that nobody holds."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if (folder / "lock").exists():
            try:
                FolderLock(folder).release()
            except FolderRefused:
                continue
            shutil.rmtree(folder, ignore_errors=True)
