"""The job in Quix Streams: a stateful function over RocksDB, keyed by customer. `app.py BOOTSTRAP SOURCE OUT FOLDER`

State is written at each checkpoint, together with its changelog; a checkpoint is taken every 5 seconds, the default.
"""

import sys
from typing import Any

import orjson
from quixstreams import Application, State

from benchmarks.rivals.job import price

BOOTSTRAP, SOURCE, OUT, FOLDER = sys.argv[1:]

app = Application(
    broker_address=BOOTSTRAP,
    consumer_group=f"{OUT}-quix",
    state_dir=FOLDER,
    auto_offset_reset="earliest",
    processing_guarantee="at-least-once",
    auto_create_topics=True,
    commit_interval=5.0,
    loglevel="WARNING",
    producer_extra_config={"linger.ms": 20, "batch.num.messages": 10_000},
    consumer_extra_config={"fetch.min.bytes": 65_536, "fetch.wait.max.ms": 50},
)


def rate(event: dict[str, Any], state: State) -> list[dict[str, Any]]:
    identity = f"{event['source']}|{event['id']}"
    if state.exists(identity):
        return []
    state.set(identity, 1)
    model, hour = event["data"]["model"], event["time"][:13]
    quantity, events = state.get(f"{model}|{hour}", (0, 0))
    quantity, events = quantity + event["data"]["tokens"], events + 1
    state.set(f"{model}|{hour}", (quantity, events))
    line = {"customer": event["subject"], "model": model, "hour": hour}
    return [line | {"quantity": quantity, "events": events, "amount": price(quantity)}]


usage = app.dataframe(app.topic(SOURCE, key_deserializer="str", value_deserializer="bytes"))
lines = usage.apply(orjson.loads).apply(rate, stateful=True, expand=True).apply(orjson.dumps)
lines.to_topic(app.topic(OUT, key_serializer="str", value_serializer="bytes"))

if __name__ == "__main__":
    app.run()
