"""Answers as tables: CSV for a spreadsheet, Parquet for a data frame. The same rows as in JSON, each in one line.

In CSV a decimal is written as in JSON; in Parquet it is decimal128(38, 12). `period` becomes two columns, and what has
parts of its own (tiers, an invoice's lines) stays JSON.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.paths import DECIMAL

Format = Literal["json", "csv", "parquet"]
FORMATS: Final[tuple[Format, ...]] = ("json", "csv", "parquet")
MEDIA_TYPES: Final = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}

_TEXT, _WHOLE, _DECIMAL = "text", "whole", "decimal"
_WHO: Final = {"tenant": _TEXT, "customer": _TEXT, "subscription": _TEXT}
_PERIOD: Final = {"period_start": _TEXT, "period_end": _TEXT}
_MONEY: Final = ("subtotal", "minimum", "discounts", "credits", "taxes", "total")

COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "line_items": {
        **{"id": _TEXT, "revision": _WHOLE, **_WHO, "charge": _TEXT, "meter": _TEXT, "dimensions": _TEXT},
        **{"currency": _TEXT, **_PERIOD, "quantity": _DECIMAL, "amount": _DECIMAL, "price_book": _TEXT},
        **{"price_version": _WHOLE, "events": _WHOLE, "first_event": _TEXT, "last_event": _TEXT, "tiers": _TEXT},
    },
    "invoices": {
        **{"id": _TEXT, "revision": _WHOLE, "kind": _TEXT, "status": _TEXT, **_WHO, "currency": _TEXT, **_PERIOD},
        **dict.fromkeys(_MONEY, _DECIMAL),
        "lines": _TEXT,
    },
    "alerts": {
        **{"id": _TEXT, "kind": _TEXT, **_WHO, "currency": _TEXT, **_PERIOD},
        **{"spend": _DECIMAL, "because": _TEXT, "invoice": _TEXT},
    },
    "windows": {"start": _TEXT, "end": _TEXT, "dimensions": _TEXT, "value": _DECIMAL, "events": _WHOLE},
    "series": {"start": _TEXT, "end": _TEXT, "currency": _TEXT, "amount": _DECIMAL, "by_charge": _TEXT},
    "spend": {
        **{"name": _TEXT, "currency": _TEXT, "amount": _DECIMAL, "events": _WHOLE, "line_items": _WHOLE},
        **{"before": _DECIMAL, "difference": _DECIMAL, "growth": _DECIMAL},
    },
    "costs": {"name": _TEXT, "currency": _TEXT, "amount": _DECIMAL, "events": _WHOLE},
}
"""Listing -> its columns in order, and what each holds. Times are texts as in JSON."""

_TYPES: Final = {_TEXT: pa.string(), _WHOLE: pa.int64(), _DECIMAL: DECIMAL}


def listing_of(body: Mapping[str, Any]) -> str | None:
    """Which member of an answer is a table; None where it has none."""
    return next((name for name in COLUMNS if isinstance(body.get(name), list)), None)


def encode(format: Format, listing: str, rows: Sequence[Any]) -> bytes:
    """The rows of a listing as CSV (with a header, lines end with CRLF by RFC 4180) or as Parquet."""
    flat = [_flat(COLUMNS[listing], msgspec.json.decode(msgspec.json.encode(row))) for row in rows]
    return _csv(COLUMNS[listing], flat) if format == "csv" else _parquet(COLUMNS[listing], flat)


def _flat(columns: Mapping[str, str], row: dict[str, Any]) -> list[Any]:
    period = row.get("period") or {}
    row = row | {"period_start": period.get("start"), "period_end": period.get("end")}
    return [_cell(row.get(name)) for name in columns]


def _cell(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value


def _csv(columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> bytes:
    arrays = []
    for at, kind in enumerate(columns.values()):
        values = [row[at] for row in rows]
        exact = [None if value is None else Decimal(value) for value in values] if kind == _DECIMAL else values
        arrays.append(pa.array(exact, _TYPES[kind]))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, names=list(columns)), sink, compression="zstd")
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded
