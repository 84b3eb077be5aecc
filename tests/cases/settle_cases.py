"""The shared test vectors that say what comes off an invoice's lines: figures from other billing engines."""

import json
import os
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAME = "rating.json"
MODELS = ("tax", "coupon", "percentage_discount", "credits", "allocation", "rounding")

UNREACHABLE = {
    "lago-wallet-kinds": "there a wallet pays the invoice's lines one after the other; here every grant is spread over "
    "the lines it may pay for, so that later ones find other lines open",
    "lago-ongoing-threshold-mid": "there a wallet's balance falls below nought; a grant is drawn to nought, and the "
    "rest is due in money",
    "lago-ongoing-neg": "the same: the last wallet's balance falls below nought",
}
"""Case -> why no parameter of ours reaches its figures."""


def find_cases() -> Path:
    """The file of the cases. Raises: FileNotFoundError, which says what is missing and where it was sought."""
    folder = Path(os.environ.get("TAXIMETER_SHARED_CASES") or HERE.parents[1] / ".." / "shared" / "cases")
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"the shared test vectors {NAME} are missing: sought them in {folder}. "
            "Put them there or set TAXIMETER_SHARED_CASES to the folder that holds them."
        )
    return path


def read_cases() -> list[dict[str, Any]]:
    """The cases that concern an invoice's lines after they are rounded. None where the file is missing."""
    try:
        cases = json.loads(find_cases().read_text())
    except FileNotFoundError:
        return []  # a test of its own says so
    return [case for case in cases if case["model"] in MODELS]


def is_ours(case: dict[str, Any]) -> bool:
    """Whether a case concerns an invoice: no allowance of units, no rounding of a quantity."""
    if case["model"] == "credits":
        return "wallets" in case["price"] or "credits" in case["price"]
    if case["model"] == "percentage_discount":
        return "coupons" in case["price"]
    return case["model"] != "rounding" or case["rounding"]["mode"] == "half_away_from_zero"
