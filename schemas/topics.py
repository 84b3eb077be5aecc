"""The topic registry: names, keys and how long each is kept. A deployment may prefix the names."""

from dataclasses import dataclass
from typing import Final, Literal

EVENTS: Final = "taximeter.events"
EVENTS_JSON: Final = "taximeter.events.json"
REJECTIONS: Final = "taximeter.rejections"
CATALOGUE: Final = "taximeter.catalogue"
LINE_ITEMS: Final = "taximeter.line-items"
INVOICES: Final = "taximeter.invoices"
ALERTS: Final = "taximeter.alerts"
KEYS: Final = "taximeter.keys"
"""API keys, their hashes only. Not for consumers."""
JOURNAL: Final = "taximeter.journal"
"""What a rating worker has done, by partition: the position of the engine's state. Not for consumers."""
JOURNAL_JSON: Final = "taximeter.journal.json"
"""The same for the worker that reads `taximeter.events.json`."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `partitions`: None is as many as `taximeter.events` has, in step with it."""

    name: str
    key: str
    value: str
    kept: Literal["by time", "compacted"]
    partitions: int | None = None


REGISTRY: Final[tuple[Topic, ...]] = (
    Topic(
        EVENTS, "hash of tenant and customer", "entry: a pack of usage events, a tick or catalogue documents", "by time"
    ),
    Topic(EVENTS_JSON, "any", "one CloudEvent as JSON", "by time"),
    Topic(REJECTIONS, "tenant", "rejection", "by time"),
    Topic(CATALOGUE, "tenant and document id", "catalogue document", "compacted", partitions=1),
    Topic(LINE_ITEMS, "line item id", "line item", "compacted"),
    Topic(INVOICES, "invoice id", "invoice", "compacted"),
    Topic(ALERTS, "alert id", "alert", "by time"),
    Topic(KEYS, "record", "record of an API key", "compacted", partitions=1),
    Topic(JOURNAL, "partition", "journal record", "by time"),
    Topic(JOURNAL_JSON, "partition", "journal record", "by time"),
)
