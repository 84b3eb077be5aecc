"""The cases whose figures no parameter of the contract reaches, and why."""

EXCEPTIONS: dict[str, str] = {}
