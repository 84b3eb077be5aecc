"""What the batch queries share: a step that says what it took."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")


def timed(name: str, step: Callable[[], _T]) -> _T:
    """What the step gives. Prints its name, seconds and CPU seconds as a JSON object in a line."""
    began, cpu = time.perf_counter(), time.process_time()
    found = step()
    print(json.dumps({"step": name, "seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}))
    return found


def say_memory() -> None:
    """Prints the memory of this process at most, as a JSON object in a line."""
    status = Path("/proc/self/status").read_text()  # getrusage would say that of the process which started this one
    print(json.dumps({"bytes": int(status.partition("VmHWM:")[2].split()[0]) * 1024}))
