"""Files and folders that survive a power cut: a new file is safe only when the folder that names it is synced too."""

import os
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_NAME_BYTES: Final = 16
_CHUNK_BYTES: Final = 4 * 1024 * 1024


def local_folder(url: str) -> Path | None:
    """The absolute folder that a path or `file://` names; None for an object store."""
    if "://" not in url:
        return Path(url).absolute()
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def write_durably(path: Path, parts: Iterable[bytes], before_naming: Callable[[], object] = lambda: None) -> None:
    """Writes a file that is there whole or not at all, and stays through a power cut.

    The object store library renames a temporary file too, but does not fsync: after a power cut the name could
    stand over nothing. So the file is synced before it gets its name, and the folders after. Raises: OSError.
    """
    make_folder(path.parent)
    for leftover in path.parent.glob("*.tmp"):
        leftover.unlink(missing_ok=True)  # of a crash in the middle of a file
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        before_naming()
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_named(folder: Path, parts: Iterable[bytes | memoryview], suffix: str) -> Path:
    """Writes a file that is named by its content: there whole or not at all, then durable. Raises: OSError.

    `<BLAKE2b of the content, 32 hexadecimal digits><suffix>`: one name never has two contents.
    """
    make_folder(folder)
    temporary = folder / f"{os.getpid()}-{id(parts)}.tmp"
    digest = blake2b(digest_size=_NAME_BYTES)
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
                digest.update(part)
            file.flush()
            os.fsync(file.fileno())
        path = folder / (digest.hexdigest() + suffix)
        temporary.replace(path)
    except BaseException:  # of the disk, or of whoever makes the parts
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    return path


def is_whole(path: Path, name: str) -> bool:
    """Whether a file holds what `write_named` named `name`. Raises: OSError."""
    digest = blake2b(digest_size=_NAME_BYTES)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return name.startswith(digest.hexdigest())


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
