"""Which of the messages that a consumer brings follow each other. No I/O.

Kafka delivers a partition in order, but what stands between it and the processor may drop, repeat and, after a seek,
still bring what was fetched before it. So every message is compared with the position that the journal says.
"""

from enum import Enum


class Verdict(Enum):
    """What to do with a message."""

    TAKE = "take"  # it is the next one
    REPEATED = "repeated"  # it has been worked in already: drop it
    BEHIND_GAP = "behind gap"  # it was fetched before the seek that is under way: drop it
    GAP = "gap"  # something is missing before it: look into the log, seek back
    SAME_GAP = "same gap"  # it is missing although the consumer was sent back to it: stop


class Order:
    """The order of one partition's messages, and what was out of order so far."""

    def __init__(self) -> None:
        self.repeated = 0
        self.behind_gap = 0
        self.gaps = 0
        self._dropped: int | None = None
        """While a seek back is under way: the offset of the last message that was dropped for it."""

    def judge(self, position: int, offset: int) -> Verdict:
        """Compares a message's offset with the `position` that is wanted.

        After a seek back the messages that were fetched before it still come, at rising offsets. Once offsets fall
        again the seek has taken effect, and what is missing then is missing for good.
        """
        if offset == position:
            self._dropped = None
            return Verdict.TAKE
        if offset < position:
            self.repeated += 1
            return Verdict.REPEATED
        if self._dropped is None:
            self.gaps += 1
            self._dropped = offset
            return Verdict.GAP
        if offset > self._dropped:
            self.behind_gap += 1
            self._dropped = offset
            return Verdict.BEHIND_GAP
        return Verdict.SAME_GAP

    def forget_gap(self) -> None:
        """The consumer begins anew: whatever comes now was fetched after that."""
        self._dropped = None
