"""The demo's last page: the largest bills with their lines, and what was compared."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from taximeter.demo_check import Expected
from taximeter.demo_compare import Outputs

_BILLS: Final = 3
_WIDTH_MAX: Final = 100
_DIFFERENCES: Final = 10


def show_bills(console: Console, outputs: Outputs) -> None:
    """Prints the month's bills of the customers who pay most: all their invoices in one table each."""
    invoices: dict[str, list[Any]] = defaultdict(list)
    for invoice in outputs.invoices:
        invoices[invoice["customer"]].append(invoice)
    totals = {customer: sum(Decimal(i["total"]) for i in own) for customer, own in invoices.items()}
    largest = sorted(totals, key=lambda customer: (-totals[customer], customer))[:_BILLS]
    for customer in largest:
        console.print(_bill(customer, invoices[customer], outputs, console.width))
    whole = sum(totals.values(), Decimal(0))
    kinds = Counter(invoice["kind"] for invoice in outputs.invoices)
    console.print(
        f"{len(totals):,} customers owe ${whole:,.2f} for October, on {kinds['threshold']:,} invoices at thresholds "
        f"and {kinds['period']:,} at the month's end.",
        highlight=False,
    )


def _bill(customer: str, invoices: list[Any], outputs: Outputs, width: int) -> RenderableType:
    quantities = {item["id"]: item for item in outputs.line_items if item["customer"] == customer}
    billed: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for line in (line for invoice in invoices for line in invoice["lines"]):
        billed[line["line_item"] or "", line["description"]].append(line)
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    for name, justify in (
        ("what", "left"),
        ("", "left"),
        ("quantity", "right"),
        ("of events", "right"),
        ("USD", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # one of rich's words
    for (id, description), lines in sorted(billed.items(), key=lambda entry: _order(entry[0], quantities)):
        item = quantities.get(id)
        by = "" if item is None else " ".join(item["dimensions"].values())
        quantity = "" if item is None else f"{Decimal(item['quantity']):,f}"
        events = "" if item is None or not item["events"] else f"{item['events']:,}"
        table.add_row(description, by, quantity, events, f"{sum(Decimal(line['amount']) for line in lines):,.2f}")
    total = sum(Decimal(invoice["total"]) for invoice in invoices)
    book = next((item["price_book"] for item in quantities.values()), "")
    table.add_row("", "", "", "", Text(f"{total:,.2f}", style="bold underline"))
    return Panel(
        table,
        title=f"[bold]{customer}[/] · price book {book}",
        title_align="left",
        subtitle=f"[dim]{_invoice_count(invoices)}[/]",
        subtitle_align="right",
        width=min(width, _WIDTH_MAX),
    )


def _order(key: tuple[str, str], items: dict[str, Any]) -> tuple[bool, str, str]:
    item = items.get(key[0])
    return item is None, "" if item is None else item["charge"], "" if item is None else str(item["dimensions"])


def _invoice_count(invoices: Iterable[Any]) -> str:
    kinds = Counter(invoice["kind"] for invoice in invoices)
    parts = [f"{kinds['threshold']} invoices at thresholds"] * bool(kinds["threshold"])
    return " and ".join([*parts, f"{kinds['period']} at the month's end"])


def show_result(console: Console, expected: Expected, outputs: Outputs, found: list[str], seconds: float) -> None:
    """Says in a line what was compared and whether it holds; else the first differences."""
    whole = sum(expected.bills.values(), Decimal(0))
    compared = (
        f"{len(expected.lines):,} line items (quantity, amount, events, times), {len(outputs.invoices):,} invoices, "
        f"{len(outputs.spend):,} customers' totals, {len(expected.levels):,} levels, "
        f"{sum(expected.codes.values()):,} rejections and conflicts; ${whole:,.2f} in all; "
        f"{expected.duplicates:,} duplicates counted once"
    )
    if not found:
        console.print(
            f"[bold green]✓ every cent checked[/] in {seconds:.1f} s by an independent calculation: {compared}."
        )
        return
    console.print(f"[bold red]✗ {len(found):,} differences[/] to an independent calculation of {compared}:")
    for difference in found[:_DIFFERENCES]:
        console.print(f"  {difference}", highlight=False, markup=False)
