"""The door for producers that write to Kafka themselves: `taximeter.events.json` -> packs in `taximeter.events`.

A stateless processor: one message is one CloudEvent as JSON, and its arrival is the message's own timestamp, so the
same messages give the same packs. What belongs to a customer goes to the customer's partition, which the output's key
names. (A replay under another catalogue may route a subject elsewhere: identity is by customer, and `audit` lists it.)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ingest.columns import make_rejection, rejection_record
from ingest.pack import encode_packs
from ingest.parse import parse_texts
from ingest.route import Router, Views
from ingest.routed import Routed, refuse_unroutable
from schemas import topics
from schemas.entry import ENTRY_VERSION, EVENTS, Entry, EntryError, encode_entry
from schemas.limits import BATCH_EVENTS_MAX
from schemas.rejection import Where
from schemas.times import DAY
from streams.processor import Fetch, Output, PartitionProcessor, Step, Summary, no_files

JSON_EVENT: Final = ord("J")
_HEAD: Final = 10


def encode_json_entry(arrived_us: int, value: bytes) -> bytes:
    """The entry of one message: version and kind, the arrival (microseconds, 8 bytes, big-endian), the message."""
    return bytes((ENTRY_VERSION, JSON_EVENT)) + arrived_us.to_bytes(8, "big", signed=True) + value


def decode_json_entry(value: bytes) -> tuple[int, bytes]:
    """The arrival and the message. Raises: EntryError."""
    if len(value) < _HEAD or value[:2] != bytes((ENTRY_VERSION, JSON_EVENT)):
        raise EntryError(f"found the header {value[:_HEAD]!r}, expected a JSON event of version {ENTRY_VERSION}")
    return int.from_bytes(value[2:_HEAD], "big", signed=True), value[_HEAD:]


class FeedProcessor:
    """A `streams.processor.Processor` over `taximeter.events.json`."""

    name = "feed"

    def __init__(self, views: Views, partitions: int, tenant: str = "default", max_ahead: int | None = DAY) -> None:
        """`partitions`: those of `taximeter.events`. `max_ahead`: as in `ingest.door.DoorSettings`."""
        self._views = views
        self._partitions = partitions
        self._tenant = tenant
        self._max_ahead = max_ahead

    def open(self, partition: int, snapshot: bytes | None, fetch: Fetch = no_files) -> PartitionProcessor:
        """There is no state: a snapshot is empty."""
        return _FeedPartition(partition, self._tenant, self._views, self._partitions, self._max_ahead)


class _FeedPartition:
    """One partition's fold: nothing is kept but the routes that were found under the view in force."""

    def __init__(self, partition: int, tenant: str, views: Views, partitions: int, max_ahead: int | None) -> None:
        self._partition = partition
        self._tenant = tenant
        self._views = views
        self._max_ahead = max_ahead
        self._partitions = partitions
        self._router: Router | None = None

    def process(self, entries: Sequence[Entry]) -> Step:
        """The packs and rejections of some messages, in parts that the parser takes at once."""
        outputs: list[Output] = []
        accepted = rejected = 0
        for start in range(0, len(entries), BATCH_EVENTS_MAX):
            found, right, wrong = self._process_part(entries[start : start + BATCH_EVENTS_MAX])
            outputs += found
            accepted += right
            rejected += wrong
        return Step(outputs, Summary(entries=len(entries), events=accepted, accepted=accepted, rejected=rejected))

    def _process_part(self, entries: Sequence[Entry]) -> tuple[list[Output], int, int]:
        """The outputs, the number of events that went in, and of those that were refused."""
        messages = [decode_json_entry(entry.value) for entry in entries]
        arrived = [at for at, _ in messages]
        view = self._views(self._tenant)
        router = self._router
        if router is None or router.view is not view:
            router = self._router = Router(self._tenant, view, self._partitions)
        parsed = parse_texts([text.strip(b" \t\r\n") for _, text in messages])
        events, refused = refuse_unroutable(parsed, router, arrived, self._max_ahead)
        outputs: list[Output] = []
        if len(events):
            own = [arrived[at] for at in events.at]
            for number, rows in Routed(events, router, own).by_partition().items():
                outputs += (
                    Output(topics.EVENTS, b"%d" % number, encode_entry(EVENTS, value))
                    for value, _ in encode_packs(self._tenant, rows, view.extractor)
                )
        for one in refused:
            where = Where(partition=self._partition, offset=entries[one.at].offset)
            record = rejection_record(make_rejection(one, where, self._tenant))
            outputs.append(Output(topics.REJECTIONS, *record))
        return outputs, len(events), len(refused)

    def snapshot(self) -> bytes:
        """Nothing."""
        return b""

    def files(self) -> Mapping[str, Path]:
        """None."""
        return {}
