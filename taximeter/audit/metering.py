"""Metering, in SQL: from events to uses, one for each event and meter that counts it.

An event is read by the catalogue that stood in force where the event stands in the log. `uses` hold what each event
brought (a number or a name), the meter's dimensions, and from which place in the log on it was taken back.
"""

from collections.abc import Mapping
from typing import Any

import duckdb

from schemas.event import VOID_TYPE
from schemas.expressions import ExpressionError, is_path, value_paths
from schemas.numbers import ONE, NumberError
from schemas.paths import PathError
from taximeter.audit.agreements import Book, Document, bodies
from taximeter.audit.conditions import converted, passes, value_of
from taximeter.audit.exact import Unreadable, json_path, literal, text

COLUMNS = """partition INTEGER, seq BIGINT, epoch INTEGER, customer VARCHAR, time BIGINT, clock BIGINT, meter VARCHAR,
    value HUGEINT, name VARCHAR, dims VARCHAR[], gauge VARCHAR, amounts MAP(VARCHAR, HUGEINT),
    void_seq BIGINT, void_clock BIGINT"""


def dynamic_amounts(book: Book, meter: str) -> list[str]:
    """The paths at which events bring prices of their own, over every charge that reads a meter."""
    found: dict[str, None] = {}

    def look(price: Any) -> None:
        if isinstance(price, dict):
            if price.get("model") == "dynamic":
                found[price["amount"]] = None
            for inner in price.values():
                look(inner)
        elif isinstance(price, list):
            for inner in price:
                look(inner)

    for priced in book.books.values():
        for body in bodies(priced):
            for charge in body["charges"].values():
                if charge.get("meter") == meter:
                    look(charge["price"])
    for kind in ("customers", "subscriptions"):
        for document in (book.documents.get(kind) or {}).values():
            look([document.get("overrides"), document.get("phases")])
    return list(found)


def meter_events(
    connection: duckdb.DuckDBPyConnection, books: Mapping[int, Book], unread: dict[tuple[int, str], str]
) -> None:
    """Makes the table `uses`. `books`: those that `placed_events.epoch` names. Meters that cannot be read in SQL go to
    `unread`, with why."""
    connection.execute(f"CREATE TABLE uses ({COLUMNS})")
    for epoch, book in books.items():
        for name, meter in book.meters.items():
            try:
                connection.execute(_insert(epoch, book, name, meter))
            except (Unreadable, ExpressionError, PathError, NumberError) as error:
                unread[epoch, name] = str(error)
            except (duckdb.OutOfRangeException, duckdb.ConversionException) as error:
                unread[epoch, name] = f"a number is too large: {str(error).splitlines()[0]}"


def _insert(epoch: int, book: Book, name: str, meter: Document) -> str:
    amounts = dynamic_amounts(book, name)
    dimensions: dict[str, str] = meter.get("dimensions") or {}
    where: Document = meter.get("where") or {}
    read = list(value_paths(meter["value"])) if meter.get("value") else []
    paths = list(dict.fromkeys([*where, *read, *dimensions.values(), *filter(None, [meter.get("key")]), *amounts]))
    listed = ", ".join(text(json_path(path)) for path in paths)
    found = f"json_extract_string(marked(e.data), [{listed}])" if paths else "[]::VARCHAR[]"

    def column(path: str) -> str:
        return f"v[{paths.index(path) + 1}]"

    value, label, keeps = "NULL::HUGEINT", "NULL::VARCHAR", "value IS NOT NULL"
    if meter["aggregate"] == "count":
        value = literal(ONE)
    elif meter["aggregate"] == "unique_count":
        if not is_path(meter["value"]):
            raise Unreadable(f"{name}: unique_count reads a path")
        label, keeps = f"name_of({column(meter['value'])})", "name IS NOT NULL"
    else:
        value = f"fitting({value_of(meter['value'], column)})"
    convert = meter.get("convert") or {}
    if convert.get("per", "total") == "event" and meter["aggregate"] not in ("count", "unique_count"):
        value = f"fitting(list_transform([{value}], lambda x: {converted(convert, 'x', '1::HUGEINT')})[1])"
    dims = ", ".join(f"name_of({column(path)})" for path in dimensions.values())
    gauge = f"coalesce(name_of({column(meter['key'])}), chr(0))" if meter.get("key") else "''"
    names = ", ".join(map(text, amounts))
    prices = ", ".join(f"scaled({column(path)})" for path in amounts)
    return f"""
        INSERT INTO uses BY NAME
        SELECT * FROM (
            SELECT partition, seq, epoch, customer, time, clock, {text(name)} AS meter, {value} AS value,
                {label} AS name, [{dims}]::VARCHAR[] AS dims, {gauge} AS gauge,
                MAP([{names}]::VARCHAR[], [{prices}]::HUGEINT[]) AS amounts, void_seq, void_clock
            FROM (SELECT e.*, {found} AS v FROM placed_events e
                  WHERE e.type = {text(meter["event"])} AND e.epoch = {epoch})
            WHERE {passes(where, column)}
        ) WHERE {keeps}"""


def place_events(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes `placed_events`: every fresh usage event that was not taken back before it came, with the catalogue in
    force (`epoch`), the time that was known (`clock`), and where it was taken back. Needs `catalogues` and `ticks`."""
    connection.execute(f"""
        CREATE TABLE placed_events AS
        SELECT e.partition, e.seq, e.customer, e.source, e.id, e.type, e.time, e.data, c.epoch,
            coalesce(t.clock, -{2**62}) AS clock, v.void_seq, coalesce(w.clock, -{2**62}) AS void_clock
        FROM events e
        ASOF JOIN catalogues c ON c.partition = e.partition AND e.seq >= c.seq
        ASOF LEFT JOIN ticks t ON t.partition = e.partition AND e.seq >= t.seq
        LEFT JOIN voids v ON v.customer = e.customer AND v.source = e.source AND v.id = e.id
        ASOF LEFT JOIN ticks w ON w.partition = e.partition AND coalesce(v.void_seq, -1) >= w.seq
        WHERE e.fresh AND e.type <> '{VOID_TYPE}'
            AND (v.void_seq IS NULL OR v.void_seq > e.seq)""")
