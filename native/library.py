"""The library, loaded once: `function(name, ...)` is one of its functions, or None where it is not there."""

import ctypes
import os
import warnings
from collections.abc import Callable
from typing import Any, Final

from native.build import built

SETTING: Final = "TAXIMETER_NATIVE"
"""`auto` (the default): the library where it was built. `off`: never. `require`: an error where it is not there."""


class NativeMissing(ImportError):
    """TAXIMETER_NATIVE asks for the library, and it was not built from these sources."""


def _load() -> ctypes.CDLL | None:
    asked = os.environ.get(SETTING, "auto")
    if asked not in ("auto", "off", "require"):
        raise NativeMissing(f"{SETTING} is {asked!r}: expected auto, off or require")
    if asked == "off":
        return None
    path = built()
    if path is None:
        how = "build it with `python -m native.build`"
        if asked == "require":
            raise NativeMissing(f"the compiled library is not there ({SETTING}=require): {how}")
        warnings.warn(f"the compiled library is not there, so everything runs in Python, slower: {how}", stacklevel=2)
        return None
    return ctypes.CDLL(str(path))


_LIBRARY: Final = _load()


def is_loaded() -> bool:
    """Whether the compiled functions are used in this process."""
    return _LIBRARY is not None


def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any] | None:
    """A function of the library with its ctypes; None where the library is not used. It runs without the GIL.

    Raises: AttributeError, if the library has no such function."""
    if _LIBRARY is None:
        return None
    found = getattr(_LIBRARY, name)
    found.restype, found.argtypes = result, arguments
    return found
