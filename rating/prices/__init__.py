"""Price models: one file for each, found here by its name. A price is read, checked and compiled in one place."""

import importlib
import pkgutil
from typing import Any

from rating.prices.model import CompiledPrice, PriceModel
from schemas.faults import MISSING, Faults, describe, join, read, unknown
from schemas.limits import PRICE_DEPTH_MAX

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

MODELS: dict[str, type[PriceModel]] = {model.name: model for model in PriceModel.__subclasses__()}
"""Every price model by the name that price books use."""


def read_price(value: Any, path: str, faults: Faults, depth: int = 0) -> CompiledPrice | Any:
    """The compiled price of a price book's `price` mapping, or `schemas.faults.MISSING` with every fault noted.

    `depth`: how many prices stand around this one; inside another price only models of usage may stand.
    """
    if not isinstance(value, dict):
        faults.add(path, f"found {describe(value)}, expected a mapping")
        return MISSING
    if depth > PRICE_DEPTH_MAX:
        faults.add(path, f"found {depth} prices around this one, expected at most {PRICE_DEPTH_MAX}")
        return MISSING
    name = value.get("model")
    at = join(path, "model")
    if not isinstance(name, str) or name not in MODELS:
        known = ", ".join(sorted(MODELS))
        faults.add(at, "missing: expected one of " + known if name is None else unknown(str(name), list(MODELS)))
        return MISSING
    if depth and not MODELS[name].of_usage:
        faults.add(at, f"found {name!r}, expected a model of usage inside another price")
        return MISSING
    price = read(MODELS[name], {k: v for k, v in value.items() if k != "model"}, path, faults)
    return price if price is MISSING else price.build(path, faults, depth)
