"""Snapshots: a partition's state together with the position that it includes, in a folder or an object store.

One file for each snapshot, `<processor>/<partition>/<position>-<epoch>.snapshot`; the last two are kept. A file is
a header (magic, format version, position, journal offset, epoch, length of the state), the state as the processor
gave it, the names of the files that it rests on, and a BLAKE2b checksum of all that stands before it. That the checksum
ends the file holds for every format version, so a damaged file can be told from one of a newer version. Nothing is
unpickled.

The files that a state rests on stand beside it, in `files`, each named by its content (`streams.durable`); each is
brought there once, before the first snapshot that needs it. One that no kept snapshot names is removed an hour after
it came, not at once: another process may be about to write the snapshot that names it.

A host writes a snapshot only of a state whose steps the journal has accepted, so of two snapshots the one with the
greater position is the newer, whoever wrote it.
"""

import logging
import os
import re
import shutil
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec
import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from streams.durable import is_whole, local_folder, make_folder, sync_folder, write_durably
from streams.faults_hook import fault

FORMAT_VERSION: Final = 2
"""1 had no files."""
KEPT: Final = 2

_MAGIC: Final = b"TAXISNAP"
_HEADER: Final = struct.Struct(">8sHQQQQ")  # magic, version, position, journal offset, epoch, length of the state
_CHECKSUM_BYTES: Final = 32
_UNNAMED_KEPT: Final = timedelta(hours=1)
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
    files: Mapping[str, Path] = field(default_factory=dict)
    """To be kept with it (`PartitionProcessor.files`); empty in one that was loaded: its state says what to fetch."""


class SnapshotStore:
    """The snapshots of all processors and partitions under one place. Its calls block; threads may share a store.

    `url`: a folder's path, or `file://`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://account/container/prefix`,
    `memory:///` (for tests). Credentials come from the environment, as the cloud's own tools read them.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url)
        self._folder = local_folder(self.url)
        try:
            if self._folder is None:
                self._store: ObjectStore = from_url(self.url)
            else:
                make_folder(self._folder)
                self._store = LocalStore(self._folder)
        except (BaseError, OSError, ValueError) as error:
            raise SnapshotError(f"cannot use {self.url} for snapshots: {error}") from error
        self._damaged: set[str] = set()
        self._named: dict[str, frozenset[str]] = {}
        """By snapshot, the files that it rests on."""

    def save(self, processor: str, partition: int, snapshot: Snapshot) -> None:
        """Writes a snapshot: whole or not at all, durable when this returns. Then removes all but the last two.

        Raises: SnapshotError; the earlier snapshots stand then as they did.
        """
        prefix = _prefix(processor, partition)
        path = f"{prefix}/{snapshot.position:020d}-{snapshot.epoch:010d}.snapshot"
        try:
            self._bring_files(prefix, snapshot.files)
            fault("in_files")
            if self._folder is None:
                obstore.put(self._store, path, b"".join(_encode(snapshot)))
            else:
                write_durably(self._folder / path, _encode(snapshot), partial(fault, "in_snapshot"))
            self._named[path] = frozenset(snapshot.files)
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
                snapshot, names = _decode(bytes(obstore.get(self._store, path).bytes()), path)
                self._named[path] = names
                return snapshot
            except FileNotFoundError:
                continue  # another process has just removed it; it has written a newer one
            except _Damaged as damage:
                self._damaged.add(path)
                _logger.warning("skipped the damaged snapshot %s in %s: %s", path, self.url, damage)
            except (BaseError, OSError) as error:
                raise SnapshotError(f"cannot read the snapshot {path} from {self.url}: {error}") from error
        return None

    def inspect(self, processor: str, partition: int) -> list[tuple[str, "Snapshot | str"]]:
        """Every snapshot's path and itself, or what is damaged of it; the newest first. Raises: SnapshotError."""
        found: list[tuple[str, Snapshot | str]] = []
        for path in self._paths(_prefix(processor, partition)):
            try:
                found.append((path, _decode(bytes(obstore.get(self._store, path).bytes()), path)[0]))
            except FileNotFoundError:
                continue
            except _Damaged as damage:
                self._damaged.add(path)
                found.append((path, str(damage)))
            except (BaseError, OSError) as error:
                raise SnapshotError(f"cannot read the snapshot {path} from {self.url}: {error}") from error
        return found

    def fetch(self, processor: str, partition: int, name: str, to: Path) -> None:
        """Brings a file that a snapshot rests on to `to` (in a folder that is there). Raises: SnapshotError."""
        path = f"{_prefix(processor, partition)}/files/{name}"
        temporary = to.with_name(f"{name}.tmp")
        try:
            if self._folder is None:
                with temporary.open("wb") as file:
                    for chunk in obstore.get(self._store, path).stream():
                        file.write(chunk)
            else:
                _link_or_copy(self._folder / path, temporary)
            if not is_whole(temporary, name):
                raise SnapshotError(
                    f"the file {path} in {self.url} is damaged, and the snapshot rests on it: remove the snapshots, "
                    "and the state is made again from the log"
                )
            temporary.replace(to)
        except (BaseError, OSError) as error:
            raise SnapshotError(f"cannot bring the file {path} from {self.url}: {error}") from error

    def _bring_files(self, prefix: str, files: Mapping[str, Path]) -> None:
        """Raises: OSError, BaseError."""
        if not files:
            return
        folder = f"{prefix}/files"
        there = {meta["path"].rpartition("/")[2] for chunk in obstore.list(self._store, f"{folder}/") for meta in chunk}
        for name in files.keys() - there:
            if self._folder is None:
                obstore.put(self._store, f"{folder}/{name}", files[name])
            else:
                make_folder(self._folder / folder)
                _link_or_copy(files[name], self._folder / folder / f"{name}.tmp")
                (self._folder / folder / f"{name}.tmp").replace(self._folder / folder / name)
        if self._folder is not None:
            sync_folder(self._folder / folder)

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
            self._named.pop(path, None)
        self._remove_unnamed(prefix)

    def _remove_unnamed(self, prefix: str) -> None:
        """Removes the files that no snapshot in the store names, unless they came a short time ago."""
        old = datetime.now(UTC) - _UNNAMED_KEPT
        listed = [meta for chunk in obstore.list(self._store, f"{prefix}/files/") for meta in chunk]
        named: set[str] = set().union(*(self._names_of(path) for path in self._paths(prefix)))
        for meta in listed:
            name = meta["path"].rpartition("/")[2]
            if name not in named and meta["last_modified"] < old:
                with suppress(FileNotFoundError):
                    obstore.delete(self._store, meta["path"])

    def _names_of(self, path: str) -> frozenset[str]:
        """The files that a snapshot in the store rests on; none for one that is damaged or gone."""
        if path not in self._named:
            try:
                self._named[path] = _decode(bytes(obstore.get(self._store, path).bytes()), path)[1]
            except (FileNotFoundError, _Damaged):
                return frozenset()
        return self._named[path]


def _prefix(processor: str, partition: int) -> str:
    if not _PROCESSOR.match(processor):
        raise ValueError(f"found the processor name {processor!r}, expected letters, digits and . _ -, at most 64")
    return f"{processor}/{partition:05d}"


def _link_or_copy(source: Path, target: Path) -> None:
    """The same content under another name, durable but for the name. Raises: OSError."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
        os.utime(target)  # it came now: see `_remove_unnamed`
    except OSError:
        with source.open("rb") as given, target.open("wb") as file:
            shutil.copyfileobj(given, file, 1024 * 1024)
            file.flush()
            os.fsync(file.fileno())


def _encode(snapshot: Snapshot) -> tuple[bytes, bytes, bytes, bytes]:
    """Header, state, names, checksum: apart, so that a large state is not copied."""
    header = _HEADER.pack(
        _MAGIC, FORMAT_VERSION, snapshot.position, snapshot.journal_offset, snapshot.epoch, len(snapshot.state)
    )
    checksum = blake2b(header, digest_size=_CHECKSUM_BYTES)
    names = msgspec.json.encode(sorted(snapshot.files))
    checksum.update(snapshot.state)
    checksum.update(names)
    return header, snapshot.state, names, checksum.digest()


def _decode(data: bytes, path: str) -> tuple[Snapshot, frozenset[str]]:
    """The snapshot, and the files that it rests on.

    Raises: _Damaged; SnapshotError on a whole file of a newer version.
    """
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
    state = bytes(body[_HEADER.size : _HEADER.size + length])
    if len(state) != length or (version == 1 and len(body) != _HEADER.size + length):
        raise _Damaged(f"found a state of {len(body) - _HEADER.size} bytes, expected {length}")
    names = (
        frozenset(msgspec.json.decode(body[_HEADER.size + length :], type=list[str])) if version > 1 else frozenset()
    )
    return Snapshot(position, journal_offset, epoch, state), names
