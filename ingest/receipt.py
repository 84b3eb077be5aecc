"""What the door answers: counts, a position, and a verdict for every event of the request."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from ingest.columns import Events, Refused
from schemas.rejection import Code


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one event. `index` counts the request's events from nought, `line` the lines of NDJSON from 1.

    A duplicate that says something else than the first has `conflict`. What is missing could not be read.
    """

    index: int | None = None
    line: int | None = None
    id: str | None = None
    source: str | None = None
    verdict: Literal["accepted", "duplicate", "rejected"]
    conflict: bool = False
    code: Code | None = None
    path: str | None = None
    message: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer. `accepted + duplicates + rejected` is the number of the request's events."""

    accepted: int
    duplicates: int
    rejected: int
    position: str
    events: list[Verdict]


@dataclass(frozen=True, slots=True)
class Receipt:
    """All that is known of a request that was taken. `duplicates`: position in the request -> whether in conflict."""

    total: int
    position: str
    """The token that a query waits for to see these events; empty where no event went in."""
    events: Events
    refused: list[Refused]
    duplicates: dict[int, bool]
    lines: list[int] | None = None

    @property
    def accepted(self) -> int:
        """Events that were taken and not known before."""
        return len(self.events) - len(self.duplicates)

    @property
    def status(self) -> int:
        """400 where all events were refused, else 200."""
        return 400 if self.refused and len(self.refused) == self.total else 200

    def answer(self, every: bool = False) -> Answer:
        """The answer's body: verdicts for what was not accepted; for all events if `every`, or if there is but one."""
        return Answer(
            accepted=self.accepted,
            duplicates=len(self.duplicates),
            rejected=len(self.refused),
            position=self.position,
            events=list(self.verdicts() if every or self.total == 1 else self.exceptions()),
        )

    def verdicts(self) -> Iterator[Verdict]:
        """A verdict for every event, in the order of the request."""
        refused = {one.at: one for one in self.refused}
        taken = {at: i for i, at in enumerate(self.events.at)}
        for at in range(self.total):
            yield self._refused(refused[at]) if at in refused else self._taken(at, taken[at])

    def exceptions(self) -> Iterator[Verdict]:
        """Verdicts for duplicates and rejected events only, in the order of the request."""
        if not self.duplicates:
            yield from map(self._refused, self.refused)
            return
        refused = {one.at: one for one in self.refused}
        taken = {at: i for i, at in enumerate(self.events.at) if at in self.duplicates}
        for at in sorted(refused.keys() | taken.keys()):
            yield self._refused(refused[at]) if at in refused else self._taken(at, taken[at])

    def _taken(self, at: int, i: int) -> Verdict:
        index, line = self._place(at)
        return Verdict(
            index=index,
            line=line,
            id=self.events.id[i],
            source=self.events.source[i],
            verdict="duplicate" if at in self.duplicates else "accepted",
            conflict=self.duplicates.get(at, False),
        )

    def _refused(self, refused: Refused) -> Verdict:
        index, line = self._place(refused.at)
        code, path, message = refused.fault
        return Verdict(
            index=index,
            line=line,
            id=refused.id,
            source=refused.source,
            verdict="rejected",
            code=code,
            path=path,
            message=message,
        )

    def _place(self, at: int) -> tuple[int | None, int | None]:
        return (at, None) if self.lines is None else (None, self.lines[at])
