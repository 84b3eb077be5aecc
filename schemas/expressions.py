"""Expressions over paths, as a meter's `value` may be one: `$.in + 3 * $.out`, `if($.kind == 'read', $.n, 0)`.

Owns the language: its words, what binds how tightly, what can stand where. A text is read into a tree of the nodes
below; what a tree comes to is said elsewhere (by columns and row by row in `rating.expressions`, and once more, for
who checks that, in `rating.spend.formulas`).

Binding, from loose to tight: `or`; `and`; `not`; one of `== != < <= > >=`; `+ -`; `* /`; a minus in front. Operators
of one kind go from left to right. A number is a decimal, a text stands in single quotes (`\\'` is a quote in it), and a
path is one of `schemas.paths`, but that in `.name` a minus before a digit is refused: `$.a-1` could be either.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, NoReturn

from schemas.faults import unknown
from schemas.limits import EXPRESSION_DEPTH_MAX, EXPRESSION_LENGTH_MAX
from schemas.numbers import DIGITS, ONE, SCALE, NumberError, parse_scaled
from schemas.paths import PathError, parse_path, scan_path

# Trees ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """A part of an expression; `at` is where its text begins (for an operation: its sign or name), from 0."""

    at: int


@dataclass(frozen=True, slots=True)
class Constant(Node):
    """A number (scaled)."""

    value: int


@dataclass(frozen=True, slots=True)
class Read(Node):
    """The number that a path finds."""

    path: str


@dataclass(frozen=True, slots=True)
class Negate(Node):
    """The number with the other sign."""

    inside: "Number"


class Step(NamedTuple):
    """One more operand of a chain: the sign before it, and where that stands."""

    sign: str
    at: int
    operand: "Number"


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """Numbers joined by `+` and `-`, or by `*` and `/`, from left to right."""

    first: "Number"
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Extreme(Node):
    """The least of some numbers, or the greatest."""

    greatest: bool
    items: "tuple[Number, ...]"


@dataclass(frozen=True, slots=True)
class Round(Node):
    """Half up (away from nought) to so many digits after the point; `digits` may be below nought."""

    inside: "Number"
    digits: int


@dataclass(frozen=True, slots=True)
class Coalesce(Node):
    """The first that is not missing; where all are, the first one's fault."""

    items: "tuple[Number, ...]"


@dataclass(frozen=True, slots=True)
class Choose(Node):
    """`if`: only the part that is chosen is worked out."""

    condition: "Condition"
    then: "Number"
    otherwise: "Number"


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """Two numbers compared."""

    sign: str
    left: "Number"
    right: "Number"


@dataclass(frozen=True, slots=True)
class Same(Node):
    """Whether the first of some paths that is not missing (or `fallback`) is this text or flag, or is not.

    Kinds differ, as in a meter's `where`: the number 1 is not the text '1'.
    """

    equal: bool
    reads: tuple[Read, ...]
    fallback: str | bool | None
    wanted: str | bool


@dataclass(frozen=True, slots=True)
class Every(Node):
    """`and`: from left to right, no further than the first that does not hold."""

    items: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Some(Node):
    """`or`: from left to right, no further than the first that holds."""

    items: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Not(Node):
    """What holds where the other does not."""

    inside: "Condition"


Number = Constant | Read | Negate | Chain | Extreme | Round | Coalesce | Choose
Condition = Compare | Same | Every | Some | Not


class Formula(NamedTuple):
    """An expression that has been read; `paths` are those it looks at, in the order in which they stand."""

    text: str
    tree: Number
    paths: tuple[str, ...]


class ExpressionError(ValueError):
    """A text that is no expression; the message says where, what was found and what was expected."""


def parse_formula(text: str) -> Formula:
    """Raises: ExpressionError."""
    if len(text) > EXPRESSION_LENGTH_MAX:
        raise ExpressionError(f"found {len(text)} characters, expected at most {EXPRESSION_LENGTH_MAX}")
    parser = _Parser(text)
    tree = parser.whole()
    return Formula(text, tree, tuple(dict.fromkeys(parser.paths)))


def is_path(text: str) -> bool:
    """Whether a meter's `value` is a plain path."""
    try:
        parse_path(text)
    except PathError:
        return False
    return True


def value_paths(text: str) -> tuple[str, ...]:
    """The paths that a meter's `value` looks at: its own, where it is a plain one. Raises: ExpressionError."""
    return (text,) if is_path(text) else parse_formula(text).paths


# Words ---------------------------------------------------------------------------------------------------------------


class _Token(NamedTuple):
    kind: Literal["number", "path", "text", "word", "sign", "end"]
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class _Literal(Node):
    """A text or a flag: not a number, only to be compared with a path."""

    value: str | bool


@dataclass(frozen=True, slots=True)
class _Fallback(Node):
    """`coalesce` of paths and, at last, a text or a flag."""

    reads: tuple[Read, ...]
    literal: str | bool


_Part = Number | Condition | _Literal | _Fallback

_BLANK = re.compile(r"\s*")
_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,6})?", re.ASCII)
_WORD = re.compile(r"[^\W\d]\w*")
_TEXT = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_SIGN = re.compile(r"==|!=|<=|>=|[-+*/<>(),]")
_BINDING: Final = {
    "or": 1, "and": 2, "==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4, "+": 5, "-": 5, "*": 6, "/": 6,
}  # fmt: skip
_NOT, _COMPARED, _MINUS = 3, 4, 7
_FUNCTIONS: Final = ("coalesce", "if", "max", "min", "round")
_INSTEAD: Final = {
    "=": "== (equal)",
    "!": "not or !=",
    "&": "and",
    "|": "or",
    '"': "a text in single quotes",
    "?": "if(condition, then, else)",
    "%": "one of + - * / (there is no remainder)",
    "^": "one of + - * / (there are no powers)",
}
"""What was probably meant by a character that begins no word."""


def _tokens(text: str) -> Iterator[_Token]:
    at = _end(_BLANK, text, 0)
    while at < len(text):
        token = _token(text, at)
        yield token
        at = _end(_BLANK, text, at + len(token.text))
    yield _Token("end", "", at)


def _token(text: str, at: int) -> _Token:
    if text[at] == "$":
        return _Token("path", _path(text, at), at)
    kinds: tuple[tuple[Any, re.Pattern[str]], ...] = (
        ("number", _NUMBER), ("word", _WORD), ("text", _TEXT), ("sign", _SIGN),
    )  # fmt: skip
    for kind, pattern in kinds:
        match = pattern.match(text, at)
        if match is not None:
            return _Token(kind, match[0], at)
    if text[at] == "'":
        raise _fault(text, at, "a text without an end", "a single quote behind it")
    raise _fault(text, at, repr(text[at]), _INSTEAD.get(text[at], "a path, a number, a function or an operator"))


def _path(text: str, at: int) -> str:
    """The path at a `$`. A minus ends a name where no name could go on, so that `$.a-$.b` is a difference."""
    end = scan_path(text, at)
    while text[end - 1] == "-":
        end -= 1
    found = text[at:end]
    unquoted = re.sub(r"\['(?:[^'\\]|\\.)*'\]|\[\"(?:[^\"\\]|\\.)*\"\]", lambda m: "_" * len(m[0]), found)
    match = re.search(r"-\d", unquoted)
    if match is not None:
        expected = "blanks around a minus, or a name with one in brackets such as $['a-1']"
        raise _fault(text, at + match.start(), repr(found), expected)
    try:
        parse_path(found)
    except PathError:
        raise _fault(text, at, repr(text[at : at + 20]), "a path such as $.tokens") from None
    return found


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _fault(text: str, at: int, found: str, expected: str) -> ExpressionError:
    shown = text if len(text) <= 60 else text[:57] + "..."
    return ExpressionError(f"found {found} at character {at + 1} of {shown!r}, expected {expected}")


# Reading -------------------------------------------------------------------------------------------------------------


class _Parser:
    """By binding power, one token ahead (Pratt's way). Depth is counted, so no text can exhaust the stack."""

    def __init__(self, text: str) -> None:
        self.paths: list[str] = []
        self._text = text
        self._tokens = _tokens(text)
        self._next = next(self._tokens)
        self._depth = 0

    def whole(self) -> Number:
        found = self._number(self._part(0))
        if self._next.kind != "end":
            raise self._unexpected("an operator or the end")
        return found

    def _part(self, power: int) -> _Part:
        self._depth += 1
        if self._depth > EXPRESSION_DEPTH_MAX:
            raise self._unexpected(f"at most {EXPRESSION_DEPTH_MAX} levels of nesting")
        left = self._prefix()
        while (binding := _BINDING.get(self._next.text, 0) if self._next.kind in ("sign", "word") else 0) > power:
            sign = self._take()
            left = self._join(sign, left, self._part(binding))
            if binding == _COMPARED and _BINDING.get(self._next.text) == _COMPARED:
                raise self._unexpected("one comparison at a time, joined by and")
        self._depth -= 1
        return left

    def _take(self) -> _Token:
        token = self._next
        if token.kind != "end":
            self._next = next(self._tokens)
        return token

    def _prefix(self) -> _Part:
        token = self._next
        if token.kind == "end":
            raise self._unexpected("a path, a number or a function")
        if token.kind == "sign" and token.text not in ("-", "("):
            raise self._unexpected("a path, a number or a function")
        self._take()
        if token.kind == "number":
            return self._constant(token)
        if token.kind == "path":
            self.paths.append(token.text)
            return Read(token.at, token.text)
        if token.kind == "text":
            return _Literal(token.at, re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL))
        if token.kind == "word":
            return self._word(token)
        if token.text == "-":
            inside = self._number(self._part(_MINUS))
            return Constant(token.at, -inside.value) if isinstance(inside, Constant) else Negate(token.at, inside)
        inside_group = self._part(0)
        self._close(f"an operator, or ) for the bracket at character {token.at + 1}")
        return inside_group

    def _constant(self, token: _Token) -> Constant:
        if self._next.kind in ("number", "word") and self._next.at == token.at + len(token.text):
            raise self._unexpected("an operator")
        try:
            return Constant(token.at, parse_scaled(token.text))
        except NumberError as error:
            raise ExpressionError(f"character {token.at + 1} of {self._text[:60]!r}: {error}") from None

    def _word(self, token: _Token) -> _Part:
        word = token.text
        if word in ("true", "false"):
            return _Literal(token.at, word == "true")
        if word == "not":
            return Not(token.at, self._condition(self._part(_NOT)))
        if word in ("and", "or"):
            raise _fault(self._text, token.at, repr(word), "a condition before it")
        if self._next.text != "(":
            hint = "a bracket behind it: it is a function" if word in _FUNCTIONS else f"a path such as $.{word}"
            raise _fault(self._text, token.at, f"the word {word!r}", hint)
        if word not in _FUNCTIONS:
            lower = word.lower()
            hint = lower if lower in _FUNCTIONS else word
            message = f"no such function at character {token.at + 1} of {self._text[:60]!r}: "
            raise ExpressionError(message + unknown(hint, list(_FUNCTIONS)).replace(repr(hint), repr(word), 1))
        self._take()
        arguments = [self._part(0)]
        while self._next.text == "," and self._next.kind == "sign":
            self._take()
            arguments.append(self._part(0))
        self._close(f"an operator, a comma, or ) for {word}")
        return _CALLS[word](self, token, arguments)

    def _close(self, expected: str) -> None:
        if self._next.kind != "sign" or self._next.text != ")":
            raise self._unexpected(expected)
        self._take()

    def _join(self, sign: _Token, left: _Part, right: _Part) -> _Part:
        if sign.text in ("and", "or"):
            kind: Any = Every if sign.text == "and" else Some
            items = left.items if isinstance(left, kind) else (self._condition(left),)
            return kind(sign.at, (*items, self._condition(right)))
        if _BINDING[sign.text] == _COMPARED:
            return self._compare(sign, left, right)
        step = Step(sign.text, sign.at, self._number(right))
        if sign.text == "/" and isinstance(step.operand, Constant) and step.operand.value == 0:
            raise _fault(self._text, step.operand.at, "nought", "another number to divide by")
        sums = sign.text in "+-"
        if isinstance(left, Chain) and (left.steps[0].sign in "+-") is sums:
            return Chain(left.at, left.first, (*left.steps, step))
        return Chain(left.at, self._number(left), (step,))

    def _compare(self, sign: _Token, left: _Part, right: _Part) -> _Part:
        loose = (_Literal, _Fallback)
        if not isinstance(left, loose) and not isinstance(right, loose):
            return Compare(sign.at, sign.text, self._number(left), self._number(right))
        if isinstance(left, _Literal):
            left, right = right, left
        if not isinstance(right, _Literal) or not isinstance(left, Read | _Fallback):
            raise _fault(self._text, sign.at, repr(sign.text), "a path on one side, where a text stands on the other")
        if sign.text not in ("==", "!="):
            raise _fault(self._text, sign.at, repr(sign.text), "== or != beside a text: texts have no order here")
        reads, fallback = ((left,), None) if isinstance(left, Read) else (left.reads, left.literal)
        return Same(sign.at, sign.text == "==", reads, fallback, right.value)

    def _number(self, part: _Part) -> Number:
        if isinstance(part, _Literal | _Fallback):
            found = "a flag" if isinstance(part, _Literal) and isinstance(part.value, bool) else "a text"
            raise _fault(self._text, part.at, found, "a number: texts and flags can only be compared with a path")
        if isinstance(part, Condition):
            raise _fault(self._text, part.at, "a condition", "a number: if(condition, 1, 0) makes one of it")
        return part

    def _condition(self, part: _Part) -> Condition:
        if not isinstance(part, Condition):
            raise _fault(self._text, part.at, "a value", "a condition such as $.tokens > 0")
        return part

    def _unexpected(self, expected: str) -> ExpressionError:
        token = self._next
        found = "the end" if token.kind == "end" else repr(token.text)
        if token.kind == "word" and token.text.lower() in ("and", "or") and token.text not in _BINDING:
            expected = f"{token.text.lower()!r} in small letters"
        return _fault(self._text, token.at, found, expected)

    # Functions

    def _if(self, token: _Token, arguments: list[_Part]) -> _Part:
        if len(arguments) != 3:
            self._arguments(token, arguments, "three: if(condition, then, else)")
        condition, then, otherwise = arguments
        return Choose(token.at, self._condition(condition), self._number(then), self._number(otherwise))

    def _extreme(self, token: _Token, arguments: list[_Part]) -> _Part:
        if len(arguments) < 2:
            self._arguments(token, arguments, "two or more")
        return Extreme(token.at, token.text == "max", tuple(map(self._number, arguments)))

    def _round(self, token: _Token, arguments: list[_Part]) -> _Part:
        if len(arguments) > 2:
            self._arguments(token, arguments, "one or two: round(number, digits)")
        digits = 0
        if len(arguments) == 2:
            given = arguments[1]
            whole = isinstance(given, Constant) and given.value % ONE == 0
            digits = given.value // ONE if whole and isinstance(given, Constant) else SCALE + 1
            if not SCALE - DIGITS <= digits <= SCALE:
                least = SCALE - DIGITS
                raise _fault(self._text, given.at, "no such count of digits", f"a whole number from {least} to {SCALE}")
        return Round(token.at, self._number(arguments[0]), digits)

    def _coalesce(self, token: _Token, arguments: list[_Part]) -> _Part:
        if len(arguments) < 2:
            self._arguments(token, arguments, "two or more")
        *first, last = arguments
        if not isinstance(last, _Literal):
            return Coalesce(token.at, tuple(map(self._number, arguments)))
        reads = [part for part in first if isinstance(part, Read)]
        for part in first:
            if not isinstance(part, Read):
                raise _fault(self._text, part.at, "something else", "only paths before a text")
        return _Fallback(token.at, tuple(reads), last.value)

    def _arguments(self, token: _Token, arguments: list[_Part], expected: str) -> NoReturn:
        raise _fault(self._text, token.at, f"{token.text} of {len(arguments)}", expected)


_CALLS: Final[dict[str, Callable[[_Parser, _Token, list[_Part]], _Part]]] = {
    "coalesce": _Parser._coalesce,
    "if": _Parser._if,
    "max": _Parser._extreme,
    "min": _Parser._extreme,
    "round": _Parser._round,
}
