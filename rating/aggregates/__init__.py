"""Aggregations: one file for each, found here by its name."""

import importlib
import pkgutil

from rating.aggregates.aggregate import Aggregate, Total

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

AGGREGATES: dict[str, Aggregate] = {kind.name: kind() for kind in Aggregate.__subclasses__()}
"""Every aggregation by the name that meters use."""

__all__ = ["AGGREGATES", "Aggregate", "Total"]
