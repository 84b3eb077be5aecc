"""What must be known of a JSON text beyond being JSON: how deep it nests, and whether a name stands twice.

JSON readers disagree about a name that stands twice (RFC 8259, section 4), so two parts of a billing system could
charge for two different numbers. Such a text is refused at the door.
"""

import json
import re
from typing import Any

import msgspec
import numpy as np

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})|"
    rb"(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_CONSTANT = re.compile(rb"-?\b(?:NaN|Infinity)\b")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

SPLIT_BYTES_MAX = 1024 * 1024
"""Bytes of a broken array that is still taken apart to find which of its items is broken."""

# Numbers with a fraction or an exponent stay as they were written, so that what is read can be written back.
_any_decoder = msgspec.json.Decoder(float_hook=msgspec.Raw)


def deeper_than(text: bytes, depth: int) -> bool:
    """Whether objects and arrays nest more than `depth` levels: looks closely only where there are as many brackets."""
    return text.count(b"{") + text.count(b"[") > depth and depth_of(text) > depth


def depth_of(text: bytes) -> int:
    """How deep objects and arrays nest in a JSON text: `{}` is 1. For a broken text, at least as deep as is read."""
    brackets = np.frombuffer(_STRING.sub(b"", text).translate(None, _NOT_BRACKETS), dtype=np.uint8)
    if not len(brackets):
        return 0
    # `[` and `{` have the second lowest bit set and the third not; `]` and `}` the other way round.
    steps = np.where(brackets & 2, 1, -1)
    return int(np.cumsum(steps).max())


def more_names_than(text: bytes, count: int) -> bool:
    """Whether a JSON text has more than `count` names, at all levels together: looks closely only where it may."""
    return text.count(b":") > count and _STRING.sub(b"", text).count(b":") > count


def repeated_name(text: bytes) -> str | None:
    """The path of a name that stands twice in one object of a valid JSON text (`data.tokens`), or None.

    Where what was read, written back, is as long as the text without its white space, nothing was lost in reading:
    no name stood twice. Only other texts (they may have escapes that need not be there) are walked through.
    """
    try:
        written = len(msgspec.json.encode(_any_decoder.decode(text)))
        if written == len(text) or written == len(msgspec.json.format(text, indent=-1)):
            return None
    except (msgspec.MsgspecError, ValueError, OverflowError):
        pass  # such as a whole number with thousands of digits
    read = json.loads(text, object_pairs_hook=_Pairs, parse_int=str, parse_float=str)
    return _find_repeated(read, "")


class _Pairs(list[Any]):
    """The names and values of one object, in order."""


def _find_repeated(value: Any, path: str) -> str | None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, below in value:
            place = f"{path}.{name}" if path else name
            if name in seen:
                return place
            seen.add(name)
            if isinstance(below, list) and (found := _find_repeated(below, place)):
                return found
    elif isinstance(value, list):
        for i, below in enumerate(value):
            if isinstance(below, list) and (found := _find_repeated(below, f"{path}[{i}]")):
                return found
    return None


def split_array(text: bytes) -> list[bytes] | None:
    """The texts of the items of an array whose items may be broken; None where the array itself is (or is too long)."""
    text = text.strip(b" \t\r\n")
    if not text.startswith(b"[") or not text.endswith(b"]") or len(text) > SPLIT_BYTES_MAX:
        return None
    items: list[bytes] = []
    depth, start = 0, 1
    for match in _TOKEN.finditer(text):
        token = text[match.start()]
        if token == 0x22:
            if match.end() - match.start() < 2:
                return None  # a quote without its partner: where strings end is anyone's guess
        elif token in b"[{":
            depth += 1
        elif token in b"]}":
            depth -= 1
            if depth <= 0:
                items.append(text[start : match.start()].strip(b" \t\r\n"))
                return items if depth == 0 and match.end() == len(text) else None
        elif depth == 1:
            items.append(text[start : match.start()].strip(b" \t\r\n"))
            start = match.end()
    return None


def why_not_json(text: bytes, error: BaseException) -> str:
    """What a person can do something about, where the reader's own message says little."""
    if text.startswith(b"\xef\xbb\xbf"):
        return "found a byte order mark, expected JSON to begin at the first byte"
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return f"found the byte 0x{text[wrong.start]:02x} at byte {wrong.start}, expected UTF-8"
    if not text.strip():
        return "found nothing, expected JSON"
    if constant := _CONSTANT.search(_STRING.sub(b'""', text)):
        return f"found {constant[0].decode()}, which is no number in JSON"
    if lone := _LONE_SURROGATE.search(text):
        return f"found {lone[0].decode()}, half of a surrogate pair, expected a whole character"
    return f"found a text that is no JSON: {str(error).removeprefix('JSON is malformed: ')}"
