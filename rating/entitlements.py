"""What features and entitlements say of other documents: checked when a catalogue is compiled, and never rated."""

from datetime import datetime
from itertools import pairwise

import msgspec

from schemas.catalogue import Catalogue, Entitlement, Feature
from schemas.faults import Faults, join, unknown


def check_entitlements(documents: Catalogue, faults: Faults) -> None:
    """Notes every fault of `features` and `entitlements`."""
    for id, feature in documents.features.items():
        _check_feature(feature, documents, join("features", id), faults)
    held: dict[tuple[str, str], list[tuple[datetime, datetime | None, str]]] = {}
    for id, entitlement in documents.entitlements.items():
        _check_entitlement(entitlement, documents, join("entitlements", id), faults)
        spans = held.setdefault((entitlement.customer, entitlement.feature), [])
        spans.append((entitlement.start, entitlement.end, id))
    for (customer, name), spans in held.items():
        spans.sort(key=lambda span: (span[0], span[2]))
        for (_, end, before), (start, _, after) in pairwise(spans):
            if end is None or end > start:
                message = f"overlaps entitlements.{before}: expected one at a time of {name!r} for {customer!r}"
                faults.add(join(join("entitlements", after), "start"), message)


def _check_feature(feature: Feature, documents: Catalogue, where: str, faults: Faults) -> None:
    if feature.meter is None:
        return
    meter = documents.meters.get(feature.meter)
    if meter is None:
        faults.add(join(where, "meter"), unknown(feature.meter, list(documents.meters)))
        return
    for name in feature.filters:
        if name not in meter.dimensions:
            faults.add(join(join(where, "filters"), name), unknown(name, list(meter.dimensions)))


def _check_entitlement(entitlement: Entitlement, documents: Catalogue, where: str, faults: Faults) -> None:
    if entitlement.customer not in documents.customers:
        faults.add(join(where, "customer"), unknown(entitlement.customer, list(documents.customers)))
    feature = documents.features.get(entitlement.feature)
    if feature is None:
        faults.add(join(where, "feature"), unknown(entitlement.feature, list(documents.features)))
    elif entitlement.kind == "metered" and feature.meter is None:
        faults.add(join(where, "kind"), f"found metered, but features.{entitlement.feature} has no meter")
    if entitlement.allowance < 0:
        faults.add(join(where, "allowance"), f"found {entitlement.allowance}, expected nought or more")
    if entitlement.end is not None and entitlement.end < entitlement.start:
        faults.add(join(where, "end"), "found a time before `start`, expected one at or after it")
    if (entitlement.config is not None) != (entitlement.kind == "static"):
        expected = "a JSON text" if entitlement.kind == "static" else f"none for the kind {entitlement.kind}"
        faults.add(join(where, "config"), f"expected {expected}")
    elif entitlement.config is not None and not _is_json(entitlement.config):
        faults.add(join(where, "config"), f"found {entitlement.config[:60]!r}, expected a JSON text")


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
        return True
    except (msgspec.MsgspecError, RecursionError):
        return False
