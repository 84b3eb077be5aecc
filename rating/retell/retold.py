"""Retold: an engine that has been fed one customer's inputs, and what it has said. It can be fed on, and copied."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from rating.engine import RatingEngine, RatingProcessor, RatingSettings
from rating.retell.feed import Fed, boundaries, feed
from rating.retell.inputs import Inputs
from rating.state import State
from schemas import topics
from schemas.catalogue import Catalogue, read_catalogue
from schemas.entry import CATALOGUES, Entry, decode_catalogue, encode_tick
from schemas.output import Alert, Invoice, ReconciliationAlert, decode_alert
from streams.processor import Output

_INVOICE = msgspec.json.Decoder(Invoice)
_STEP_ENTRIES = 64


class NotAsBefore(RuntimeError):
    """The engine has found its own totals broken while it rated again: a fault of this program."""


@dataclass(slots=True)
class Said:
    """What an engine has said: the latest text of each line item by id, and all else in order."""

    line_items: dict[str, bytes] = field(default_factory=dict)
    invoices: list[Invoice] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    """Invoices and alerts as records."""

    def take(self, outputs: Iterable[Output], imagined: bool = False) -> None:
        """Takes the outputs of a step. `imagined`: totals may be broken. Raises: NotAsBefore."""
        for output in outputs:
            if output.topic == topics.LINE_ITEMS:
                self.line_items[output.key.decode()] = output.value
            elif output.topic == topics.INVOICES:
                self.invoices.append(_INVOICE.decode(output.value))
                self.outputs.append(output)
            elif output.topic == topics.ALERTS:
                alert = decode_alert(output.value)
                if isinstance(alert, ReconciliationAlert):
                    if imagined:
                        continue
                    raise NotAsBefore(alert.message)
                self.alerts.append(alert)
                self.outputs.append(output)


class Retold:
    """One customer's engine, as far as it has been fed."""

    def __init__(self, settings: RatingSettings, tenant: str, customer: str, partition: int) -> None:
        """`settings`: those of the engine that bills the customer."""
        self.tenant, self.customer, self.partition = tenant, customer, partition
        self.settings = settings
        self._processor = RatingProcessor(_in_memory(settings))
        self.engine: RatingEngine = self._processor.open(partition, None)
        self.said = Said()
        self.imagined = False
        """Whether something was put into its state that no input brought: its totals do not reconcile any more."""
        self.events = 0
        """How many events it was fed."""
        self.through = 0
        """The offset in the partition's log up to which it was fed."""
        self._offset = 0
        self._documents = Catalogue()

    @property
    def state(self) -> State:
        """The engine's state: the customer's, and nobody else's."""
        return self.engine.tenants.of(self.tenant)

    @property
    def number(self) -> int | None:
        """The customer's number in the engine's state; None where nothing is known of it."""
        return self.state.customers.find(self.customer)

    @property
    def now(self) -> int:
        """The greatest time that the engine knows of: a tick's, or an event's of the customer."""
        number, state = self.number, self.state
        return state.clock if number is None else max(state.clock, int(state.customer_newest[number]))

    def take(self, inputs: Inputs, through: int, named: Iterable[int] = ()) -> None:
        """Rates further inputs. `named`: the times of ticks that must not be left out."""
        catalogues = [self._documents]
        for control in inputs.controls:
            if control.kind in CATALOGUES:
                brought = decode_catalogue(control.kind, control.value[2:])
                documents, _ = read_catalogue(bytes(brought.catalogue))
                catalogues += [] if documents is None else [documents]
        self._documents = catalogues[-1]
        targets: set[int] = set()
        settings = self.settings
        if len(inputs.tick_time):
            first = int(inputs.tick_time[0]) - settings.lateness - settings.corrections
            for at in boundaries(catalogues, self.customer, max(first, 0), int(inputs.tick_time[-1])):
                targets |= {at, at + settings.lateness, at + settings.lateness + settings.corrections}
        fed = feed(inputs, self.tenant, self.customer, settings.lateness, targets, named)
        waiting: list[Fed] = []
        for one in fed:
            waiting.append(one)
            levels = any(plan.levels for plan in self.state.catalogue.plans)
            if levels or len(waiting) >= _STEP_ENTRIES:
                self._process(waiting)
                waiting = []
        self._process(waiting)
        self.events += inputs.events.num_rows
        self.through = through

    def tick(self, time: int) -> Said:
        """It is `time`. Returns what that alone has made the engine say."""
        return self._process([Fed(encode_tick(time), 1)])

    def _process(self, fed: Sequence[Fed]) -> Said:
        entries: list[Entry] = []
        for one in fed:
            entries.append(Entry(self._offset, self._offset + one.size, one.value))
            self._offset += one.size
        news = Said()
        if entries:
            outputs = self.engine.process(entries).outputs
            news.take(outputs, self.imagined)
            self.said.take(outputs, self.imagined)
        return news

    def copy(self) -> "Retold":
        """Another one in the same state, to try something with. What was said stays with this one."""
        other = Retold(self.settings, self.tenant, self.customer, self.partition)
        other.engine = other._processor.open(self.partition, self.engine.snapshot())
        other.events, other.through, other._offset = self.events, self.through, self._offset
        other._documents = self._documents
        return other


def _in_memory(settings: RatingSettings) -> RatingSettings:
    return RatingSettings(settings.partitions, settings.lateness, settings.window_days, settings.corrections)
