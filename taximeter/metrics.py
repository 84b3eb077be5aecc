"""`GET /metrics`: a status as Prometheus reads it. The names are documented in docs/operations.md, and a test compares.

Amounts are no metrics: a Prometheus value is a float, and no float ever holds money here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from downstream.notifications.queue import Counts as Deliveries
from ingest.door import DoorCounts
from streams.durations import Durations
from streams.sums import CLASSES
from taximeter.status import PartitionStatus, SpendStatus, Status

CONTENT_TYPE = CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class Measured:
    """What metrics are made of."""

    status: Status
    steps: Mapping[int, tuple[Mapping[float, int], float]] = field(default_factory=dict)
    """Partition -> how many steps took at most so long (the last bound is infinite), and their sum in seconds."""
    door: DoorCounts | None = None
    waiting: tuple[int, int] | None = None
    """At the door: events that wait for the log, and the bytes of their data."""
    requests: Mapping[tuple[str, str, int], Durations] = field(default_factory=dict)
    """(method, route, status) -> how long until its answers began."""
    spend_lag: Mapping[int, tuple[int, float]] = field(default_factory=dict)
    """Partition -> offsets that the spend store does not include, and the age of the oldest in seconds."""
    applied: Durations | None = None
    """How long the spend store's batches took."""
    webhooks: Mapping[str, Deliveries] = field(default_factory=dict)
    """Endpoint -> its messages."""


def render(measured: Measured) -> bytes:
    """The text of the answer."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(measured))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def collect(self) -> Iterable[Metric]:
        return families(self._measured)


def families(measured: Measured) -> Iterator[Metric]:
    """Every metric, those without a value included: so that their names can be listed."""
    status = measured.status
    yield InfoMetricFamily("taximeter_build", "The program.", {"version": status.version, "host": status.host})
    yield GaugeMetricFamily("taximeter_ready", "1 when the process is ready.", float(status.ready))
    yield GaugeMetricFamily("taximeter_stalls", "Things that have work and stand still for long.", len(status.stalls))
    for name, help, value in _GAUGES:
        yield _gauge(name, help, status.partitions, value)
    for name, help, value in _COUNTERS:
        yield _counter(name, help, status.partitions, value)
    yield from _events(status.partitions)
    yield from _spend(status.spend)
    yield from _spend_lag(measured)
    yield from _steps(measured.steps)
    yield from _door(measured)
    yield _requests(measured.requests)
    yield from _webhooks(measured.webhooks)


_Value = Callable[[PartitionStatus], float | int | bool | None]


def _total(name: str) -> _Value:
    return lambda one: None if one.totals is None else int(getattr(one.totals, name))


_GAUGES: tuple[tuple[str, str, _Value], ...] = (
    ("taximeter_position", "Offset of the next source entry to work in.", lambda one: one.position),
    ("taximeter_log_end", "Offset after the last source entry.", lambda one: one.end),
    ("taximeter_lag_offsets", "Offsets of the source that are not worked in.", lambda one: one.lag),
    ("taximeter_lag_seconds", "Age of the oldest entry that is not worked in.", lambda one: one.lag_seconds),
    ("taximeter_epoch", "Epoch of the partition's journal.", lambda one: one.epoch),
    ("taximeter_partition_ready", "1 when the partition is restored and owned.", lambda one: one.ready),
    ("taximeter_reconciled", "1 while the partition's figures agree on all sides.", lambda one: one.reconciled),
    ("taximeter_differences", "Comparisons of the partition that differ.", lambda one: len(one.differences)),
    (
        "taximeter_snapshot_position",
        "Position of the newest snapshot.",
        lambda one: None if one.snapshot is None else one.snapshot.position,
    ),
    (
        "taximeter_snapshot_age_seconds",
        "Since this process wrote or loaded the newest snapshot.",
        lambda one: None if one.snapshot is None else one.snapshot.age_seconds,
    ),
    ("taximeter_restore_seconds", "How long the last restore of the partition took.", lambda one: one.restore_seconds),
)
_COUNTERS: tuple[tuple[str, str, _Value], ...] = (
    (
        "taximeter_snapshots",
        "Snapshots written by this process.",
        lambda one: None if one.snapshot is None else one.snapshot.written,
    ),
    (
        "taximeter_snapshot_failures",
        "Snapshots that could not be written.",
        lambda one: None if one.snapshot is None else one.snapshot.failed,
    ),
    ("taximeter_steps", "Steps committed by this process.", lambda one: one.steps),
    (
        "taximeter_replayed_steps",
        "Journalled steps that restores have processed again.",
        lambda one: one.replayed_steps,
    ),
    ("taximeter_emitted_again", "Outputs that were emitted again after a restore.", lambda one: one.emitted_again),
    ("taximeter_gaps", "Messages that came too early, and were sought back.", lambda one: one.gaps),
    ("taximeter_repeated_messages", "Messages that came again, and were dropped.", lambda one: one.repeated_messages),
    ("taximeter_entries", "Source entries worked in.", _total("entries")),
    (
        "taximeter_taken_back",
        "Events that were rated and that a void took back.",
        _total("taken_back"),
    ),
    (
        "taximeter_rejections",
        "Rejections, conflicts apart: one for each event and meter.",
        _total("rejected"),
    ),
    ("taximeter_line_items", "Line items written by this process, each revision anew.", lambda one: one.line_items),
    ("taximeter_invoices", "Invoices made.", _total("invoices")),
    ("taximeter_alerts", "Alerts of customers made.", _total("alerts")),
)


def _gauge(name: str, help: str, partitions: Iterable[PartitionStatus], value: _Value) -> Metric:
    family = GaugeMetricFamily(name, help, labels=["partition"])
    for one in partitions:
        found = value(one)
        if found is not None:
            family.add_metric([str(one.partition)], float(found))
    return family


def _counter(name: str, help: str, partitions: Iterable[PartitionStatus], value: _Value) -> Metric:
    family = CounterMetricFamily(name, help, labels=["partition"])
    for one in partitions:
        found = value(one)
        if found is not None:
            family.add_metric([str(one.partition)], float(found))
    return family


def _events(partitions: Iterable[PartitionStatus]) -> Iterator[Metric]:
    events = CounterMetricFamily("taximeter_events", "Events worked in, by verdict.", labels=["partition", "kind"])
    accepted = CounterMetricFamily(
        "taximeter_accepted_events", "Accepted events, by what became of them.", labels=["partition", "class"]
    )
    for one in partitions:
        if one.totals is not None:
            for kind in ("accepted", "duplicates", "conflicts"):
                events.add_metric([str(one.partition), kind], getattr(one.totals, kind))
            for name in CLASSES:
                accepted.add_metric([str(one.partition), name], getattr(one.totals, name))
    yield events
    yield accepted


def _spend(spend: SpendStatus | None) -> Iterator[Metric]:
    through = GaugeMetricFamily(
        "taximeter_spend_position", "Source position that the spend store includes.", labels=["partition"]
    )
    differences = GaugeMetricFamily("taximeter_spend_differences", "Comparisons of the spend store that differ.")
    age = GaugeMetricFamily("taximeter_spend_check_age_seconds", "Since the spend store was last compared.")
    if spend is not None:
        for partition, position in spend.through.items():
            through.add_metric([str(partition)], position)
        differences.add_metric([], len(spend.differences))
        if spend.checked_seconds_ago is not None:
            age.add_metric([], spend.checked_seconds_ago)
    yield from (through, differences, age)


def _steps(steps: Mapping[int, tuple[Mapping[float, int], float]]) -> Iterator[Metric]:
    family = HistogramMetricFamily("taximeter_step_seconds", "How long steps took.", labels=["partition"])
    for partition, (counts, total) in steps.items():
        if counts:
            family.add_metric([str(partition)], _buckets(counts), total)
    yield family


def _buckets(counts: Mapping[float, int]) -> list[tuple[str, float]]:
    return [("+Inf" if bound == float("inf") else repr(bound), count) for bound, count in counts.items()]


def _requests(requests: Mapping[tuple[str, str, int], Durations]) -> Metric:
    family = HistogramMetricFamily(
        "taximeter_http_request_seconds",
        "How long until answers to requests began.",
        labels=["method", "route", "status"],
    )
    for (method, route, status), seconds in sorted(requests.items()):
        family.add_metric([method, route, str(status)], _buckets(seconds.counts), seconds.sum)
    return family


def _spend_lag(measured: Measured) -> Iterator[Metric]:
    offsets = GaugeMetricFamily(
        "taximeter_spend_lag_offsets", "Offsets of the source that the spend store does not include.",
        labels=["partition"],
    )  # fmt: skip
    seconds = GaugeMetricFamily(
        "taximeter_spend_lag_seconds", "Age of the oldest entry that it does not include.", labels=["partition"]
    )
    for partition, (behind, age) in measured.spend_lag.items():
        offsets.add_metric([str(partition)], behind)
        seconds.add_metric([str(partition)], age)
    applied = HistogramMetricFamily("taximeter_spend_apply_seconds", "How long the spend store's batches took.")
    if measured.applied is not None:
        applied.add_metric([], _buckets(measured.applied.counts), measured.applied.sum)
    yield from (offsets, seconds, applied)


def _webhooks(webhooks: Mapping[str, Deliveries]) -> Iterator[Metric]:
    delivered = CounterMetricFamily("taximeter_webhook_delivered", "Messages delivered.", labels=["endpoint"])
    waiting = GaugeMetricFamily(
        "taximeter_webhook_messages", "Messages that wait to be sent, and dead ones.", labels=["endpoint", "state"]
    )
    for endpoint, counts in webhooks.items():
        delivered.add_metric([endpoint], counts.delivered)
        for state in ("waiting", "dead"):
            waiting.add_metric([endpoint, state], getattr(counts, state))
    yield from (delivered, waiting)


def _door(measured: Measured) -> Iterator[Metric]:
    door = measured.door
    requests = CounterMetricFamily("taximeter_door_requests", "Requests with events that were answered.")
    events = CounterMetricFamily("taximeter_door_events", "Events answered by the door.", labels=["verdict"])
    rejected = CounterMetricFamily("taximeter_door_rejected", "Events rejected by the door, by code.", labels=["code"])
    waiting = GaugeMetricFamily("taximeter_door_waiting_events", "Events that wait for the log.")
    waiting_bytes = GaugeMetricFamily("taximeter_door_waiting_bytes", "Bytes of their data.")
    if door is not None:
        requests.add_metric([], door.requests)
        for verdict in ("accepted", "duplicates", "rejected"):
            events.add_metric([verdict], getattr(door, verdict))
        for code, count in sorted(door.codes.items()):
            rejected.add_metric([code], count)
    if measured.waiting is not None:
        waiting.add_metric([], measured.waiting[0])
        waiting_bytes.add_metric([], measured.waiting[1])
    yield from (requests, events, rejected, waiting, waiting_bytes)
