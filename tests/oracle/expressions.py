"""The value of an event by a path or an expression: `$.in + 3 * $.out`, `if($.kind_is_large == 1, $.n, $.n / 2)`.

Reading: `+ - * /`, brackets, `min`, `max`, `round(x, digits)` (half up), `coalesce` (the first that is there) and
`if(condition, then, else)`, of which one branch is looked at; conditions compare two values (`== != < <= > >=`).
What an expression comes to is worked out exactly and rounded half up at the 12th digit, once; each number of the event
that it looks at must fit by itself. A path that leads
nowhere is `missing_value`; what is no number, and a division by nought, is `invalid_value`.
"""

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from tests.oracle.reading import TINY, fits, half_up, look, number

_LEAF = re.compile(
    r"\$(?:\.[A-Za-z_]\w*|\[\d+\]|\['[^']*'\]|\[\"[^\"]*\"\])+|(?<![\w.])(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
)
_PLAIN = re.compile(r"\$(?:\.[A-Za-z_][\w-]*|\[\d+\]|\['[^']*'\]|\[\"[^\"]*\"\])+")
_SIGNS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class NoValue(Exception):
    """An event has no value for a meter; the code of the rejection says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def value_of(text: str, data: Any) -> Fraction:
    """The number that a path or an expression finds in an event's data. Raises: NoValue."""
    if _PLAIN.fullmatch(text):
        found = _number_at(text, data)
    else:
        leaves: list[str] = []

        def name(match: re.Match[str]) -> str:
            leaves.append(match[0])
            return f"leaf_{len(leaves) - 1}"

        written = re.sub(r"\bif\s*\(", "if_(", _LEAF.sub(name, text))
        found = half_up(_worth(ast.parse(written.strip(), mode="eval").body, leaves, data), TINY)
    if not fits(found):
        raise NoValue("out_of_range")
    return found


def _number_at(path: str, data: Any) -> Fraction:
    value = look(data, path)
    if value is None:
        raise NoValue("missing_value")
    found = number(value)
    if found is None:
        raise NoValue("invalid_value")
    if not fits(found):
        raise NoValue("out_of_range")
    return found


def _worth(node: ast.expr, leaves: list[str], data: Any) -> Any:
    def worth(inner: ast.expr) -> Any:
        return _worth(inner, leaves, data)

    if isinstance(node, ast.Name):
        leaf = leaves[int(node.id.removeprefix("leaf_"))]
        return _number_at(leaf, data) if leaf.startswith("$") else Fraction(leaf)
    if isinstance(node, ast.UnaryOp):
        return -worth(node.operand) if isinstance(node.op, ast.USub) else worth(node.operand)
    if isinstance(node, ast.BinOp):
        left, right = worth(node.left), worth(node.right)
        if isinstance(node.op, ast.Div) and right == 0:
            raise NoValue("invalid_value")
        return _SIGNS[type(node.op)](left, right)
    if isinstance(node, ast.Compare):
        return _SIGNS[type(node.ops[0])](worth(node.left), worth(node.comparators[0]))
    assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name), ast.dump(node)
    return _call(node.func.id, node.args, worth)


def _call(name: str, args: list[ast.expr], worth: Callable[[ast.expr], Any]) -> Any:
    if name == "if_":
        return worth(args[1]) if worth(args[0]) else worth(args[2])
    if name == "coalesce":
        for arg in args[:-1]:
            try:
                return worth(arg)
            except NoValue as nothing:
                if nothing.code != "missing_value":
                    raise
        return worth(args[-1])
    if name == "round":
        digits = int(worth(args[1])) if len(args) > 1 else 0
        return half_up(worth(args[0]), Fraction(10) ** -digits)
    return {"min": min, "max": max}[name](worth(arg) for arg in args)
