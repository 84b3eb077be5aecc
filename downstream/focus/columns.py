"""The columns of the FOCUS 1.2 dataset `CostAndUsage` that have a meaning here, and their types."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as parquet

from streams.durable import make_folder

VERSION: Final = "1.2"
COST: Final = pa.decimal128(38, 12)
UNIT_PRICE: Final = pa.decimal128(38, 18)
"""A price of one is the cost over the quantity: it needs more digits than a cost, so that their product is the cost."""
_TIME: Final = pa.timestamp("us", "UTC")
_TEXT: Final = pa.string()

SCHEMA: Final = pa.schema(
    [
        pa.field("BilledCost", COST, nullable=False),
        pa.field("BillingAccountId", _TEXT, nullable=False),
        pa.field("BillingAccountName", _TEXT, nullable=False),
        pa.field("BillingAccountType", _TEXT, nullable=False),
        pa.field("BillingCurrency", _TEXT, nullable=False),
        pa.field("BillingPeriodEnd", _TIME, nullable=False),
        pa.field("BillingPeriodStart", _TIME, nullable=False),
        pa.field("ChargeCategory", _TEXT, nullable=False),
        pa.field("ChargeClass", _TEXT),
        pa.field("ChargeDescription", _TEXT, nullable=False),
        pa.field("ChargeFrequency", _TEXT, nullable=False),
        pa.field("ChargePeriodEnd", _TIME, nullable=False),
        pa.field("ChargePeriodStart", _TIME, nullable=False),
        pa.field("CommitmentDiscountStatus", _TEXT),  # always null; other columns' rules look at it
        pa.field("ConsumedQuantity", COST),
        pa.field("ConsumedUnit", _TEXT),
        pa.field("ContractedCost", COST, nullable=False),
        pa.field("ContractedUnitPrice", UNIT_PRICE),
        pa.field("EffectiveCost", COST, nullable=False),
        pa.field("InvoiceId", _TEXT, nullable=False),
        pa.field("InvoiceIssuerName", _TEXT, nullable=False),
        pa.field("ListCost", COST, nullable=False),
        pa.field("ListUnitPrice", UNIT_PRICE),
        pa.field("PricingCategory", _TEXT),
        pa.field("PricingCurrency", _TEXT, nullable=False),
        pa.field("PricingCurrencyContractedUnitPrice", UNIT_PRICE),
        pa.field("PricingCurrencyEffectiveCost", COST, nullable=False),
        pa.field("PricingCurrencyListUnitPrice", UNIT_PRICE),
        pa.field("PricingQuantity", COST),
        pa.field("PricingUnit", _TEXT),
        pa.field("ProviderName", _TEXT, nullable=False),
        pa.field("PublisherName", _TEXT, nullable=False),
        pa.field("ServiceCategory", _TEXT, nullable=False),
        pa.field("ServiceName", _TEXT, nullable=False),
        pa.field("ServiceSubcategory", _TEXT, nullable=False),
        pa.field("SkuId", _TEXT),
        pa.field("SkuMeter", _TEXT),
        pa.field("SkuPriceDetails", _TEXT),
        pa.field("SkuPriceId", _TEXT),
        pa.field("SubAccountId", _TEXT, nullable=False),
        pa.field("SubAccountName", _TEXT, nullable=False),
        pa.field("SubAccountType", _TEXT, nullable=False),
        pa.field("Tags", _TEXT),
        # Our own, by the specification's rule for such.
        pa.field("x_Charge", _TEXT),
        pa.field("x_InvoiceKind", _TEXT, nullable=False),
        pa.field("x_LineItemId", _TEXT),
    ]
)


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table; what a row does not have is null. Raises: pa.ArrowInvalid where a cost does not fit."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)


def write(table: pa.Table, path: Path) -> None:
    """A `.csv` or `.parquet` file, put in place whole. Raises: ValueError, OSError."""
    writers = {".csv": _write_csv, ".parquet": parquet.write_table}
    if path.suffix not in writers:
        raise ValueError(f"found {path.name}, expected a name that ends with .csv or .parquet")
    make_folder(path.parent.absolute())
    fresh = path.with_name(f".{path.name}.part")
    writers[path.suffix](table, fresh)
    fresh.replace(path)


def _write_csv(table: pa.Table, path: Path) -> None:
    """Times as ISO 8601 with `Z`, decimals without an exponent, null as nothing."""
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(table.column_names)
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            out.writerow([_text(value) for value in row])


def _text(value: Any) -> str:
    if value is None:
        return ""
    if hasattr(value, "strftime"):
        return str(value.strftime("%Y-%m-%dT%H:%M:%SZ"))
    if isinstance(value, str):
        return value
    whole, _, fraction = f"{value:f}".partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}"  # a point always: readers guess types by it
