"""YAML and JSON as people write documents -> plain values: exact numbers, no surprises, and every fault said."""

import json
import re
from typing import Any

import yaml

from schemas.faults import MISSING, Faults, Number
from schemas.limits import CATALOGUE_VALUES_MAX


def read_plain(text: str | bytes, faults: Faults) -> Any:
    """The plain value of a YAML or JSON text, its numbers as `Number`; `MISSING` where it is neither (with its fault).

    JSON is YAML too, and is read many times as fast by itself.
    """
    if text.lstrip()[:1] in ("{", "[", b"{", b"["):
        value = read_json(text, Faults())
        if value is not MISSING:
            return value
    try:
        return _fitting(yaml.load(text, Loader=_ExactLoader), faults)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        faults.add(place, f"not YAML: {getattr(error, 'problem', None) or error}")
    except (RecursionError, UnicodeDecodeError, ValueError, KeyError) as error:
        # PyYAML lets these through: texts nested too deep, and tags on what they do not fit.
        faults.add("", f"not YAML: {type(error).__name__}: {error}")
    return MISSING


def read_json(text: str | bytes, faults: Faults) -> Any:
    """The plain value of a JSON text, its numbers as `Number`; `MISSING` where it is none (with its fault)."""
    try:
        decoded = text if isinstance(text, str) else text.decode()
        return _fitting(
            json.loads(
                decoded,
                parse_int=Number,
                parse_float=Number,
                parse_constant=_no_number,
                object_pairs_hook=_no_key_twice,
            ),
            faults,
        )
    except json.JSONDecodeError as error:
        faults.add(f"line {error.lineno}, column {error.colno}", f"not JSON: {error.msg}")
    except (RecursionError, UnicodeDecodeError, ValueError) as error:
        faults.add("", f"not JSON: {error}")
    return MISSING


def _no_number(text: str) -> Any:
    raise ValueError(f"found {text}, expected a number")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found


def _fitting(value: Any, faults: Faults) -> Any:
    """The value, or `MISSING` where it is too much (aliases of YAML can multiply) or a text in it is no Unicode."""
    waiting, count = [value], 0
    while waiting:
        one = waiting.pop()
        count += 1
        if count > CATALOGUE_VALUES_MAX:
            faults.add("", f"found more than {CATALOGUE_VALUES_MAX} values, expected at most as many")
            return MISSING
        if isinstance(one, dict):
            waiting += one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str) and not one.isascii() and not _is_unicode(one):
            faults.add("", f"found {one[:60]!r}, which is no Unicode text")
            return MISSING
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
        return True
    except UnicodeEncodeError:
        return False


class _ExactLoader(yaml.SafeLoader):
    """YAML without surprises: numbers stay texts, times stay texts, a key written twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return {str(k): v for k, v in super().construct_mapping(node, deep=deep).items()}


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Number:
    return Number(str(loader.construct_scalar(node)))


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


# YAML 1.1 asks for a point in a number with an exponent; people (and JSON) write 1e3.
_ExactLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+\Z", re.ASCII), list("-+0123456789")
)
_ExactLoader.add_constructor("tag:yaml.org,2002:int", _number)
_ExactLoader.add_constructor("tag:yaml.org,2002:float", _number)
_ExactLoader.add_constructor("tag:yaml.org,2002:timestamp", _text)
