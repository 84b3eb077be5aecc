"""What has not been acknowledged: encoded events, the oldest first, in memory and in a folder, within bounds.

A folder's files hold a parcel each, as NDJSON, and are there whole or not at all. One process uses a folder at a time.
"""

import fcntl
import os
from collections import deque
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

_LOCK_NAME: Final = "lock"
_SUFFIX: Final = ".ndjson"


class BufferFull(RuntimeError):
    """There is no room for another event: the door has taken nothing for too long. The event was not kept."""


class BufferInUse(RuntimeError):
    """Another process has the folder."""


class Parcel(NamedTuple):
    """Events that are sent together."""

    events: list[bytes]
    file: Path | None
    """Where they stand on disk, if they do."""
    last: bool = True
    """Whether nothing else of the file is left to be sent."""

    @property
    def body(self) -> bytes:
        """As NDJSON."""
        return b"\n".join(self.events)


class Outbox:
    """Threads may share it."""

    def __init__(self, folder: Path | None, memory_bytes: int, folder_bytes: int) -> None:
        """Takes up what an earlier process left in the folder. Raises: BufferInUse, OSError."""
        self._memory_bytes = memory_bytes
        self._folder_bytes = folder_bytes
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._lock = Lock()
        self._folder = folder
        self._files: deque[tuple[Path, int, int]] = deque()
        """On disk, the oldest first: path, events, bytes."""
        self._lock_file: int | None = None
        self._last_number = 0
        if folder is not None:
            self._take_folder(folder)

    def _take_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock_file)
            self._lock_file = None
            raise BufferInUse(f"{folder}: another process keeps its unsent events here; give each its own") from None
        try:
            for path in sorted(folder.glob(f"*{_SUFFIX}")):
                content = path.read_bytes()
                self._files.append((path, content.count(b"\n") + 1, len(content)))
                self._last_number = int(path.stem)
        except OSError:
            os.close(self._lock_file)
            raise

    def __len__(self) -> int:
        """Events that are not acknowledged."""
        with self._lock:
            return len(self._waiting) + sum(events for _, events, _ in self._files)

    @property
    def waiting(self) -> int:
        """Events in memory that no parcel holds."""
        return len(self._waiting)

    @property
    def on_disk(self) -> bool:
        """Whether some stand on disk."""
        return bool(self._files)

    def put(self, event: bytes) -> None:
        """Keeps an event. Raises: BufferFull."""
        with self._lock:
            if self._waiting_bytes + len(event) > self._memory_bytes:
                self._spill()
            if self._waiting_bytes + len(event) > self._memory_bytes:
                kept = f"{self._waiting_bytes:,} bytes in memory"
                if self._folder is not None:
                    kept += f" and {self._disk_bytes():,} in {self._folder}"
                raise BufferFull(f"found {kept} unsent, expected room for {len(event):,} bytes more")
            self._waiting.append(event)
            self._waiting_bytes += len(event)

    def take(self, events_max: int, bytes_max: int) -> Parcel | None:
        """The oldest events, at least one; None where there are none. Those in memory are the caller's until it says
        `done` or `give_back`. Raises: OSError where a file cannot be read.
        """
        with self._lock:
            if self._files:
                path = self._files[0][0]
                return Parcel(path.read_bytes().split(b"\n"), path)
            taken: list[bytes] = []
            size = 0
            while self._waiting and len(taken) < events_max and (not taken or size + len(self._waiting[0]) < bytes_max):
                event = self._waiting.popleft()
                taken.append(event)
                size += len(event) + 1
            self._waiting_bytes -= size - len(taken)
            return Parcel(taken, None) if taken else None

    def done(self, parcel: Parcel) -> None:
        """The parcel was answered for: it is forgotten."""
        if parcel.file is not None and parcel.last:
            with self._lock:
                if self._files and self._files[0][0] == parcel.file:
                    self._files.popleft()
                parcel.file.unlink(missing_ok=True)

    def give_back(self, parcel: Parcel) -> None:
        """The parcel was not answered for: it comes first again."""
        if parcel.file is not None:
            return
        with self._lock:
            self._waiting.extendleft(reversed(parcel.events))
            self._waiting_bytes += sum(map(len, parcel.events))

    def spill(self) -> None:
        """Writes what is in memory to the folder, as far as it has room: a crash loses nothing of it then."""
        with self._lock:
            self._spill()

    def close(self) -> int:
        """Spills, lets go of the folder. Returns how many events stand in memory only, and are lost with it."""
        with self._lock:
            self._spill()
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None
            return len(self._waiting)

    def _spill(self) -> None:
        """Raises nothing: a full disk leaves them where they are."""
        if self._folder is None or self._lock_file is None or not self._waiting:
            return
        content = b"\n".join(self._waiting)
        if self._disk_bytes() + len(content) > self._folder_bytes:
            return
        path = self._folder / f"{self._last_number + 1:012d}{_SUFFIX}"
        temporary = path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            return
        self._last_number += 1
        self._files.append((path, len(self._waiting), len(content)))
        self._waiting.clear()
        self._waiting_bytes = 0

    def _disk_bytes(self) -> int:
        return sum(size for _, _, size in self._files)
