"""Figures of five other billing engines, through this one: each is met, or stands in a short list with its reason."""

import pytest

from tests.cases.exceptions import EXCEPTIONS
from tests.cases.reading import Case, differences, find_cases, read_cases
from tests.cases.translate import translate

CASES = read_cases()
MET = [case for case in CASES if case["id"] not in EXCEPTIONS]
EXCEPTED = [case for case in CASES if case["id"] in EXCEPTIONS]


def test_the_shared_cases_are_there_and_each_has_a_name_of_its_own() -> None:
    find_cases()
    names = [case["id"] for case in CASES]
    assert len(names) == len(set(names)) > 350
    assert EXCEPTIONS.keys() <= set(names)


@pytest.mark.parametrize("case", MET, ids=lambda case: case["id"])
def test_a_peers_figures_are_met(case: Case) -> None:
    assert differences(case, translate(case)) == []


@pytest.mark.parametrize("case", EXCEPTED, ids=lambda case: case["id"])
def test_an_exception_differs(case: Case) -> None:
    assert differences(case, translate(case)), f"an exception that is none: {EXCEPTIONS[case['id']]}"
