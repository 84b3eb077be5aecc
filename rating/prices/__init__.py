"""Price models: one file for each, found here by its name. A price is read, checked and compiled in one place."""

import importlib
import pkgutil
from typing import Any

from rating.prices.model import CompiledPrice, PriceModel
from schemas.faults import MISSING, Faults, describe, join, read, unknown

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

MODELS: dict[str, type[PriceModel]] = {model.name: model for model in PriceModel.__subclasses__()}
"""Every price model by the name that price books use."""


def read_price(value: dict[str, Any], path: str, faults: Faults) -> CompiledPrice | Any:
    """The compiled price of a price book's `price` mapping, or `schemas.faults.MISSING` with every fault noted."""
    if not isinstance(value, dict):
        faults.add(path, f"found {describe(value)}, expected a mapping")
        return MISSING
    name = value.get("model")
    if not isinstance(name, str) or name not in MODELS:
        known = ", ".join(sorted(MODELS))
        message = "missing: expected one of " + known if name is None else unknown(str(name), list(MODELS))
        faults.add(join(path, "model"), message)
        return MISSING
    before = len(faults)
    price = read(MODELS[name], {k: v for k, v in value.items() if k != "model"}, path, faults)
    if price is MISSING:
        return MISSING
    price.check(path, faults)
    return price.compile() if len(faults) == before else MISSING
