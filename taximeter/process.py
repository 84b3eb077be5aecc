"""What every long-running command shares: the event loop, signals, logging."""

import asyncio
import atexit
import ctypes
import gc
import logging
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import uvloop

from streams.redact import safe_message
from taximeter.logs import says_json

_SWITCH_SECONDS = 0.0005
"""How long a Python thread may hold the interpreter while others wait: the door's answers wait for the engine's
threads, and at the default of 5 ms single posts take ten times as long."""


_MALLOC = {-1: 256 * 1024 * 1024, -2: 16 * 1024 * 1024, -3: 32 * 1024 * 1024, -8: 1}
"""`M_TRIM_THRESHOLD`, `M_TOP_PAD`, `M_MMAP_THRESHOLD`, `M_ARENA_MAX` of malloc.h: how much may be free at the end of
what was got, how much more is got than is needed, from what size on an array is got, and given back, on its own (below
that of the room that `rating.room` asks for, which must be untouched), and how many pools of memory threads share: with
one for each, what a thread has freed is not there for the others, and what was free outgrew what was used."""


def spare_the_collector() -> None:
    """Makes Python's cycle collector rare. The engine makes hundreds of thousands of short-lived objects a second, no
    cycles: looking through them takes a tenth of its time at the default threshold. Nor is it run at the end."""
    gc.set_threshold(200_000, 20, 50)
    atexit.register(_end_quickly)


def _end_quickly() -> None:
    """Nothing is looked for at the end of a process, which takes all with it: that would take 0.2 s. DuckDB, where it
    is loaded, calls what is left over a leak."""
    if "_duckdb" not in sys.modules:
        gc.freeze()


class _NoPandas:
    """Finds no module, and lets nobody find pandas."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """Raises: ModuleNotFoundError, as where it is not installed."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is left out of this process", name=name)


def leave_pandas_out() -> None:
    """Makes pandas look as if it were not installed. Nothing here is of it, and where it is installed, Arrow loads it
    at the first list that becomes a column: 0.2 s of each process, and 40 MB."""
    if not any(finder is _NoPandas for finder in sys.meta_path):
        sys.meta_path.insert(0, _NoPandas)


def keep_freed_memory() -> None:
    """Makes freed memory stay at hand for what needs as much next: columns of some megabytes come and go with every
    step, and a page that was given back to the system costs more to be got again than it costs to fill.

    Of glibc's allocator; where there is another, only Arrow is told. Whoever has not loaded Arrow has no columns.
    """
    if (arrow := sys.modules.get("pyarrow")) is None:
        return
    arrow.set_memory_pool(arrow.system_memory_pool())
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in _MALLOC.items():
            mallopt(option, value)


def share_the_interpreter() -> None:
    """Makes threads give the interpreter up soon to those that wait for it."""
    sys.setswitchinterval(_SWITCH_SECONDS)


def run(main: Coroutine[Any, Any, int]) -> int:
    """Runs a command's coroutine to its exit status."""
    share_the_interpreter()
    keep_freed_memory()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def until_signalled(*, also: asyncio.Event | None = None) -> Coroutine[Any, Any, None]:
    """Returns at SIGTERM or SIGINT (a second one ends the process at once), or when `also` is set.

    Signals are heard from the call on, before it is awaited: call it before anybody is told that all is ready.
    """
    stop = also or asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)

    async def heard() -> None:
        await stop.wait()

    return heard()


def what_failed(error: BaseException | None) -> str:
    """What may be said of the failure inside: a task group wraps what its tasks raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return "" if error is None else safe_message(error)


def say(text: str) -> None:
    """One line of what a command answers, out at once."""
    print(text, flush=True)


def complain(text: str) -> None:
    """One line on standard error."""
    if says_json():
        logging.getLogger("taximeter").error("%s", text)
    else:
        print(text, file=sys.stderr, flush=True)
