"""Spend and meters of a past moment: what an engine that was fed up to it has said, read as the store's rows are."""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from rating.retell.moment import Moment
from rating.retell.retold import Retold
from rating.spend.answers import Spend
from rating.spend.decode import ALERTS, INVOICES, LINE_ITEMS, Staged, stage
from rating.spend.spending import Choice, spend
from rating.spend.store import SpendStore
from schemas import topics
from schemas.entry import CATALOGUE
from streams.log import TopicRecord

_END: Final = 2**62


class _Said:
    """The rows of one engine's outputs, as `SpendStore` gives them to `spend`."""

    def __init__(self, retold: Retold) -> None:
        said = retold.said
        rows = [(topics.LINE_ITEMS, id.encode(), text) for id, text in said.line_items.items()]
        rows += [(output.topic, output.key, output.value) for output in said.outputs]
        records = [TopicRecord(topic, 0, at, at + 1, key, text) for at, (topic, key, text) in enumerate(rows)]
        self._staged: Staged = stage(records)

    def lines(self, tenant: str, customer: str) -> pa.Table:
        """The line items that come to anything."""
        found = self._table("line_items", LINE_ITEMS)
        nought = pa.scalar(0, pa.decimal128(38, 12))
        some = pc.or_(pc.not_equal(found["quantity"], nought), pc.not_equal(found["amount"], nought))
        return found.filter(some)

    def bills(self, tenant: str, customer: str) -> pa.Table:
        """The invoices."""
        return self._table("invoices", INVOICES)

    def crossings(self, tenant: str, customer: str) -> pa.Table:
        """The alerts of thresholds."""
        found = self._table("alerts", ALERTS)
        return found.filter(pc.match_substring(found["body"], '"kind":"threshold"'))

    def _table(self, name: str, schema: pa.Schema) -> pa.Table:
        return self._staged.get(name, schema.empty_table())


def spend_of(retold: Retold, period: Choice) -> Spend:
    """What `rating.spend.spending.spend` says of what this engine has said."""
    return spend(_Said(retold), retold.tenant, retold.customer, period)  # type: ignore[arg-type]  # the three it reads


def catalogue_at(store: SpendStore, tenant: str, partition: int, moment: Moment) -> bytes | None:
    """The catalogue (JSON) that was in force at a moment: the newest, where nothing is said of what was known."""
    if moment.known_at is None:
        return store.catalogue(partition)
    stop = store.first_after(partition, moment.known_at)
    found = store.controls(partition, 0, _END if stop is None else stop)
    bodies = found.filter(pc.equal(found["kind"], CATALOGUE))["body"].to_pylist()
    return bodies[-1].encode() if bodies else None
