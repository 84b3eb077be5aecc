"""What the door remembers of events that it has acknowledged: to tell clients of duplicates, and for nothing else.

The engine decides what counts. This memory is bounded, and gone with the process: what it does not know may be known.
"""

from collections.abc import Sequence


class Seen:
    """For each event of a request, in order: whether its identity was seen before, and with other content."""

    __slots__ = ("conflicts", "duplicates")

    def __init__(self) -> None:
        self.duplicates: set[int] = set()
        self.conflicts: set[int] = set()
        """Those of the duplicates whose content is another."""


_NOTHING = Seen()


class IdentityMemory:
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
