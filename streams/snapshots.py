"""Snapshots: a partition's state together with the position that it includes, in a folder or an object store.

One file for each snapshot, `<processor>/<partition>/<position>-<epoch>.snapshot`; the last two are kept. A file is
a header (magic, format version, position, journal offset, epoch, length of the state), the state as the processor
gave it, and a BLAKE2b checksum of all that stands before it. That the checksum ends the file holds for every format
version, so a damaged file can be told from one of a newer version. Nothing is unpickled.

A host writes a snapshot only of a state whose steps the journal has accepted, so of two snapshots the one with the
greater position is the newer, whoever wrote it.
"""

import logging
import os
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from streams.durable import make_folder, sync_folder
from streams.faults_hook import fault

FORMAT_VERSION: Final = 1
KEPT: Final = 2

_MAGIC: Final = b"TAXISNAP"
_HEADER: Final = struct.Struct(">8sHQQQQ")  # magic, version, position, journal offset, epoch, length of the state
_CHECKSUM_BYTES: Final = 32
_NAME = re.compile(r"(\d{20})-(\d{10})\.snapshot\Z")
_PROCESSOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")

_logger = logging.getLogger(__name__)


class SnapshotError(RuntimeError):
    """The store cannot be reached or written, or holds a snapshot of a newer format version."""


class _Damaged(Exception):
    """The bytes are no whole snapshot; the message says what was found."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state, and the positions to go on from."""

    position: int
    """The offset of the first source entry that the state does not include."""
    journal_offset: int
    """The offset of the first journal record that the state does not include."""
    epoch: int
    """The epoch that was open when the snapshot was taken."""
    state: bytes


class SnapshotStore:
    """The snapshots of all processors and partitions under one place. Its calls block; threads may share a store.

    `url`: a folder's path, or `file://`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://account/container/prefix`,
    `memory:///` (for tests). Credentials come from the environment, as the cloud's own tools read them.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url)
        self._folder = _local_folder(self.url)
        try:
            if self._folder is None:
                self._store: ObjectStore = from_url(self.url)
            else:
                make_folder(self._folder)
                self._store = LocalStore(self._folder)
        except (BaseError, OSError, ValueError) as error:
            raise SnapshotError(f"cannot use {self.url} for snapshots: {error}") from error
        self._damaged: set[str] = set()

    def save(self, processor: str, partition: int, snapshot: Snapshot) -> None:
        """Writes a snapshot: whole or not at all, durable when this returns. Then removes all but the last two.

        Raises: SnapshotError; the earlier snapshots stand then as they did.
        """
        prefix = _prefix(processor, partition)
        path = f"{prefix}/{snapshot.position:020d}-{snapshot.epoch:010d}.snapshot"
        try:
            if self._folder is None:
                obstore.put(self._store, path, b"".join(_encode(snapshot)))
            else:
                _write_durably(self._folder / path, _encode(snapshot))
            self._damaged.discard(path)
            self._remove_old(prefix)
        except (BaseError, OSError) as error:
            raise SnapshotError(f"cannot write the snapshot {path} to {self.url}: {error}") from error

    def load(self, processor: str, partition: int) -> Snapshot | None:
        """The newest whole snapshot; None where there is none. A damaged one is passed over with a warning.

        Raises: SnapshotError where the store cannot be read or the newest whole snapshot is of a newer format.
        """
        for path in self._paths(_prefix(processor, partition)):
            try:
                return _decode(bytes(obstore.get(self._store, path).bytes()), path)
            except FileNotFoundError:
                continue  # another process has just removed it; it has written a newer one
            except _Damaged as damage:
                self._damaged.add(path)
                _logger.warning("skipped the damaged snapshot %s in %s: %s", path, self.url, damage)
            except (BaseError, OSError) as error:
                raise SnapshotError(f"cannot read the snapshot {path} from {self.url}: {error}") from error
        return None

    def _paths(self, prefix: str) -> list[str]:
        """The paths of a partition's snapshots, the newest first. Temporary files have other names."""
        try:
            listed = [meta["path"] for chunk in obstore.list(self._store, f"{prefix}/") for meta in chunk]
        except (BaseError, OSError) as error:
            raise SnapshotError(f"cannot list the snapshots {prefix} in {self.url}: {error}") from error
        return sorted((path for path in listed if _NAME.search(path)), reverse=True)

    def _remove_old(self, prefix: str) -> None:
        """Keeps the last two whole ones; a damaged one counts for nothing and goes too."""
        paths = self._paths(prefix)
        damaged = [path for path in paths if path in self._damaged]
        whole = [path for path in paths if path not in self._damaged]
        for path in [*whole[KEPT:], *damaged]:
            with suppress(FileNotFoundError):  # another process may be quicker
                obstore.delete(self._store, path)
            self._damaged.discard(path)


def _local_folder(url: str) -> Path | None:
    """The absolute folder that a path or `file://` names; None for an object store."""
    if "://" not in url:
        return Path(url).absolute()
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _prefix(processor: str, partition: int) -> str:
    if not _PROCESSOR.match(processor):
        raise ValueError(f"found the processor name {processor!r}, expected letters, digits and . _ -, at most 64")
    return f"{processor}/{partition:05d}"


def _encode(snapshot: Snapshot) -> tuple[bytes, bytes, bytes]:
    """Header, state, checksum: apart, so that a large state is not copied."""
    header = _HEADER.pack(
        _MAGIC, FORMAT_VERSION, snapshot.position, snapshot.journal_offset, snapshot.epoch, len(snapshot.state)
    )
    checksum = blake2b(header, digest_size=_CHECKSUM_BYTES)
    checksum.update(snapshot.state)
    return header, snapshot.state, checksum.digest()


def _decode(data: bytes, path: str) -> Snapshot:
    """Raises: _Damaged; SnapshotError on a whole file of a newer version."""
    if len(data) < _HEADER.size + _CHECKSUM_BYTES:
        raise _Damaged(f"found {len(data)} bytes, expected at least {_HEADER.size + _CHECKSUM_BYTES}")
    body = memoryview(data)[:-_CHECKSUM_BYTES]
    if blake2b(body, digest_size=_CHECKSUM_BYTES).digest() != data[-_CHECKSUM_BYTES:]:
        raise _Damaged(f"the checksum of its {len(data)} bytes does not agree")
    magic, version, position, journal_offset, epoch, length = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise _Damaged(f"found the magic {magic!r}, expected {_MAGIC!r}")
    if version > FORMAT_VERSION:
        raise SnapshotError(
            f"the snapshot {path} has the format version {version}, this program reads up to {FORMAT_VERSION}: "
            "run the version of Taximeter that wrote it, or a later one"
        )
    state = bytes(body[_HEADER.size :])
    if len(state) != length:
        raise _Damaged(f"found a state of {len(state)} bytes, expected {length}")
    return Snapshot(position, journal_offset, epoch, state)


def _write_durably(path: Path, parts: tuple[bytes, ...]) -> None:
    """Writes a file that is there whole or not at all, and stays through a power cut.

    The object store library renames a temporary file too, but does not fsync: after a power cut the name could
    stand over nothing. So the file is synced before it gets its name, and the folders after. Raises: OSError.
    """
    make_folder(path.parent)
    for leftover in path.parent.glob("*.tmp"):
        leftover.unlink(missing_ok=True)  # of a crash in the middle of a snapshot
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        fault("in_snapshot")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
