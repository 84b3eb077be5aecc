"""Which translation a case has, by its model and its form, and never by its id."""

from collections.abc import Callable
from typing import Any

from tests.cases import calls, metering, periods, settlement, usage
from tests.cases.reading import Case

Found = dict[str, Any]


def translate(case: Case) -> Found:
    """The figures that the engine comes to for a case."""
    if "aggregation" in case:
        return metering.metered(case)
    for present, translation in _FORMS:
        if present(case):
            return translation(case)
    return _MODELS.get(case["model"], usage.rated)(case)


_FORMS: list[tuple[Callable[[Case], bool], Callable[[Case], Found]]] = [
    (lambda case: "coupons" in case["price"], settlement.coupons),
    (lambda case: "fees" in case["usage"], settlement.wallets),
    (lambda case: "grants" in case["price"], settlement.grants),
    (lambda case: "charged" in case["usage"], periods.commitment),
    (lambda case: "potential" in case["usage"], settlement.credit_cap),
    (lambda case: "full_units" in case["usage"], periods.prorated_tiers),
]

_MODELS: dict[str, Callable[[Case], Found]] = {
    "allocation": settlement.allocation,
    "increment_rate": calls.call,
    "prorated_flat": periods.prorated_flat,
    "proration_change": periods.change,
    "rounding": settlement.rounded,
    "stairstep": usage.stepped,
    "tax": settlement.taxes,
}
