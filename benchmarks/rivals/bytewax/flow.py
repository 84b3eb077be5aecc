"""The job as a Bytewax dataflow, keyed by customer. `python -m bytewax.run flow.py` with its places in RIVALS.

Without recovery: its state is in memory and lost with the process. A batch of a customer's events emits each changed
line once.
"""

import os
from typing import Any

import orjson
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic

from benchmarks.rivals.job import price

BOOTSTRAP, SOURCE, OUT = os.environ["RIVALS"].split()


class Customer(StatefulBatchLogic):
    """What has been seen of a customer, and what it has come to by model and hour."""

    def __init__(self, _: Any) -> None:
        self.seen: set[str] = set()
        self.totals: dict[str, tuple[int, int]] = {}

    def on_batch(self, values: list[dict[str, Any]]) -> tuple[list[bytes], bool]:
        changed: dict[str, None] = {}
        for event in values:
            identity = f"{event['source']}|{event['id']}"
            if identity in self.seen:
                continue
            self.seen.add(identity)
            line = f"{event['data']['model']}|{event['time'][:13]}"
            quantity, events = self.totals.get(line, (0, 0))
            self.totals[line] = quantity + event["data"]["tokens"], events + 1
            changed[line] = None
        return [self.line(values[0]["subject"], line) for line in changed], StatefulBatchLogic.RETAIN

    def line(self, customer: str, line: str) -> bytes:
        model, hour = line.split("|")
        quantity, events = self.totals[line]
        found = {"customer": customer, "model": model, "hour": hour}
        return orjson.dumps(found | {"quantity": quantity, "events": events, "amount": price(quantity)})

    def snapshot(self) -> Any:
        return None


def parse(messages: list[KafkaSourceMessage]) -> list[tuple[str, dict[str, Any]]]:
    events = [orjson.loads(message.value) for message in messages]
    return [(event["subject"], event) for event in events]


flow = Dataflow("rate")
messages = op.input("usage", flow, KafkaSource([BOOTSTRAP], [SOURCE], batch_size=2_000))
events = op.flat_map_batch("parse", messages, parse)
lines = op.stateful_batch("rate", events, Customer)
records = op.map("record", lines, lambda line: KafkaSinkMessage(line[0].encode(), line[1]))
op.output("lines", records, KafkaSink([BOOTSTRAP], OUT))
