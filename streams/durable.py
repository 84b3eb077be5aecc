"""Files and folders that survive a power cut: a new file is safe only when the folder that names it is synced too."""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final
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
        _remove_if_left_over(leftover)
    with _temporary(path) as file:
        temporary = Path(file.name)
        try:
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


@contextmanager
def _temporary(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path`, locked while it is written: a lock ends with its process, so a file without one is
    what a crash left over, whoever wrote it."""
    while True:
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
        with temporary.open("xb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # another took it for a leftover before it was locked
            except OSError:
                pass  # a file system without locks: then nobody else can tell it from a leftover either
            if temporary.exists():
                yield file
                return


def _remove_if_left_over(temporary: Path) -> None:
    try:
        with temporary.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.unlink()
    except OSError:
        pass  # it is being written, or has got its name; one that cannot be removed is no hindrance


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
