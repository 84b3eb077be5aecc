"""What an audit says: every difference, what was not audited, and how much was."""

from dataclasses import dataclass, field

from schemas.access import DEFAULT_TENANT
from taximeter.audit.tape import Loaded


@dataclass
class Difference:
    """One line item or invoice that is not what it should be. `fields`: (name, expected, found)."""

    what: str
    id: str
    about: str
    fields: list[tuple[str, str, str]]
    events: list[tuple[str, str]] = field(default_factory=list)
    more: int = 0
    tenant: str = DEFAULT_TENANT


@dataclass
class Report:
    """What an audit came to."""

    loaded: Loaded
    tenant: str = DEFAULT_TENANT
    line_items: int = 0
    invoices: int = 0
    differences: list[Difference] = field(default_factory=list)
    not_audited: dict[tuple[str, str], int] = field(default_factory=dict)
    """(charge or other thing, why) -> how many."""
    shared_ids: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """(source, id, customers): the same source and id under several customers, which are different events."""

    def leave_out(self, what: str, why: str) -> None:
        """Something that is not audited."""
        self.not_audited[what, why] = self.not_audited.get((what, why), 0) + 1

    def add(self, other: "Report") -> None:
        """Takes in what the audit of another tenant came to, of the same archive and up to the same place."""
        events = self.loaded.events + other.loaded.events
        duplicates = self.loaded.duplicates + other.loaded.duplicates
        self.loaded = self.loaded._replace(events=events, duplicates=duplicates)
        self.line_items += other.line_items
        self.invoices += other.invoices
        self.differences += other.differences
        for (what, why), count in other.not_audited.items():
            self.not_audited[f"tenant {other.tenant}, {what}", why] = count
        self.shared_ids += other.shared_ids
