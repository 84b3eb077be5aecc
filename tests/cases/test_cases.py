"""Figures of five other billing engines, through this one: each is met, or stands in a short list with its reason."""

import pytest

from tests.cases.exceptions import EXCEPTIONS
from tests.cases.reading import Case, differences, find_cases, read_cases
from tests.cases.translate import translate

CASES = read_cases()
MET = [case for case in CASES if case["id"] not in EXCEPTIONS]
EXCEPTED = [case for case in CASES if case["id"] in EXCEPTIONS]


def test_every_shared_case_is_run() -> None:
    find_cases()
    names = [case["id"] for case in CASES]
    assert len(names) == len(set(names)) == len(MET) + len(EXCEPTED) >= 356
    assert EXCEPTIONS.keys() <= set(names)
    assert len(EXCEPTIONS) < 25


@pytest.mark.parametrize("case", MET, ids=lambda case: case["id"])
def test_the_figures_of_a_peer_are_met(case: Case) -> None:
    assert differences(case, translate(case)) == []


@pytest.mark.parametrize("case", EXCEPTED, ids=lambda case: case["id"])
def test_an_exception_differs_as_its_reason_says(case: Case) -> None:
    found, ours = translate(case), EXCEPTIONS[case["id"]].ours
    assert differences(case, found), "no exception: the figures of the peer are met"
    assert differences(case | {"expected": ours}, found) == []
