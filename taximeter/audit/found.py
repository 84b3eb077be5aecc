"""What the engine wrote, as the audit looks at it: the newest revision of each line item, and the invoices."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from schemas import topics

Output = dict[str, Any]


@dataclass
class Found:
    """Outputs by id, as plain mappings. `through`: partition -> the offset before which the engine has seen the log."""

    through: dict[int, int] = field(default_factory=dict)
    ahead: dict[int, int] = field(default_factory=dict)
    """Partition -> how far the engine has come, which the archive may not cover yet."""
    line_items: dict[str, Output] = field(default_factory=dict)
    invoices: dict[str, Output] = field(default_factory=dict)

    def add(self, topic: str, values: Iterable[bytes]) -> None:
        """Takes records of an output topic; of each line item the highest revision counts."""
        for value in values:
            one = msgspec.json.decode(value, type=dict[str, Any])
            if topic == topics.INVOICES:
                self.invoices[one["id"]] = one
            elif topic == topics.LINE_ITEMS:
                known = self.line_items.get(one["id"])
                if known is None or known["revision"] <= one["revision"]:
                    self.line_items[one["id"]] = one
