"""The job as one batch query in DuckDB, over a whole file of events. `duckdb_query.py EVENTS OUT`

Says how long it took to read the JSON and, apart, to rate the same columns, given as Arrow. Not a stream, as that of
Polars is none.
"""

import sys

import duckdb
import pyarrow as pa

from benchmarks.rivals.batch import say_memory, timed

READ = """
SELECT source, id, subject, time, data.tokens AS tokens, data.model AS model
FROM read_json(?, format = 'newline_delimited', columns = {source: 'VARCHAR', id: 'VARCHAR', subject: 'VARCHAR',
     time: 'VARCHAR', data: 'STRUCT(tokens BIGINT, model VARCHAR)'})
"""
RATE = """
SELECT customer, model, hour, quantity, events,
       least(quantity, 10000) * 3000 + greatest(least(quantity, 100000) - 10000, 0) * 2000
       + greatest(quantity - 100000, 0) * 1500 AS amount
FROM (SELECT subject AS customer, model, left(time, 13) AS hour,
             CAST(sum(tokens) AS BIGINT) AS quantity, count(*) AS events
      FROM (SELECT any_value(subject) AS subject, any_value(model) AS model, any_value(time) AS time,
                   any_value(tokens) AS tokens FROM usage GROUP BY source, id)
      GROUP BY ALL)
"""


def main() -> None:
    """Runs both, and writes the lines."""
    source, out = sys.argv[1:]
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    usage: pa.Table = timed("read", lambda: connection.sql(READ, params=[source]).to_arrow_table())
    connection.register("usage", usage)
    lines: pa.Table = timed("rate", lambda: connection.sql(RATE).to_arrow_table())
    connection.register("lines", lines)
    connection.execute(f"COPY lines TO '{out}' (FORMAT json)")
    say_memory()


if __name__ == "__main__":
    main()
