"""Deduplication: which events have been counted before. Exact, in buckets by arrival that are dropped whole.

Owns the identities of all events of one partition for the deduplication window. An identity is found in whichever
bucket holds it, and enters that of the greatest arrival so far; a bucket goes as soon as all that it may hold is older
than the window, before the event that brings this about is looked at, so that no cut into batches shows. The window is
35 to 42 days and never shorter than promised. Memory: 33 to 67 bytes for each identity held.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rating.index import HashIndex, Keys
from schemas.times import DAY

WINDOW_DAYS: Final = 35
_BUCKET: Final = 7 * DAY


class Verdicts(NamedTuple):
    """For each row: `fresh`, seen for the first time; `conflict`, seen before with another content."""

    fresh: NDArray[np.bool_]
    conflict: NDArray[np.bool_]


class Deduplicator:
    """The identities of one partition, each with a fingerprint of its content."""

    def __init__(self, window_days: int | None = WINDOW_DAYS) -> None:
        """`window_days` None: identities are never dropped."""
        self.window = None if window_days is None else window_days * DAY
        self._buckets: dict[int, HashIndex] = {}
        self._latest = 0

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets.values())

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return sum(bucket.nbytes for bucket in self._buckets.values())

    def check(self, identity: Keys, content: NDArray[np.uint32], arrived: NDArray[np.int64]) -> Verdicts:
        """Tells first arrivals from later ones, in the order of the rows, and remembers the first ones."""
        fresh = np.zeros(len(identity), dtype=np.bool_)
        conflict = np.zeros(len(identity), dtype=np.bool_)
        number = np.zeros(len(arrived), np.int64)
        if self.window is not None and len(arrived):
            clock = np.maximum.accumulate(np.maximum(arrived, self._latest))
            number, self._latest = clock // _BUCKET, int(clock[-1])
        for rows in _runs(number):
            now = int(number[rows.start])
            self._expire(now)
            self._check_run(now, identity[rows], content[rows], fresh[rows], conflict[rows])
        return Verdicts(fresh, conflict)

    def _check_run(
        self,
        number: int,
        identity: Keys,
        content: NDArray[np.uint32],
        fresh: NDArray[np.bool_],
        conflict: NDArray[np.bool_],
    ) -> None:
        unknown = np.ones(len(identity), dtype=np.bool_)
        for other, bucket in self._buckets.items():
            if other != number:
                places = bucket.find(identity)
                known = places >= 0
                conflict |= known & (bucket.values[places] != content)
                unknown &= ~known
        own = self._buckets.setdefault(number, HashIndex())
        rows = np.flatnonzero(unknown) if not unknown.all() else np.arange(len(identity))
        places, new = own.add(identity if len(rows) == len(identity) else identity.take(rows, axis=0))
        own.values[places[new]] = content[rows[new]]
        fresh[rows[new]] = True
        conflict[rows] |= own.values[places] != content[rows]

    def _expire(self, now: int) -> None:
        if self.window is None:
            return
        for number in [n for n in self._buckets if (now - n - 1) * _BUCKET >= self.window]:
            del self._buckets[number]

    def dump(self) -> dict[str, Any]:
        """All identities, for a snapshot."""
        buckets = {}
        for number, bucket in self._buckets.items():
            keys, values = bucket.items()
            buckets[str(number)] = [keys.tobytes(), values.tobytes()]
        return {"latest": self._latest, "buckets": buckets}

    def load(self, dumped: dict[str, Any]) -> None:
        """What `dump` wrote."""
        self._latest = dumped["latest"]
        for number, (keys, values) in dumped["buckets"].items():
            flat = np.frombuffer(keys, dtype=np.uint64).reshape(-1, 2)
            self._buckets[int(number)] = HashIndex.of(flat, np.frombuffer(values, dtype=np.uint32))


def _runs(numbers: NDArray[np.int64]) -> list[slice]:
    """The stretches of rows with the same bucket, in order: nearly always one."""
    if not len(numbers):
        return []
    cuts = (np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist()
    return [slice(a, b) for a, b in zip([0, *cuts], [*cuts, len(numbers)], strict=True)]
