"""A strict reader of the part of PromQL that the dashboard and the alert rules use: what it cannot read is wrong.

It gives the selectors of an expression: the metric's name and the labels that are matched, grouped by or asked for.
"""

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?)(?![\w])|(?P<range>\[(?:\d+[smhd]|\$__rate_interval)\])
    |(?P<text>"(?:[^"\\]|\\.)*")|(?P<name>[a-zA-Z_:][\w:]*)|(?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^<>(){},=]))""",
    re.VERBOSE,
)
FUNCTIONS = {"rate": 1, "increase": 1, "changes": 1, "histogram_quantile": 2, "max_over_time": 1}
_OF_RANGES = {"rate", "increase", "changes", "max_over_time"}
AGGREGATES = {"sum", "min", "max", "count", "avg"}
_OPERATORS = [{"or"}, {"and", "unless"}, {"==", "!=", "<", ">", "<=", ">="}, {"+", "-"}, {"*", "/", "%"}]


class Selector(NamedTuple):
    """One metric of an expression, and the labels that it must have."""

    metric: str
    labels: frozenset[str]


class PromqlError(ValueError):
    """The expression cannot be read."""


def selectors(expression: str) -> list[Selector]:
    """Every selector of an expression. Raises: PromqlError."""
    reader = _Reader(expression)
    found = reader.binary(0)
    if reader.at < len(reader.tokens):
        raise PromqlError(f"{expression}: found {reader.tokens[reader.at][1]!r} behind the end")
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        self.at = 0
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise PromqlError(f"{text}: cannot read {text[at : at + 20]!r}")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self, *expected: str) -> str:
        kind, value = self.peek()
        if expected and value not in expected and kind not in expected:
            raise PromqlError(f"{self.text}: found {value!r}, expected {' or '.join(expected)}")
        self.at += 1
        return value

    def binary(self, level: int) -> list[Selector]:
        if level == len(_OPERATORS):
            return self.unary()
        found = self.binary(level + 1)
        while self.peek()[1] in _OPERATORS[level] and self.peek()[0] in ("sign", "name"):
            self.take()
            found += self.binary(level + 1)
        return found

    def unary(self) -> list[Selector]:
        kind, value = self.peek()
        if kind == "number":
            self.take()
            return []
        if value == "(":
            self.take()
            found = self.binary(0)
            self.take(")")
            return found
        name = self.take("name")
        if name in AGGREGATES:
            return self.aggregate()
        if self.peek()[1] == "(":
            return self.call(name)
        return [self.selector(name, ranged=False)]

    def aggregate(self) -> list[Selector]:
        by: set[str] = set()
        if self.peek()[1] in ("by", "without"):
            self.take()
            self.take("(")
            by.add(self.take("name"))
            while self.peek()[1] == ",":
                self.take()
                by.add(self.take("name"))
            self.take(")")
        self.take("(")
        found = self.binary(0)
        self.take(")")
        return [Selector(one.metric, one.labels | by) for one in found]

    def call(self, name: str) -> list[Selector]:
        if name not in FUNCTIONS:
            raise PromqlError(f"{self.text}: found the function {name!r}, expected one of {sorted(FUNCTIONS)}")
        self.take("(")
        found: list[Selector] = []
        for number in range(FUNCTIONS[name]):
            if number:
                self.take(",")
            found += [self.selector(self.take("name"), ranged=True)] if name in _OF_RANGES else self.binary(0)
        self.take(")")
        return found

    def selector(self, name: str, ranged: bool) -> Selector:
        labels: set[str] = set()
        if self.peek()[1] == "{":
            self.take()
            while True:
                labels.add(self.take("name"))
                operator = self.take("=", "!=", "=~", "!~")
                value = self.take("text")
                if "~" in operator:
                    re.compile(value[1:-1])
                if self.take(",", "}") == "}":
                    break
        if ranged:
            self.take("range")
        return Selector(name, frozenset(labels))
