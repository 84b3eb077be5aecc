"""The demo's view while events come in: live on a terminal, else a line of text now and then."""

import time
from collections import deque
from decimal import Decimal
from typing import Any, Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from taximeter.demo_watch import Seen
from taximeter.post import Totals

TOP: Final = 8
"""Customers whose spend is shown."""

_INVOICES: Final = 7
_LINE_EVERY_S: Final = 1.0
_BARS: Final = " ▁▂▃▄▅▆▇█"
_WIDTH_MAX: Final = 110


class View(Protocol):
    """Shows how far the day is."""

    def __enter__(self) -> "View": ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, totals: Totals, seen: Seen, last: bool = False) -> None:
        """The state of things now; `last`: at the end."""
        ...

    def say(self, text: str) -> None:
        """Something happened that is worth a line of its own."""
        ...


def make_view(console: Console, title: str, events: int, plain: bool) -> View:
    """A live view where the console is a terminal and `plain` is not asked for."""
    if plain or not console.is_terminal:
        return PlainView(console)
    return LiveView(console, title, events)


def dollars(amount: Decimal) -> str:
    """`$1,234.56`, cut off below the cent: a bill that still grows is never shown above what it is."""
    return f"${int(amount * 100) / Decimal(100):,.2f}"


class PlainView:
    """A line a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = 0.0

    def __enter__(self) -> "PlainView":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, totals: Totals, seen: Seen, last: bool = False) -> None:
        now = time.monotonic()
        if not last and (now - self._last < _LINE_EVERY_S or not seen.spend):
            return
        self._last = now
        top = max(seen.spend.items(), key=lambda item: item[1], default=("", Decimal(0)))
        self.say(
            f"{totals.seconds:6.1f} s  {totals.sent:>9,} events  {totals.duplicates:>6,} duplicates dropped  "
            f"{totals.rejected:>4,} rejected  {len(seen.invoices):>4,} invoices at thresholds  "
            f"{top[0]} {dollars(top[1])}"
        )

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


class LiveView:
    """A screenful that is drawn again and again, in place."""

    def __init__(self, console: Console, title: str, events: int) -> None:
        self._console = console
        self._title = title
        self._events = events
        self._rates: deque[float] = deque(maxlen=34)
        self._before = (0.0, 0)
        self._news: deque[str] = deque(maxlen=2)
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> "LiveView":
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, totals: Totals, seen: Seen, last: bool = False) -> None:
        self._measure(totals)
        self._live.update(self._screen(totals, seen), refresh=True)

    def say(self, text: str) -> None:
        self._news.append(text)

    def _measure(self, totals: Totals) -> None:
        seconds, sent = totals.seconds, totals.sent
        if seconds - self._before[0] >= 0.45:
            self._rates.append((sent - self._before[1]) / (seconds - self._before[0]))
            self._before = (seconds, sent)

    def _screen(self, totals: Totals, seen: Seen) -> RenderableType:
        width = min(self._console.width, _WIDTH_MAX)
        upper = Table.grid(expand=True, padding=0)
        upper.add_column(ratio=9)
        upper.add_column(ratio=11)
        upper.add_row(self._door(totals), self._customers(seen))
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column()
        head.add_column(justify="right")
        head.add_row(Text(self._title, style="bold"), Text(f"{totals.seconds:.1f} s", style="dim"))
        bar = Table.grid(expand=True)  # in a row of its own: a bar alone ends without a new line
        bar.add_row(ProgressBar(total=self._events, completed=totals.sent, complete_style="cyan"))
        news = [Text(f" {line}", style="yellow") for line in self._news]
        return _Sized(Group(head, bar, upper, self._invoices(seen), *news), width)

    def _door(self, totals: Totals) -> Panel:
        rate = self._rates[-1] if self._rates else 0.0
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(style="dim")
        grid.add_column(justify="right")
        for name, value, style in (
            ("events sent", f"{totals.sent:,}", "bold"),
            ("events per second", f"{rate:,.0f}", "bold cyan"),
            ("accepted", f"{totals.accepted:,}", "green"),
            ("duplicates dropped", f"{totals.duplicates:,}", "yellow"),
            ("rejected at the door", f"{totals.rejected:,}", "red"),
            ("sent again", f"{totals.retries:,}", "dim"),
        ):
            grid.add_row(name, Text(value, style=style))
        most = max(self._rates, default=0) or 1
        spark = "".join(_BARS[round(rate / most * 8)] for rate in self._rates)
        return Panel(Group(grid, Text(), Text(spark, style="cyan", no_wrap=True)), title="door", border_style="dim")

    def _customers(self, seen: Seen) -> Panel:
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(justify="right", no_wrap=True)
        ranked = sorted(seen.spend.items(), key=lambda item: -item[1])[:TOP]
        most = float(ranked[0][1]) if ranked and ranked[0][1] else 1.0
        for name, amount in ranked:
            bar = ProgressBar(total=most, completed=float(amount), complete_style="magenta", finished_style="magenta")
            grid.add_row(name, bar, Text(dollars(amount), style="bold"))
        for _ in range(TOP - len(ranked)):
            grid.add_row("", "", "")
        return Panel(grid, title="spend this month, largest customers", border_style="dim")

    def _invoices(self, seen: Seen) -> Panel:
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        newest = list(seen.invoices.values())[-_INVOICES:]
        for invoice in reversed(newest):
            grid.add_row(*_invoice_row(invoice))
        for _ in range(_INVOICES - len(newest)):
            grid.add_row("", "", "", "")
        return Panel(grid, title=f"invoices at thresholds: {len(seen.invoices):,}", border_style="dim")


def _invoice_row(invoice: Any) -> tuple[Text, ...]:
    because = invoice["because"]
    return (
        Text(invoice["customer"]),
        Text(f"{dollars(Decimal(invoice['total']))}", style="bold green"),
        Text(f"spend reached ${because['level']}", style="dim"),
        Text(f"by event {because['event']['id']}", style="dim"),
    )


class _Sized:
    """Something drawn at most so wide."""

    def __init__(self, what: RenderableType, width: int) -> None:
        self._what = what
        self._width = width

    def __rich_console__(self, console: Console, options: Any) -> Any:
        yield from console.render(self._what, options.update_width(self._width))
