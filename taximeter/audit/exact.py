"""Exact numbers in SQL: macros over HUGEINT, in which a number counts units of 10^-12 (see `schemas.numbers`).

DuckDB's own JSON functions read a number with a fraction as a double, and its DECIMAL rounds what has too many digits
in silence. So numbers are taken out of the JSON text as text, and become whole numbers there. A HUGEINT has 38 digits
and raises an error where it is exceeded: nothing wraps.

A price has up to 24 digits after the point before it is rounded. It is carried as two whole numbers, `hi` (units of
10^-12) and `lo` (units of 10^-24), with one sign.
"""

import re
from typing import Final

import duckdb

from schemas.numbers import ONE, SCALE
from schemas.paths import PathError, parse_path

_T: Final = f"{ONE}::HUGEINT"

MACROS: Final = (
    # JSON: numbers and flags become texts that begin with the character 1, which no JSON text can hold unescaped.
    r"""marked(d) AS replace(replace(replace(
        regexp_replace(d, '("(?:[^"\\]|\\.)*")|(-?[0-9][0-9.eE+-]*|true|false)', '\1' || chr(1) || '\2' || chr(2), 'g'),
        chr(1) || chr(2), ''), chr(1), '"\u0001'), chr(2), '"')""",
    "is_flag(x) AS (x = chr(1) || 'true' OR x = chr(1) || 'false')",
    "is_number(x) AS (x[1] = chr(1) AND NOT is_flag(x))",
    # A decimal text -> a whole number of 10^-12; NULL where it is none, or does not fit (as `schemas.numbers` has it).
    r"""digits_of(p) AS ltrim(p.whole || p.fraction, '0')""",
    f"""size_of(p, d) AS (length(d) + coalesce(try_cast(nullif(p.exponent, '') AS INTEGER), 0)
        - length(p.fraction) + {SCALE})::INTEGER""",
    """scaled_parts(p, d, s) AS CASE
        WHEN d = '' THEN CASE WHEN p.whole || p.fraction = '' THEN NULL ELSE 0::HUGEINT END
        WHEN size_of(p, d) NOT BETWEEN length(s) AND 38 THEN NULL
        ELSE (p.sign || rpad(s, size_of(p, d), '0'))::HUGEINT END""",
    r"""scaled_text(t) AS list_transform(list_transform(
        [regexp_extract(t, '^([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,6}))?$',
                        ['sign', 'whole', 'fraction', 'exponent'])],
        lambda p: {'p': p, 'd': digits_of(p)}), lambda q: scaled_parts(q.p, q.d, rtrim(q.d, '0')))[1]""",
    "scaled(x) AS CASE WHEN x IS NULL OR is_flag(x) THEN NULL ELSE scaled_text(ltrim(x, chr(1))) END",
    # The text by which a value is grouped: numbers by what they say.
    f"""decimal_text(n) AS CASE WHEN n % {_T} = 0 THEN (n // {_T})::VARCHAR ELSE
        (CASE WHEN n < 0 THEN '-' ELSE '' END) || (abs(n) // {_T})::VARCHAR || '.' ||
        rtrim(lpad((abs(n) % {_T})::VARCHAR, {SCALE}, '0'), '0') END""",
    """name_of(x) AS CASE WHEN x IS NULL THEN NULL WHEN NOT is_number(x) THEN ltrim(x, chr(1))
        ELSE coalesce(decimal_text(scaled(x)), ltrim(x, chr(1))) END""",
    # Division, rounded; d is above nought.
    "half_up(n, d) AS (n // d + CASE WHEN 2 * abs(n % d) >= d THEN sign(n)::HUGEINT ELSE 0::HUGEINT END)",
    "away(n, d) AS (n // d + CASE WHEN n % d <> 0 THEN sign(n)::HUGEINT ELSE 0::HUGEINT END)",
    "towards(n, d) AS (n // d)",
    # A product of two numbers, as hi and lo (exact), and rounded at the 12th digit.
    f"""product_hi(a, b) AS (sign(a)::HUGEINT * sign(b)::HUGEINT * ((abs(a) // {_T}) * abs(b)
        + (abs(a) % {_T}) * (abs(b) // {_T}) + ((abs(a) % {_T}) * (abs(b) % {_T})) // {_T}))""",
    f"product_lo(a, b) AS (sign(a)::HUGEINT * sign(b)::HUGEINT * (((abs(a) % {_T}) * (abs(b) % {_T})) % {_T}))",
    f"""times(x, y) AS list_transform([{{'a': x, 'b': y}}], lambda s:
        product_hi(s.a, s.b) + half_up(product_lo(s.a, s.b), {_T}))[1]""",
    f"""over(x, y) AS list_transform([{{'a': x, 'b': y}}], lambda s: CASE WHEN s.b = 0 THEN NULL ELSE
        (s.a // s.b) * {_T} * 1 + half_up((s.a % s.b) * {_T} * sign(s.b)::HUGEINT, abs(s.b)) END)[1]""",
    f"fitting(x) AS CASE WHEN abs(x) < 100000000000000000000000000::HUGEINT * {_T} THEN x ELSE NULL END",
    # A whole number and a fraction of any signs -> rounded half up (away from nought).
    """rounded_over(q, f, d) AS list_transform(list_transform([{'q': q + f // d, 'r': f % d, 'd': d}],
        lambda s: {'q': s.q - CASE WHEN s.r < 0 THEN 1 ELSE 0 END,
                   'r': s.r + CASE WHEN s.r < 0 THEN s.d ELSE 0::HUGEINT END, 'd': s.d}),
        lambda s: s.q + CASE WHEN 2 * s.r > s.d OR (2 * s.r = s.d AND s.q >= 0) THEN 1 ELSE 0 END)[1]""",
    f"rounded(hi, lo) AS rounded_over(hi, lo, {_T})",
)


def install(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the macros."""
    for macro in MACROS:
        connection.execute(f"CREATE OR REPLACE MACRO {macro}")


def literal(value: int) -> str:
    """A whole number as SQL."""
    return f"{value}::HUGEINT"


def text(value: str) -> str:
    """A text as SQL."""
    return "'" + value.replace("'", "''") + "'"


class Unreadable(ValueError):
    """Something that this audit cannot say in SQL; the message says what."""


_PLAIN = re.compile(r'[^"\\\x00-\x1f]+\Z')


def json_path(path: str) -> str:
    """A path (`schemas.paths`) as DuckDB writes it. Raises: Unreadable."""
    try:
        steps = parse_path(path)
    except PathError as error:
        raise Unreadable(str(error)) from None
    found = "$"
    for step in steps:
        if isinstance(step, str) and not _PLAIN.match(step):
            raise Unreadable(f"the path {path} has a name that cannot be written in SQL")
        found += f"[{step}]" if isinstance(step, int) else f'."{step}"'
    return found
