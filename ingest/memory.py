"""What the door remembers of events that it has acknowledged: to tell clients of duplicates, and for nothing else.

The engine decides what counts. This memory is bounded, and gone with the process: what it does not know may be known.
"""

import ctypes
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from native.library import function
from schemas.identity import IDENTITY_BYTES

Words = NDArray[np.int64]


class Seen:
    """For each event of a request, in order: whether its identity was seen before, and with other content."""

    __slots__ = ("conflicts", "duplicates")

    def __init__(self) -> None:
        self.duplicates: set[int] = set()
        self.conflicts: set[int] = set()
        """Those of the duplicates whose content is another."""


_NOTHING = Seen()


_WORDS: Final = 2
"""Of an identity, 8 bytes each."""
_WORD: Final = 8


class _State(ctypes.Structure):
    """As `native/src/known.c` has it."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("young_keys", "young_values", "old_keys", "old_values")),
        *((name, ctypes.c_int64) for name in ("young_count", "old_count", "mask", "half")),
        *((name, ctypes.c_uint64) for name in ("first", "second")),
    ]


class _Given(ctypes.Structure):
    """The events at hand, as `native/src/known.c` has them."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("identities", "contents")),
        *((name, ctypes.c_int64) for name in ("identity_step", "content_step", "count")),
    ]


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any] | None:
    """A function of the library that keeps Python's lock: giving it up takes longer than what these do."""
    found: Any = function(name, result, *arguments)
    return found and ctypes.PYFUNCTYPE(result, *arguments)(ctypes.cast(found, ctypes.c_void_p).value or 0)


_ARGUMENTS: Final = (ctypes.c_void_p, ctypes.POINTER(_Given), ctypes.c_void_p, ctypes.c_int64)
_look = _function("tx_known_look", ctypes.c_int64, *_ARGUMENTS, ctypes.c_void_p)
_remember = _function("tx_known_remember", None, *_ARGUMENTS, ctypes.c_void_p, ctypes.c_void_p)


class CompiledMemory:
    """`PlainMemory` in two tables of fixed size, 24 bytes a slot: 48 to 96 bytes for each identity of `size`, touched
    as they fill. Identities are of `IDENTITY_BYTES`, contents of 32 bits. What it is given are lists or, so that no
    object is made of an event, columns of an array: two words for each identity, one for each content."""

    def __init__(self, size: int) -> None:
        self._half = max(size // 2, 1)
        slots = _power_of_two(2 * self._half)
        # One of each is young, the other old: which, the state says.
        self._keys = [np.zeros((slots, _WORDS), np.uint64) for _ in range(2)]
        self._values = [np.zeros(slots, np.uint64) for _ in range(2)]
        young, old = ((keys.ctypes.data, of.ctypes.data) for keys, of in zip(self._keys, self._values, strict=True))
        odd = (secrets.randbits(64) | 1 for _ in range(2))
        self._state = _State(*young, *old, 0, 0, slots - 1, self._half, *odd)
        self._address = ctypes.addressof(self._state)

    def __len__(self) -> int:
        return int(self._state.young_count + self._state.old_count)

    def look(self, identity: Sequence[bytes] | Words, content: Sequence[int] | Words) -> Seen:
        """See `PlainMemory.look`."""
        assert _look is not None
        held = _arrays(identity, content)
        verdicts, scratch = np.empty(len(content), np.uint8), _scratch(len(content))
        if not _look(self._address, _given(*held), *_of(scratch), verdicts.ctypes.data):
            return _NOTHING
        seen = Seen()
        seen.duplicates.update(np.flatnonzero(verdicts).tolist())
        seen.conflicts.update(np.flatnonzero(verdicts == _CONFLICT).tolist())
        return seen

    def remember(self, identity: Sequence[bytes] | Words, content: Sequence[int] | Words) -> None:
        """See `PlainMemory.remember`."""
        assert _remember is not None
        identities, contents = _arrays(identity, content)
        for at in range(0, len(contents), self._half):
            part = slice(at, at + self._half)
            given = _given(identities[part], contents[part])
            scratch, room = _scratch(given.count), np.empty((2, given.count), np.int64)
            _remember(self._address, given, *_of(scratch), room.ctypes.data, room[1].ctypes.data)


_CONFLICT: Final = 2


def _arrays(identity: Sequence[bytes] | Words, content: Sequence[int] | Words) -> tuple[Words, Words]:
    """Both as columns of arrays, which they may be already."""
    if isinstance(identity, np.ndarray) and isinstance(content, np.ndarray):
        return identity, content
    joined = b"".join(identity)
    assert len(joined) == IDENTITY_BYTES * len(content), "identities are of one length"
    return np.frombuffer(joined, np.int64).reshape(-1, _WORDS), np.array(content, np.int64)


def _given(identities: Words, contents: Words) -> _Given:
    """Both as the compiled half reads them: they must live until it has."""
    steps = identities.strides[0] // _WORD, contents.strides[0] // _WORD
    return _Given(identities.ctypes.data, contents.ctypes.data, *steps, len(contents))


def _scratch(count: int) -> NDArray[np.int32]:
    return np.zeros(_power_of_two(2 * count), np.int32)


def _of(scratch: NDArray[np.int32]) -> tuple[int, int]:
    return scratch.ctypes.data, len(scratch) - 1


def _power_of_two(least: int) -> int:
    return 1 << max(least - 1, 1).bit_length()


class PlainMemory:
    """Identity -> content of the most recent events, `size` at most and half of that at least."""

    def __init__(self, size: int) -> None:
        self._half = max(size // 2, 1)
        self._young: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def look(self, identity: Sequence[bytes], content: Sequence[int]) -> Seen:
        """Which events are duplicates of remembered ones, or of earlier ones of the same request."""
        plain = self._young.keys().isdisjoint(identity) and self._old.keys().isdisjoint(identity)
        if plain and (len(identity) == 1 or len(set(identity)) == len(identity)):
            return _NOTHING
        seen, here = Seen(), dict[bytes, int]()
        for at, (key, now) in enumerate(zip(identity, content, strict=True)):
            before = self._young.get(key, self._old.get(key, here.get(key)))
            if before is None:
                here[key] = now
                continue
            seen.duplicates.add(at)
            if before != now:
                seen.conflicts.add(at)
        return seen

    def remember(self, identity: Sequence[bytes], content: Sequence[int]) -> None:
        """Notes events that are durable. The first content of an identity stays."""
        for at in range(0, len(identity), self._half):
            part = slice(at, at + self._half)
            fresh = dict(zip(reversed(identity[part]), reversed(content[part]), strict=True))
            if not self._old.keys().isdisjoint(fresh):
                fresh = {key: now for key, now in fresh.items() if key not in self._old}
            fresh.update((key, self._young[key]) for key in self._young.keys() & fresh.keys())
            if len(self._young) + len(fresh) > self._half:
                self._old, self._young = self._young, {}
            self._young.update(fresh)


IdentityMemory = PlainMemory if _look is None else CompiledMemory
