"""What a partition's thread does and has done: for its watchdog, and for who looks at the process."""

import time
from dataclasses import dataclass, field
from typing import Final

from streams.durations import Durations

IDLE: Final = "waiting for entries"
ENDED: Final = "ended"


@dataclass(slots=True)
class Work:
    """Written by the partition's own thread alone."""

    doing: str = "starting"
    moves: int = 0
    """Rises whenever something was done."""
    replayed_steps: int = 0
    emitted_again: int = 0
    steps: int = 0
    line_items: int = 0
    """Written in them."""
    snapshots: int = 0
    failed_snapshots: int = 0
    restore_s: float = 0.0
    saved_at: float = field(default_factory=time.monotonic)
    step_seconds: Durations = field(default_factory=Durations)

    def does(self, what: str) -> None:
        """It goes on to this now."""
        self.doing = what
        self.moves += 1

    def stepped(self, seconds: float, line_items: int) -> None:
        """A step is done, and has written so many line items."""
        self.steps += 1
        self.line_items += line_items
        self.step_seconds.note(seconds)
        self.moves += 1
