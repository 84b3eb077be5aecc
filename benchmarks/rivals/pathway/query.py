"""The job in Pathway: two groupings, run incrementally by its Rust engine. `query.py BOOTSTRAP SOURCE OUT`

Without persistence: its state is in memory. Emits what has changed since its last commit (every 100 ms), the old value
of a line with the new one.
"""

import sys

import pathway as pw

BOOTSTRAP, SOURCE, OUT = sys.argv[1:]
SETTINGS = {"bootstrap.servers": BOOTSTRAP}


class Usage(pw.Schema):
    """What the job needs of an event; `id` is a row's own in Pathway, so the event's has another name."""

    source: str
    event: str
    subject: str
    time: str
    tokens: int
    model: str


usage = pw.io.kafka.read(
    SETTINGS | {"group.id": f"{OUT}-pathway", "auto.offset.reset": "earliest"},
    SOURCE,
    schema=Usage,
    format="json",
    json_field_paths={"event": "/id", "tokens": "/data/tokens", "model": "/data/model"},
    autocommit_duration_ms=100,
)
once = usage.groupby(pw.this.source, pw.this.event).reduce(
    customer=pw.reducers.any(pw.this.subject),
    model=pw.reducers.any(pw.this.model),
    hour=pw.reducers.any(pw.this.time.str.slice(0, 13)),
    tokens=pw.reducers.any(pw.this.tokens),
)
sums = once.groupby(pw.this.customer, pw.this.model, pw.this.hour).reduce(
    pw.this.customer, pw.this.model, pw.this.hour, quantity=pw.reducers.sum(pw.this.tokens), events=pw.reducers.count()
)
q = pw.this.quantity
lines = sums.with_columns(
    amount=pw.if_else(
        q <= 10_000,
        q * 3_000,
        pw.if_else(q <= 100_000, 30_000_000 + (q - 10_000) * 2_000, 210_000_000 + (q - 100_000) * 1_500),
    )
)
pw.io.kafka.write(lines, SETTINGS | {"linger.ms": "20"}, OUT, format="json")

if __name__ == "__main__":
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
