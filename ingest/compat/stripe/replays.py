"""Idempotency keys: a request that comes again under its key gets the answer that it got, and does nothing more.

The memory is bounded and gone with the process. An event without an `identifier` takes its identity from the key, so
that it counts once even where this memory has forgotten it.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from ingest.compat.stripe.answers import error, invalid
from schemas.identity import digest
from schemas.times import DAY

REMEMBERED_MAX: Final = 20_000
"""Answers that are remembered: of more, the latest."""
BODY_BYTES_MAX: Final = 2048
"""A longer answer is not remembered: all together are a few tens of megabytes at most."""
KEY_LENGTH_MAX: Final = 255
_KEPT: Final = DAY


class Replay(NamedTuple):
    """What was asked under a key, when (microseconds), and the answer; None while it is being made."""

    asked: bytes
    at: int
    answer: bytes | None


class Replays:
    """The answers of all tenants' keys."""

    def __init__(self, clock: Callable[[], int], remembered: int = REMEMBERED_MAX) -> None:
        self._clock = clock
        self._remembered = remembered
        self._found: OrderedDict[tuple[str, str], Replay] = OrderedDict()

    def begin(self, tenant: str, key: str, path: str, body: bytes) -> bytes | None:
        """The answer to the same request before, or None, and then `end` or `forget` must follow.

        Raises: Refused where another request came under the key, or where the same one is still being answered.
        """
        if len(key) > KEY_LENGTH_MAX:
            detail = f"found {len(key)} characters, expected at most {KEY_LENGTH_MAX}"
            raise invalid(detail, "Idempotency-Key")
        place, asked = (tenant, key), digest(path, body.hex())
        known = self._found.get(place)
        if known is not None and self._clock() - known.at < _KEPT:
            if known.asked != asked:
                message = "An idempotency key can only be used again with the same parameters."
                raise invalid(message, code="idempotency_key_reused", type="idempotency_error")
            if known.answer is None:
                message = "There is currently another in-progress request using this Idempotency-Key."
                raise error(409, "idempotency_error", "idempotency_key_in_use", message)
            return known.answer
        self._found[place] = Replay(asked, self._clock(), None)
        self._found.move_to_end(place)
        while len(self._found) > self._remembered:
            self._found.popitem(last=False)
        return None

    def end(self, tenant: str, key: str, answer: bytes) -> None:
        """Keeps the answer of a request that has done its work."""
        known = self._found.get((tenant, key))
        if known is not None and len(answer) <= BODY_BYTES_MAX:
            self._found[tenant, key] = known._replace(answer=answer)
        else:
            self.forget(tenant, key)

    def forget(self, tenant: str, key: str) -> None:
        """Nothing was done under the key: it may be tried again."""
        self._found.pop((tenant, key), None)
