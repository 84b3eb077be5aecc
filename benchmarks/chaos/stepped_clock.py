"""Runs a command with a wall clock that is wrong: `python -m benchmarks.chaos.stepped_clock FILE rate …`.

FILE holds by how many seconds; it may be written again while the command runs. Time that only passes (monotonic) stays
right, as it does where an operator or NTP steps a clock.
"""

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_LOOK_S: Final = 0.1


class _Offset:
    """By how much the clock is wrong, in nanoseconds."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.now_ns = 0
        self.look()
        threading.Thread(target=self._follow, name="clock", daemon=True).start()

    def look(self) -> None:
        """Reads the file; one that is just being written keeps the last."""
        with suppress(OSError, ValueError):
            self.now_ns = int(float(self._file.read_text()) * 1e9)

    def _follow(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            self.look()


def main() -> None:
    """Steps the clock, then is the program."""
    offset = _Offset(Path(sys.argv.pop(1)))
    right = time.time_ns
    time.time_ns = lambda: right() + offset.now_ns
    time.time = lambda: (right() + offset.now_ns) / 1e9
    from taximeter.cli import entry

    entry()


if __name__ == "__main__":
    main()
