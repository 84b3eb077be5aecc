"""A rating worker that is broken on purpose, to see that the run turns red: `python -m benchmarks.chaos --break NAME`.

A check that stays green under one of these is a fault of the check.
"""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from schemas.topics import LINE_ITEMS


def _replace(kind: type, name: str, method: Callable[..., Any]) -> None:
    """A method of the program by another one. Raises: AttributeError where there is none of that name any more."""
    getattr(kind, name)
    setattr(kind, name, method)


def forget_duplicates() -> None:
    """Every event counts, however often it comes."""
    from rating import deduplicate

    def check(_self: Any, identity: Any, _content: Any, _arrived: Any) -> deduplicate.Verdicts:
        return deduplicate.Verdicts(np.ones(len(identity), np.bool_), np.zeros(len(identity), np.bool_))

    _replace(deduplicate.Deduplicator, "check", check)


def skip_replay() -> None:
    """A new owner goes on from the snapshot as if nothing had come after it."""
    from streams.kafka import ownership

    async def replay(_self: Any, _state: Any, _position: int, _batches: Any) -> list[Any]:
        return []

    _replace(ownership.TakeOver, "_replay", replay)


def skip_fence() -> None:
    """An owner never looks whether it still is one."""
    from streams.kafka.partition import Partition

    async def check_fence(self: Any, offset: int) -> None:
        self._state.journal_next = offset + 1

    async def check_still_owner(_self: Any) -> None:
        return None

    _replace(Partition, "_check_fence", check_fence)
    _replace(Partition, "_check_still_owner", check_still_owner)


def emit_twice() -> None:
    """Every line item is written twice, the second time as if it were a new revision."""
    from streams.kafka.partition import Partition

    emit = Partition._emit

    async def twice(self: Partition, outputs: Sequence[Any]) -> dict[str, int]:
        again = [_next_revision(output) for output in outputs if output.topic == LINE_ITEMS]
        return await emit(self, [*outputs, *again])

    _replace(Partition, "_emit", twice)


def _next_revision(output: Any) -> Any:
    record = json.loads(output.value)
    return output._replace(
        value=json.dumps(record | {"revision": record["revision"] + 1}, separators=(",", ":")).encode()
    )


WAYS: Final[dict[str, Callable[[], None]]] = {
    "forget-duplicates": forget_duplicates,
    "skip-replay": skip_replay,
    "skip-fence": skip_fence,
    "emit-twice": emit_twice,
}


def main() -> None:
    """Breaks it, then is the program."""
    WAYS[sys.argv.pop(1)]()
    from taximeter.cli import entry

    entry()


if __name__ == "__main__":
    main()
