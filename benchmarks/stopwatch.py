"""CPU seconds that the engine spends in each stage, taken from outside: the engine knows nothing of it."""

import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final

import rating.engine
from rating.billing import Biller
from rating.deduplicate import Deduplicator
from rating.replay import Replay

STAGES: Final[Mapping[str, tuple[Any, str]]] = {
    "decode": (rating.engine, "Batch"),
    "deduplicate": (Deduplicator, "check"),
    "aggregate": (rating.engine, "meter_batch"),
    "open bills": (Biller, "open"),
    "rate": (rating.engine, "fold_batch"),
    "replay": (Replay, "run"),
    "emit": (rating.engine, "encode_line_items"),
}
"""The functions that are timed, each without those that it calls. `replay` works event by event, where the order of
single events shows."""


class Stopwatch:
    """From now on, until the process ends, these functions are timed: `taken`, by stage."""

    def __init__(self) -> None:
        self.taken = dict.fromkeys(STAGES, 0.0)
        self._within = 0.0
        """What the stages that the current one has called have taken."""
        for name, (owner, attribute) in STAGES.items():
            setattr(owner, attribute, self._timed(name, getattr(owner, attribute)))

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            before, self._within = self._within, 0.0
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.process_time() - began
                self.taken[name] += took - self._within
                self._within = before + took

        return timed
