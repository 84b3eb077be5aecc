"""`taximeter check`: a catalogue in words and tables: what 0, 1, the edges of the tiers and a million cost."""

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rating.compiled import Compiled, Plan, Rate
from rating.prices.tiers import TierTable
from schemas.catalogue import Catalogue
from schemas.numbers import ONE, NumberError, format_scaled

_MILLION = 1_000_000 * ONE


def explain(compiled: Compiled) -> Group:
    """The whole catalogue, for a terminal."""
    return Group(*_parts(compiled))


def show(compiled: Compiled, console: Console) -> None:
    """Prints the explanation."""
    console.print(explain(compiled))


def _parts(compiled: Compiled) -> Iterator[RenderableType]:
    documents = compiled.documents
    yield _meters(documents)
    for plan in compiled.plans[: len(documents.price_books)]:
        yield Text()
        yield _book(compiled, plan)
        for rate_number in plan.rates.values():
            rate = compiled.rates[rate_number]
            for number, table in enumerate(rate.tables):
                yield _prices(rate, number, table, plan.currency)
    yield Text()
    yield Text(_who(documents))


def _meters(documents: Catalogue) -> Table:
    table = Table(title="Meters", title_justify="left")
    for name in ("meter", "counts", "of events", "where", "by"):
        table.add_column(name)
    for name, meter in documents.meters.items():
        counts = meter.aggregate + (f" of {meter.value}" if meter.value else "")
        where = ", ".join(f"{path} is {value}" for path, value in meter.where.items())
        table.add_row(name, counts, meter.event, where or "-", ", ".join(meter.dimensions) or "-")
    return table


def _book(compiled: Compiled, plan: Plan) -> Text:
    lines = [f"Price book {plan.price_book}, in {plan.currency}, rounded {plan.rounding}"]
    for flat in plan.flats:
        when = "in advance" if flat.in_advance else "in arrears"
        prorated = ", prorated by time" if flat.prorate else ""
        lines.append(f"  {flat.charge}: {format_scaled(flat.amount)} a period, {when}{prorated}")
    for number in plan.rates.values():
        lines.append("  " + _rate(compiled.rates[number]))
    if plan.minimum is not None:
        lines.append(f"  at least {format_scaled(plan.minimum.amount)} a period")
    for level, repeat in plan.thresholds:
        again = ", and every multiple of it" if repeat else ""
        lines.append(f"  an invoice at once when spend reaches {format_scaled(level)}{again}")
    return Text("\n".join(lines))


def _rate(rate: Rate) -> str:
    parts = [f"{rate.charge}: meter {rate.meter}"]
    if rate.group_by:
        parts.append(f"one line for each {' and '.join(rate.group_by)}")
    if rate.free_units:
        parts.append(f"the first {format_scaled(rate.free_units)} free")
    if rate.minimum is not None:
        parts.append(f"at least {format_scaled(rate.minimum)}")
    if rate.maximum is not None:
        parts.append(f"at most {format_scaled(rate.maximum)}")
    return ", ".join(parts)


def _prices(rate: Rate, number: int, table: TierTable, currency: str) -> Table:
    cell = "" if len(rate.tables) == 1 else f", cell {number + 1} of {len(rate.tables)}"
    shown = Table(title=f"  what {rate.charge} costs{cell}", title_justify="left")
    shown.add_column("units after free ones", justify="right")
    shown.add_column(currency, justify="right")
    for quantity in _samples(table):
        try:
            amount = format_scaled(table.amount(quantity, rate.bill_zero_usage))
        except NumberError as error:
            amount = str(error)
        shown.add_row(format_scaled(quantity), amount)
    return shown


def _samples(table: TierTable) -> list[int]:
    edges = [tier.up_to for tier in table.tiers if tier.up_to is not None]
    edges += [edge + ONE for edge in edges]
    edges += [tier.block for tier in table.tiers if tier.block] + [t.block + ONE for t in table.tiers if t.block]
    return sorted({0, ONE, _MILLION, *edges})


def _who(documents: Catalogue) -> str:
    default = documents.default_subscription
    rest = f"all others: {default.price_book} by the {default.period}" if default else "others are not billed"
    return f"{len(documents.customers)} customers, {len(documents.subscriptions)} subscriptions; {rest}"
