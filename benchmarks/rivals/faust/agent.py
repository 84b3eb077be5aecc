"""The job as a Faust agent with Tables. `agent.py BOOTSTRAP SOURCE OUT FOLDER each|take memory|rocksdb`

`each`: event by event, as the guide's first page has it. `take`: `stream.take`, its batching; a line that changed
several times in a batch is set and sent once. At least once; the Tables' changelogs are on, as they are by default.
"""

import logging
import sys

import mode.loop

mode.loop.use("uvloop")

import faust  # noqa: E402
import orjson  # noqa: E402

from benchmarks.rivals.job import price  # noqa: E402

BOOTSTRAP, SOURCE, OUT, FOLDER, HOW, STORE = sys.argv[1:]
sys.argv = sys.argv[:1]

app = faust.App(
    f"{OUT}-faust",
    broker=f"kafka://{BOOTSTRAP}",
    store=f"{STORE}://",
    datadir=FOLDER,
    topic_partitions=1,
    topic_replication_factor=1,
    table_standby_replicas=0,
    stream_wait_empty=False,
    broker_commit_every=50_000,
    broker_commit_interval=1.0,
    producer_linger=0.02,
    producer_max_batch_size=256 * 1024,
    consumer_max_fetch_size=4 * 1024 * 1024,
    web_enabled=False,
    worker_redirect_stdouts=False,
)
usage = app.topic(SOURCE, key_serializer="raw", value_serializer="json", partitions=1)
lines = app.topic(OUT, key_serializer="raw", value_serializer="raw", partitions=1)
seen = app.Table("seen", default=int, partitions=1, use_partitioner=True)
totals = app.Table("totals", default=lambda: [0, 0], partitions=1, use_partitioner=True)


async def emit(key: str, quantity: int, events: int) -> None:
    customer, model, hour = key.split("|")
    line = {"customer": customer, "model": model, "hour": hour}
    line |= {"quantity": quantity, "events": events, "amount": price(quantity)}
    await lines.send(key=key.encode(), value=orjson.dumps(line))


async def each(stream):
    async for event in stream:
        identity = f"{event['source']}|{event['id']}"
        if identity in seen:
            continue
        seen[identity] = 1
        key = f"{event['subject']}|{event['data']['model']}|{event['time'][:13]}"
        quantity, events = totals[key]
        totals[key] = [quantity + event["data"]["tokens"], events + 1]
        await emit(key, *totals[key])


async def take(stream):
    async for batch in stream.take(2_000, within=0.1):
        changed: dict[str, list[int]] = {}
        for event in batch:
            identity = f"{event['source']}|{event['id']}"
            if identity in seen:
                continue
            seen[identity] = 1
            key = f"{event['subject']}|{event['data']['model']}|{event['time'][:13]}"
            if (total := changed.get(key)) is None:
                total = changed[key] = list(totals[key])
            total[0] += event["data"]["tokens"]
            total[1] += 1
        for key, total in changed.items():
            totals[key] = total
            await emit(key, *total)


app.agent(usage)(take if HOW == "take" else each)

if __name__ == "__main__":
    logging.disable(logging.INFO)  # a fifth of the time goes into records of level debug that nobody prints
    faust.Worker(app, loglevel="warning").execute_from_commandline()
