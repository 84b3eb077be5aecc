"""Form bodies with names in brackets, as Stripe's v1 API has them: `payload[value]=25&timestamp=1795234500`."""

import re
from typing import Any, Final
from urllib.parse import parse_qsl

from ingest.compat.stripe.answers import invalid

FIELDS_MAX: Final = 500
_DEPTH_MAX: Final = 8
_NAME: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)\Z")
_INSIDE: Final = re.compile(r"\[([^\[\]]*)\]")


def parse_form(body: bytes) -> dict[str, Any]:
    """The values of a form: texts, and objects of them. A list is an object whose names are its positions.

    Raises: Refused where a name is written wrongly, or stands twice.
    """
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError as error:
        raise invalid(f"found a body that is no form: {error}", code="invalid_form") from None
    found: dict[str, Any] = {}
    for name, value in pairs:
        _put(found, name, value)
    return found


def _put(found: dict[str, Any], name: str, value: str) -> None:
    match = _NAME.match(name)
    steps = [] if match is None else [match[1], *_INSIDE.findall(match[2])]
    if not 0 < len(steps) <= _DEPTH_MAX:
        raise invalid(f"found the name {name[:100]!r}, expected one such as payload[value]", name[:100])
    place = found
    for i, step in enumerate(steps[:-1]):
        numbered = str(len(place)) if step == "" and i > 0 else step  # `expand[]` adds one more
        place = place.setdefault(numbered, {})
        if not isinstance(place, dict):
            raise invalid(f"found {name[:100]!r} as a text and as an object", name[:100])
    last = steps[-1] if steps[-1] or len(steps) == 1 else str(len(place))
    if last in place:
        raise invalid(f"found {name[:100]!r} twice, expected it once", name[:100])
    place[last] = value
