"""A rejection: what could not be taken, why, and where it came in. Nothing is dropped silently."""

from typing import Any, Literal, get_args

import msgspec

Code = Literal[
    "invalid_json",  # the text is no JSON, or not of the form that its content type says
    "invalid_event",  # a CloudEvents attribute is missing, of the wrong type, empty or unknown to version 1.0
    "invalid_time",  # `time` is no RFC 3339 time, or outside the years that are kept
    "time_out_of_bounds",  # `time` is further ahead of the clock than the door allows
    "invalid_data",  # `data` is no JSON object, too deep, or not valid JSON
    "too_large",  # a bound of `schemas.limits` is exceeded
    "missing_value",  # the event passes a meter's `where` and lacks the meter's value
    "invalid_value",  # the meter's value is no finite number
    "out_of_range",  # a number, or what it adds up to, does not fit 38 digits, 12 after the point
    "no_subscription",  # a meter that the price books charge for counts it, and no subscription covers its time
    "period_closed",  # its billing period was closed and invoiced before it came
    "rerate_refused",  # a re-rating does not fit what was billed; `event` is what was asked for
    "conflict",  # the same identity came with another content before; the first one counts
]
"""The closed list of reasons."""

CODES: tuple[str, ...] = get_args(Code)


class Where(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an event came in: a line of a file, an index in a request, or a partition and offset of the log (and an
    index in the pack that stands there, where the log numbers messages and not events)."""

    partition: int | None = None
    offset: int | None = None
    index: int | None = None
    line: int | None = None


class Rejection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event (and meter) that was not taken. `path` is the place in the event, such as `time` or `data.tokens`.

    A conflict is a rejection with the code `conflict`; it does not count as rejected.
    """

    event: Any
    code: Code
    message: str
    where: Where
    tenant: str = "default"
    meter: str | None = None
    path: str | None = None
