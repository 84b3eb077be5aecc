"""Reads the parameters of a request. Whatever is wrong is a problem (RFC 9457) that names the parameter, says what was
found and what was expected."""

import base64
import binascii
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request

from rating.spend.spending import ALL, CURRENT, Choice
from rating.spend.store import Place
from rating.spend.view import SpendView
from schemas.access import access_of
from schemas.faults import unknown
from schemas.identity import IDENTIFIER
from schemas.limits import EVENT_TEXT_LENGTH_MAX
from schemas.period import PeriodError, load_zone
from schemas.times import TimeError, parse_time
from streams.log import decode_position

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1000
WAIT_MS_DEFAULT: Final = 5000
WAIT_MS_MAX: Final = 30_000
_OFFSET_MAX: Final = 2**63 - 1

_PLACE = msgspec.json.Decoder(tuple[str, str, str])


class Problem(Exception):
    """An answer that says what went wrong; `more` are members of its own."""

    def __init__(self, status: int, title: str, code: str, detail: str, **more: Any) -> None:
        self.status = status
        self.body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code} | more
        super().__init__(detail)


def invalid(name: str, detail: str) -> Problem:
    """A parameter that cannot be taken."""
    return Problem(400, "Invalid parameter", "invalid_parameter", f"{name}: {detail}", parameter=name)


class Parameters:
    """The query parameters of one request; each is asked for once, `finish` refuses the rest.

    `tenant` is whose request it is. A parameter of that name chooses it where no key does; with a key it may only
    say the same.
    """

    def __init__(self, request: Request) -> None:
        """Raises: Problem where the parameter `tenant` cannot be taken."""
        self._values: dict[str, list[str]] = {}
        for name, value in request.query_params.multi_items():
            self._values.setdefault(name, []).append(value)
        self._asked: set[str] = set()
        self.path: dict[str, Any] = request.path_params
        self.tenant = self._tenant(request)

    def _tenant(self, request: Request) -> str:
        access, asked = access_of(request.scope), self.text("tenant")
        if asked is None or asked == access.tenant:
            return access.tenant
        if access.key is not None:
            detail = f"tenant: found {asked[:128]!r}, expected {access.tenant!r}, to which this key belongs"
            raise Problem(403, "Forbidden", "other_tenant", detail, parameter="tenant")
        if not IDENTIFIER.match(asked):
            raise invalid("tenant", f"found {asked[:128]!r}, expected 1 to 128 letters, digits and . _ - : @ /")
        return asked

    def finish(self) -> None:
        """Raises: Problem for a parameter that nothing asked for."""
        for name in self._values:
            if name not in self._asked:
                raise Problem(
                    400, "Unknown parameter", "unknown_parameter", unknown(name, list(self._asked)), parameter=name
                )

    def text(self, name: str, default: str | None = None) -> str | None:
        """A text, at most as long as an event's texts."""
        found = self.texts(name)
        if len(found) > 1:
            raise invalid(name, f"found {len(found)} values, expected one")
        if not found:
            return default
        if not 0 < len(found[0]) <= EVENT_TEXT_LENGTH_MAX:
            raise invalid(name, f"found {len(found[0])} characters, expected 1 to {EVENT_TEXT_LENGTH_MAX}")
        return found[0]

    def texts(self, name: str) -> Sequence[str]:
        """All values of a parameter that may be repeated."""
        self._asked.add(name)
        return self._values.get(name, [])

    def choice(self, name: str, known: Collection[str], default: str | None = None) -> str | None:
        """One of a closed list."""
        found = self.text(name, default)
        if found is not None and found not in known:
            raise invalid(name, unknown(found, list(known)))
        return found

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        found = self.text(name)
        if found is None:
            return default
        if not (found.isascii() and found.isdigit() and len(found) < 19 and least <= int(found) <= most):
            raise invalid(name, f"found {found[:60]!r}, expected a whole number from {least} to {most}")
        return int(found)

    def limit(self) -> int:
        """How many rows a page holds."""
        return self.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX)

    def time(self, name: str) -> int | None:
        """A time in microseconds."""
        found = self.text(name)
        try:
            return None if found is None else parse_time(found)
        except TimeError as error:
            raise invalid(name, str(error)) from None

    def zone(self, name: str) -> str:
        """The name of a time zone, UTC by default."""
        found = self.text(name) or "UTC"
        try:
            load_zone(found)
        except PeriodError as error:
            raise invalid(name, str(error)) from None
        return found

    def period(self) -> Choice:
        """`current` (by default), `all` or the start of a period."""
        found = self.text("period", CURRENT)
        if found in (CURRENT, ALL):
            return found
        try:
            return parse_time(str(found))
        except TimeError:
            raise invalid("period", f"found {found!r}, expected current, all or the start of a period") from None

    def position(self, view: SpendView) -> dict[int, int]:
        """The position that the answer must include; nothing by default."""
        found = self.text("position")
        try:
            position = decode_position(found or "")
        except ValueError as error:
            raise invalid("position", str(error)) from None
        for partition, offset in position.items():
            if not 0 <= partition < view.partitions or not 0 <= offset <= _OFFSET_MAX:
                raise invalid(
                    "position",
                    f"found partition {partition} and offset {offset}, "
                    f"expected a partition from 0 to {view.partitions - 1} and an offset from 0",
                )
        return position

    def after(self, listing: str) -> Place | None:
        """The place behind which a page begins, from the cursor of the page before it."""
        found = self.text("cursor")
        return None if found is None else Place(*read_cursor(found, listing, _PLACE))


def read_cursor(cursor: str, listing: str, decoder: msgspec.json.Decoder[Any]) -> tuple[Any, ...]:
    """The place that `cursor_of` was given. `decoder`: of a tuple, the listing's name first. Raises: Problem."""
    try:
        origin, *place = decoder.decode(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeEncodeError, msgspec.MsgspecError):
        raise invalid("cursor", f"found {cursor[:60]!r}, expected the next_cursor of an earlier page") from None
    if origin != listing:
        raise invalid("cursor", f"found a cursor of {origin[:60]!r}, expected one of {listing!r}")
    return tuple(place)


def cursor_of(listing: str, place: Sequence[Any]) -> str:
    """The cursor that `read_cursor` reads."""
    return base64.b64encode(msgspec.json.encode((listing, *place)), altchars=b"-_").decode()
