"""What a log may say of an exception: nothing that an event, a customer or a document says.

The messages of our own exceptions are written for that, and those of broken invariants name what was found and expected
by numbers. Those of Python and of libraries show the value that they stumbled over: of them only the kind is said.
"""

import traceback
from types import TracebackType
from typing import Final

OURS: Final = ("schemas", "streams", "ingest", "rating", "downstream", "taximeter")
_PLAIN: Final = (AssertionError, RuntimeError, OSError)
"""Raised for what is wrong with the program or the machine."""
_CHAIN_MAX: Final = 8

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def safe_message(error: BaseException) -> str:
    """What may be said: the message, else the kind."""
    if is_safe(error):
        return str(error) or type(error).__name__
    return type(error).__name__


def is_safe(error: BaseException) -> bool:
    """Whether the message holds no value of anybody's."""
    return type(error).__module__.partition(".")[0] in OURS or type(error) in _PLAIN or isinstance(error, OSError)


def stack_of(error: BaseException) -> str:
    """The frames and kinds of an exception and of what caused it, each with its message where that may be said."""
    parts: list[str] = []
    at: BaseException | None = error
    while at is not None and len(parts) < _CHAIN_MAX:
        frames = "".join(traceback.format_list(traceback.extract_tb(at.__traceback__)))
        kind = f"{type(at).__module__}.{type(at).__qualname__}".removeprefix("builtins.")
        parts.append(f"Traceback (most recent call last):\n{frames}{kind}" + (f": {at}" if is_safe(at) else ""))
        if isinstance(at, BaseExceptionGroup):
            parts += [stack_of(inside) for inside in at.exceptions[:_CHAIN_MAX]]
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return "\n\ncaused by\n\n".join(parts)
