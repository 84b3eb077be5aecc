"""Expressions: what is read, and what is refused, where and with which words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.expressions import (
    Chain,
    Constant,
    ExpressionError,
    Negate,
    Read,
    Round,
    Same,
    Step,
    is_path,
    parse_formula,
    value_paths,
)
from schemas.limits import EXPRESSION_DEPTH_MAX, EXPRESSION_LENGTH_MAX
from schemas.numbers import ONE


def test_products_bind_more_tightly_than_sums() -> None:
    formula = parse_formula("$.in + 3 * $.out")
    product = Chain(7, Constant(7, 3 * ONE), (Step("*", 9, Read(11, "$.out")),))
    assert formula.tree == Chain(0, Read(0, "$.in"), (Step("+", 5, product),))
    assert formula.paths == ("$.in", "$.out")


def test_each_path_is_named_once_in_order() -> None:
    text = "if($.b > 0 and $['a \\'b'][0] == 'x', $.b, coalesce($.c, $.b))"
    assert parse_formula(text).paths == ("$.b", "$['a \\'b'][0]", "$.c")
    assert value_paths(text) == parse_formula(text).paths
    assert value_paths("$.a-1") == ("$.a-1",)


def test_a_minus_ends_a_name_that_cannot_go_on() -> None:
    assert parse_formula("$.total-$.cached").paths == ("$.total", "$.cached")
    assert parse_formula("$.a-(1)").paths == ("$.a",)
    assert parse_formula("$.in-flight * 2").paths == ("$.in-flight",)
    assert parse_formula("$['a-1'] * 2").paths == ("$['a-1']",)


def test_constants_with_a_minus_are_constants() -> None:
    assert parse_formula("-5").tree == Constant(0, -5 * ONE)
    assert parse_formula("round($.a, -2)").tree == Round(0, Read(6, "$.a"), -2)
    assert parse_formula("-$.a").tree == Negate(0, Read(1, "$.a"))


def test_texts_take_escapes_as_paths_do() -> None:
    condition = parse_formula(r"if($.a != 'it\'s \\', 1, 0)").tree.condition  # type: ignore[union-attr]
    assert condition == Same(7, False, (Read(3, "$.a"),), None, "it's \\")
    turned = parse_formula("if('x' == coalesce($.a, $.b, 'y'), 1, 0)").tree.condition  # type: ignore[union-attr]
    assert turned == Same(7, True, (Read(19, "$.a"), Read(24, "$.b")), "y", "x")


@pytest.mark.parametrize(("text", "path"), [("$.a", True), ("$['a b'][0]", True), ("$.a + 1", False), ("a", False)])
def test_plain_paths_are_known(text: str, path: bool) -> None:
    assert is_path(text) is path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found the end at character 1 of '', expected a path, a number or a function"),
        ("1 +", "found the end at character 4 of '1 +', expected a path, a number or a function"),
        ("$.a $.b", "found '$.b' at character 5 of '$.a $.b', expected an operator or the end"),
        ("$.a, 1", "found ',' at character 4 of '$.a, 1', expected an operator or the end"),
        (
            "(1 + 2",
            "found the end at character 7 of '(1 + 2', expected an operator, or )",
        ),
        ("min(1, 2", "expected an operator, a comma, or ) for min"),
        ("tokens", "found the word 'tokens' at character 1 of 'tokens', expected a path such as $.tokens"),
        ("max", "found the word 'max' at character 1 of 'max', expected a bracket behind it: it is a function"),
        ("sum($.a, 1)", "no such function at character 1 of 'sum($.a, 1)': found 'sum', expected one of coalesce, if,"),
        ("mim(1, 2)", "found 'mim' (did you mean 'min'?)"),
        ("MIN(1, 2)", "found 'MIN' (did you mean 'min'?)"),
        ("min($.a)", "found min of 1 at character 1 of 'min($.a)', expected two or more"),
        (
            "if($.a > 0, 1)",
            "found if of 2 at character 1 of 'if($.a > 0, 1)', expected three: if(condition,",
        ),
        ("round($.a, 1, 2)", "expected one or two: round(number, digits)"),
        (
            "round($.a, 13)",
            "found no such count of digits at character 12 of 'round($.a, 13)', expected a",
        ),
        ("round($.a, -27)", "expected a whole number from -26 to 12"),
        ("round($.a, 0.5)", "expected a whole number from -26 to 12"),
        ("round($.a, $.b)", "expected a whole number from -26 to 12"),
        ("coalesce($.a)", "found coalesce of 1"),
        ("coalesce($.a + 1, 'x')", "expected only paths before a text"),
        ("coalesce($.a, 'x') + 1", "found a text at character 1"),
        ("$.a + 'x'", "found a text at character 7 of \"$.a + 'x'\", expected a number: texts and flags can only be"),
        ("$.a + true", "found a flag at character 7"),
        ("$.a == 'x'", "found a condition at character 5 of \"$.a == 'x'\", expected a number: if(condition, 1, 0)"),
        ("1 + ($.a < 1)", "found a condition at character 10"),
        ("if($.a, 1, 2)", "found a value at character 4 of 'if($.a, 1, 2)', expected a condition such as $.tokens > 0"),
        ("not $.a", "found a value at character 5"),
        ("if($.a < 'x', 1, 2)", "found '<' at character 8 of \"if($.a < 'x', 1, 2)\", expected == or != beside a text"),
        ("if('a' == 'b', 1, 2)", "expected a path on one side, where a text stands on the other"),
        ("if($.a + 1 == 'b', 1, 2)", "expected a path on one side, where a text stands on the other"),
        (
            "if($.a < $.b < 3, 1, 2)",
            "found '<' at character 14 of 'if($.a < $.b < 3, 1, 2)', expected one",
        ),
        ("if($.a > 0 AND $.b > 0, 1, 2)", "found 'AND' at character 12"),
        ("if(or $.a > 0, 1, 2)", "found 'or' at character 4"),
        ("$.a = 1", "found '=' at character 5 of '$.a = 1', expected == (equal)"),
        ("if($.a && $.b, 1, 2)", "found '&' at character 8 of 'if($.a && $.b, 1, 2)', expected and"),
        ('if($.a == "x", 1, 2)', "expected a text in single quotes"),
        ("$.a % 2", "expected one of + - * / (there is no remainder)"),
        ("$.a ** 2", "found '*' at character 6"),
        ("$.a / 0", "found nought at character 7 of '$.a / 0', expected another number to divide by"),
        ("$.a / 0.0", "expected another number to divide by"),
        ("$.a-1", "found '$.a-1' at character 4"),
        ("$.a - 1e-13", "character 7 of '$.a - 1e-13': found '1e-13', expected at most 12 digits after the point"),
        ("1e26 * $.a", "expected at most 26 digits before the point"),
        ("2x", "found 'x' at character 2 of '2x', expected an operator"),
        ("1.2.3", "found '.3' at character 4 of '1.2.3', expected an operator"),
        ("1_000", "found '_000' at character 2"),
        ("'abc", "found a text without an end at character 1"),
        ("$", "found '$' at character 1 of '$', expected a path such as $.tokens"),
        ("$.", "found '$.' at character 1"),
        ("2 * $.a[*]", "found '[' at character 8"),
        ("$.a; import os", "found ';' at character 4"),
        ("+1", "found '+' at character 1"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        parse_formula(text)
    assert message in str(refused.value)


def test_bounds_hold_and_one_above_them_is_refused() -> None:
    for opening in ("(", "-", "min(1, ", "round("):
        depth = EXPRESSION_DEPTH_MAX - 1
        closing = ")" if "(" in opening else ""
        whole = opening * depth + "$.a" + closing * depth
        assert parse_formula(whole).paths == ("$.a",)
        with pytest.raises(ExpressionError, match=f"expected at most {EXPRESSION_DEPTH_MAX} levels of nesting"):
            parse_formula(opening + whole + closing)
    long = "1" + "+1" * ((EXPRESSION_LENGTH_MAX - 1) // 2)
    assert len(long.ljust(EXPRESSION_LENGTH_MAX)) == EXPRESSION_LENGTH_MAX
    parse_formula(long.ljust(EXPRESSION_LENGTH_MAX))
    with pytest.raises(ExpressionError, match="found 1001 characters, expected at most 1000"):
        parse_formula(long.ljust(EXPRESSION_LENGTH_MAX + 1))


PIECES = st.sampled_from(
    ["$.a", "$", "'x'", "1", "2.5", "(", ")", ",", "+", "-", "*", "/", "==", "<", "and", "or", "not", "if", "min", " "]
)


@given(st.text(max_size=30) | st.lists(PIECES, max_size=25).map(" ".join) | st.lists(PIECES, max_size=25).map("".join))
def test_any_text_is_an_expression_or_an_error(text: str) -> None:
    try:
        formula = parse_formula(text)
    except ExpressionError as error:
        assert str(error)
        return
    assert formula.text == text
