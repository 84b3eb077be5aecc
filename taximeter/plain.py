"""Plain values (mappings, lists, texts, numbers): what differs between two of them, each difference with its path."""

from typing import Any

from schemas.faults import join

_ABSENT: Any = object()


def differences(before: Any, after: Any, path: str = "") -> list[dict[str, Any]]:
    """Each place where two plain values differ: `path`, and `from` and `to` where there is something.

    Mappings are compared by key and lists by position, so that the paths are the smallest that hold a difference.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        if list(before) != list(after) and before.keys() == after.keys() and before == after:
            return [{"path": path, "from": list(before), "to": list(after)}]  # only the order of the keys
        pairs = [(key, before.get(key, _ABSENT), after.get(key, _ABSENT)) for key in {**before, **after}]
    elif isinstance(before, list) and isinstance(after, list):
        short, length = min(len(before), len(after)), max(len(before), len(after))
        rest = [_ABSENT] * (length - short)
        pairs = list(zip(range(length), [*before, *rest], [*after, *rest], strict=False))
    elif before == after:
        return []
    else:
        found = {"path": path, "from": before, "to": after}
        return [{name: value for name, value in found.items() if value is not _ABSENT}]
    return [one for key, was, now in pairs for one in differences(was, now, join(path, key))]
