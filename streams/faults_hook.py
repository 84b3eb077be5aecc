"""Crashes on order, for tests: `TAXIMETER_FAULT="after_emit:3"` ends the process at the third passing of that place.

The process ends as by a power cut (`os._exit`, nothing is flushed or closed), with status 86. With `:stop` behind the
number it stands still instead (SIGSTOP) until someone sends SIGCONT: a paused machine. Without the variable a passing
costs one comparison. Both hosts name the same places, after the steps in `streams.journal`.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Final

EXIT_STATUS: Final = 86

PLACES: Final = frozenset(
    {
        "after_commit",  # a group of appends is durable, its callers have no answer yet (embedded)
        "in_restore",  # between two replayed steps
        "after_open",  # the epoch is open
        "after_restore",  # all steps are replayed, their outputs not yet emitted again
        "after_read",  # step 1
        "after_process",  # step 2
        "after_journal",  # step 3
        "after_fence",  # step 4
        "after_emit",  # step 5
        "after_done",  # step 6
        "in_files",  # the files that a snapshot rests on are in its store, it is not
        "in_snapshot",  # the snapshot is written under its temporary name (local folders only)
        "after_snapshot",  # step 7
        "after_step",  # step 8: the source is about to be acknowledged
    }
)


def _parse(text: str) -> tuple[str, int, bool]:
    """The place, at which passing of it (1 is the first), and whether to stand still. Raises: ValueError."""
    stand_still = text.endswith(":stop")
    text = text.removesuffix(":stop")
    place, _, times = text.partition(":")
    if place not in PLACES:
        raise ValueError(f"TAXIMETER_FAULT: found the place {place!r}, expected one of {', '.join(sorted(PLACES))}")
    return place, int(times or "1"), stand_still


_SETTING: Final = os.environ.get("TAXIMETER_FAULT", "")
_PLACE, _TIMES, _STAND_STILL = _parse(_SETTING) if _SETTING else ("", 0, False)
_passed: Counter[str] = Counter()

hook: Callable[[str], None] | None = None
"""Is told each passing, in place of the variable: a simulation crashes what runs in its own process."""


def fault(place: str) -> None:
    """Ends the process if this passing of `place` is the one that was ordered."""
    if hook is not None:
        hook(place)
    if place != _PLACE:
        return
    _passed[place] += 1
    if _passed[place] != _TIMES:
        return
    if _STAND_STILL:
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        os._exit(EXIT_STATUS)
