"""Spend and meters of a past moment: what an engine that was fed up to it has said, read as the store's rows are."""

from typing import Final

from rating.retell.moment import Moment
from rating.retell.retold import Retold
from rating.spend.answers import Spend
from rating.spend.decode import stage
from rating.spend.index import SpendIndex
from rating.spend.spending import Choice
from rating.spend.spending import spend_of as spend_of_account
from rating.spend.store import SpendStore
from schemas import topics
from schemas.entry import CATALOGUES, decode_catalogue
from streams.log import TopicRecord

_END: Final = 2**62


def spend_of(retold: Retold, period: Choice) -> Spend:
    """What `rating.spend.spending.spend` says of what this engine has said."""
    said = retold.said
    rows = [(topics.LINE_ITEMS, id.encode(), text) for id, text in said.line_items.items()]
    rows += [(output.topic, output.key, output.value) for output in said.outputs]
    index = SpendIndex()
    index.whole = True
    index.take(stage([TopicRecord(topic, 0, at, at + 1, key, text) for at, (topic, key, text) in enumerate(rows)]))
    account = index.get((retold.tenant, retold.customer))
    assert account is not None, "nobody is missing from a whole index"
    return spend_of_account(account, retold.customer, period)


def catalogue_at(store: SpendStore, tenant: str, partition: int, moment: Moment) -> bytes | None:
    """The catalogue (JSON) that was in force at a moment: the newest, where nothing is said of what was known."""
    if moment.known_at is None:
        return store.catalogue(tenant, partition)
    stop = store.first_after(partition, moment.known_at)
    found = store.controls(partition, 0, _END if stop is None else stop)
    for row in reversed(found.to_pylist()):
        if row["kind"] in CATALOGUES:
            brought = decode_catalogue(row["kind"], row["body"].encode())
            if brought.tenant == tenant:
                return bytes(brought.catalogue)
    return None
