"""Crashes on order, for tests: `TAXIMETER_FAULT="after_emit:3"` ends the process at the third passing of that place.

The process ends as by a power cut (`os._exit`, nothing is flushed or closed), with status 86. Without the variable a
passing costs one comparison. Both hosts name the same places, after the steps in `streams.journal`.
"""

import os
from collections import Counter
from typing import Final

EXIT_STATUS: Final = 86

PLACES: Final = frozenset(
    {
        "after_append",  # entries are durable, their callers have no answer yet
        "in_restore",  # between two replayed steps
        "after_open",  # the epoch is open
        "after_read",  # step 1
        "after_process",  # step 2
        "after_journal",  # step 3
        "after_emit",  # step 5
        "after_done",  # step 6
        "in_snapshot",  # the snapshot is written under its temporary name (local folders only)
        "after_snapshot",  # step 7
    }
)


def _parse(text: str) -> tuple[str, int]:
    """The place and at which passing of it (1 is the first). Raises: ValueError on an unknown place."""
    place, _, times = text.partition(":")
    if place not in PLACES:
        raise ValueError(f"TAXIMETER_FAULT: found the place {place!r}, expected one of {', '.join(sorted(PLACES))}")
    return place, int(times or "1")


_SETTING: Final = os.environ.get("TAXIMETER_FAULT", "")
_PLACE, _TIMES = _parse(_SETTING) if _SETTING else ("", 0)
_passed: Counter[str] = Counter()


def fault(place: str) -> None:
    """Ends the process if this passing of `place` is the one that was ordered."""
    if place != _PLACE:
        return
    _passed[place] += 1
    if _passed[place] == _TIMES:
        os._exit(EXIT_STATUS)
