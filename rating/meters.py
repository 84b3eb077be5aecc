"""What a meter's document says beyond its types: its value, its conversion, and the keys of single aggregations.

Every fault is noted with its path. `rating.catalogue` puts the parts together.
"""

from typing import Any, Final

from rating.aggregates import AGGREGATES
from rating.convert import Conversion, compile_convert, find_convert_faults
from rating.expressions import Expression, ExpressionError, parse_expression
from schemas.catalogue import Meter
from schemas.expressions import is_path
from schemas.faults import Faults, join
from schemas.paths import PathError, parse_path

GAUGE: Final = "time_weighted"
RANK: Final = "percentile"


def read_value(meter: Meter, where: str, faults: Faults) -> tuple[str | None, Expression | None]:
    """A meter's value: a plain path, or an expression; neither where it has none, or one with a fault."""
    at, reads = join(where, "value"), _reads(meter)
    if meter.value is None:
        if reads != "nothing":
            faults.add(at, f"missing: {meter.aggregate} reads a value, such as $.tokens")
        return None, None
    if reads == "nothing":
        faults.add(at, f"found {meter.value!r}, expected none: {meter.aggregate} reads no value")
        return None, None
    if is_path(meter.value):
        return meter.value, None
    try:
        expression = parse_expression(meter.value)
    except ExpressionError as error:
        faults.add(at, str(error))
        return None, None
    if reads == "text":
        faults.add(at, f"found an expression, expected one path: {meter.aggregate} compares values as texts")
        return None, None
    return None, expression


def read_convert(meter: Meter, where: str, faults: Faults) -> tuple[Conversion | None, Conversion | None]:
    """What comes after each event's value, and what after the total: at most one of the two."""
    convert, at = meter.convert, join(where, "convert")
    if convert is None:
        return None, None
    found = find_convert_faults(convert)
    for key, message in found:
        faults.add(join(at, key) if key else at, message)
    if convert.per == "event" and _reads(meter) != "number":
        message = f"found event, expected total: {meter.aggregate} reads no number of an event"
        faults.add(join(at, "per"), message)
        return None, None
    if found:
        return None, None
    compiled = compile_convert(convert)
    return (compiled, None) if convert.per == "event" else (None, compiled)


def check_meter(meter: Meter, where: str, faults: Faults) -> None:
    """Notes keys that another aggregation has, and what is wrong with those of its own."""
    strange: dict[str, Any] = {}
    if meter.aggregate != GAUGE:
        level = None if meter.reads == "level" else meter.reads
        strange |= {"key": meter.key, "unit": meter.unit, "reads": level, "align": meter.align}
    for key, value in strange.items():
        if value is not None:
            faults.add(join(where, key), f"found {value!r} with {meter.aggregate}, expected it only with {GAUGE}")
    if meter.key is not None:
        try:
            parse_path(meter.key)
        except PathError as error:
            faults.add(join(where, "key"), str(error))
    at = join(where, RANK)
    if meter.aggregate != RANK:
        if meter.percentile is not None:
            faults.add(at, f"found {meter.percentile} with {meter.aggregate}, expected it only with {RANK}")
    elif meter.percentile is None:
        faults.add(at, 'missing: which one, such as percentile: "95"')
    elif not 0 < meter.percentile <= 100:
        faults.add(at, f"found {meter.percentile}, expected more than 0 and at most 100")


def _reads(meter: Meter) -> str:
    return AGGREGATES[meter.aggregate].reads if meter.aggregate in AGGREGATES else "number"
