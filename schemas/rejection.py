"""A rejection: what could not be taken, why, and where it came in. Nothing is dropped silently."""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

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

REJECTION_PREFIX: Final = "rej_"
"""Leads the id under which a rejection is listed."""
MENDS: Final = "mends"
"""The extension attribute of an event that stands for a rejected one: the rejection's id."""


class Explanation(NamedTuple):
    """A code in words. `used_up`: an event under its source and id is in the log, and other meters may count it."""

    meaning: str
    what_to_do: str
    used_up: bool


_ENVELOPE: Final = "Correct the event and send it again: it never went in, so it may keep its id."
EXPLAINED: Final[Mapping[str, Explanation]] = {
    "invalid_json": Explanation(
        "The text is no JSON, or not of the form that its content type says.",
        f"{_ENVELOPE} Look at the producer.",
        False,
    ),
    "invalid_event": Explanation(
        "An attribute of the CloudEvent is missing, empty, of the wrong type, or not allowed in version 1.0.",
        f"{_ENVELOPE} `path` names the attribute.",
        False,
    ),
    "invalid_time": Explanation(
        "`time` is no RFC 3339 time, or outside the years that are kept.", f"{_ENVELOPE} Give the time a zone.", False
    ),
    "time_out_of_bounds": Explanation(
        "`time` is further ahead of the door's clock than the door allows (`--max-ahead`).",
        "Correct the producer's clock, and send the event again with the right time; or wait until its time is near, "
        "and send it as it is. It never went in, so it may keep its id.",
        False,
    ),
    "invalid_data": Explanation(
        "`data` is no JSON object, is nested too deep, or has a name twice.",
        f"{_ENVELOPE} `path` names the place.",
        False,
    ),
    "too_large": Explanation(
        "The event is larger than a bound allows.",
        "Make it smaller, or split it into several events with ids of their own. What is shown of it may be its "
        "beginning only, so the mended event must be given whole.",
        False,
    ),
    "missing_value": Explanation(
        "The event passes the meter's `where`, and lacks the value that the meter reads. Other meters may count it.",
        "If the producer left it out: mend the event with the value at `path`. If the meter reads the wrong place, or "
        "its `where` is too wide: correct the catalogue, where a meter that charges read keeps its meaning and another "
        "one takes its place; then send the event again as it is.",
        True,
    ),
    "invalid_value": Explanation(
        "What the meter reads is no finite number. Other meters may count the event.",
        "Mend the event with a number at `path`.",
        True,
    ),
    "out_of_range": Explanation(
        "A number, or what it adds up to, does not fit 38 digits, 12 after the point.",
        "Mend the event with the right number: one of this size is most often a unit mistaken.",
        True,
    ),
    "no_subscription": Explanation(
        "A meter that price books charge for counts the event, and no subscription of its customer covers its time.",
        "Add or prolong the subscription (or a `default_subscription`), or let a customer claim the subject; then send "
        "the event again as it is.",
        True,
    ),
    "period_closed": Explanation(
        "Its billing period had been closed for so long that it is not corrected any more.",
        "Sent again as it is, it is rejected again. If it is to be billed nevertheless, mend it with a time in a "
        "period that is open or can still be corrected.",
        True,
    ),
    "rerate_refused": Explanation(
        "A re-rating did not fit what was billed, and changed nothing. `event` is what was asked for.",
        "This is no usage event and cannot be sent again: ask for another re-rating (`taximeter rerate`).",
        False,
    ),
    "conflict": Explanation(
        "The same source and id came with another content before. The first one counts, this one does not.",
        "If both happened, send this one under an id of its own, and look at how the producer makes ids. If this one "
        "is the truth, let it replace the first.",
        True,
    ),
}
"""What each code means, and what to do about it."""


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
