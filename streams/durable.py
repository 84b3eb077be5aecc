"""Folders whose names survive a power cut: a new file is safe only when the folder that names it is synced too."""

import os
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Makes a folder and its missing parents, durably. Raises: OSError."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable. Raises: OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
