"""How steps are paced: small ones are followed by a pause, so that the next one finds more.

A step costs some milliseconds whatever is in it, and a line that changes ten times within it is written once. So where
steps take long, because much comes, fewer and larger ones cost less for each event; where little comes they are quick,
and so are the pauses. What waits already is never held up.
"""

from typing import Final

PAUSE_S: Final = 0.025
"""The longest pause, unless an operator says otherwise."""


def pause(fill: float, took_s: float, most_s: float) -> float:
    """Seconds to wait after a step that took so long: as long again, `most_s` at the most. `fill`: how full it was, or
    the next one is already (1: no more would fit); from a half on there is no pause."""
    return 0.0 if fill >= 0.5 else min(took_s, most_s)
