"""What a changed catalogue may not do under open periods: read usage otherwise than the totals already counted.

Prices may change at any time; so may readings where a version takes force, for it counts into segments of its own.
"""

from typing import Final

import msgspec

from rating.compiled import Compiled
from schemas.catalogue import CatalogueError, Meter
from schemas.faults import Faults, encode_document, join

FLAT: Final = "flat"
"""What a charge reads that asks for the period itself."""


def check_change(before: Compiled, after: Compiled) -> None:
    """Prices may change under open periods; how a charge reads usage may not: totals already counted would have no
    meaning under the new reading. Raises: CatalogueError that names each such charge.

    Where a version takes force it may read usage as it likes: it counts into segments of its own.
    """
    faults = Faults()
    old = {sub.id: sub.timeline for sub in before.subscriptions}
    pairs = [(f"subscriptions.{sub.id}", old[sub.id], sub.timeline) for sub in after.subscriptions if sub.id in old]
    pairs.append(("default_subscription", before.default_timeline(""), after.default_timeline("")))
    for where, earlier, later in pairs:
        plans = {entry.start: entry.plan for entry in earlier}
        for entry in later:
            was = _asked_readings(before, plans.get(entry.start, -1))
            now = _asked_readings(after, entry.plan)
            for charge in was.keys() & now.keys():
                if was[charge] != now[charge]:
                    faults.add(
                        join(where, charge),
                        f"found another reading of usage than the one in force (was: {was[charge]}; now: "
                        f"{now[charge]}); only prices may change, so give the charge a new name, or the price book a "
                        "version that takes force later",
                    )
    if faults:
        raise CatalogueError(Faults(sorted(set(faults))))


def _asked_readings(compiled: Compiled, plan: int) -> dict[str, str]:
    return {} if plan < 0 or compiled.plans[plan].trial else readings(compiled, plan)


def readings(compiled: Compiled, plan: int) -> dict[str, str]:
    """Charge -> what it reads: its meter and the signature of its shape, or `FLAT`."""
    meters = {name: _reading_of(meter) for name, meter in compiled.documents.meters.items()}
    found = {flat.charge: FLAT for flat in compiled.plans[plan].flats}
    for shapes in compiled.shapes.values():
        for shape in shapes:
            if compiled.plan_rates[plan, shape.index] >= 0:
                dimensions = compiled.documents.meters[shape.meter].dimensions
                used = [f"{name}: {dimensions[name]}" for name in dict.fromkeys((*shape.group_by, *shape.by))]
                found[shape.charge] = " ".join([meters[shape.meter], *used, shape.signature])
    return found


def _reading_of(meter: Meter) -> str:
    """How a meter reads events, as a text: all of its document but what it is called and can be grouped by."""
    plain = msgspec.structs.replace(meter, dimensions={}, description="", name="", metadata={}, archived=False)
    return encode_document(plain).decode()
