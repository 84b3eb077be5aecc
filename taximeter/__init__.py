"""The face of Taximeter: command line, wiring and demo; and `Client`, for programs that send usage events."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taximeter.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    """The clients are imported when somebody asks for them: a command needs none."""
    if name in __all__:
        import taximeter.client

        return getattr(taximeter.client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
