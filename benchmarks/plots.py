"""The plots of docs/evidence, as SVG, from figures on record.

`speed-throughput.svg`: the engine by workload, beside the one-thread Polars query over the same events.
`speed-latency.svg`: latencies by load, of all benchmarks that give some. `speed-growth.svg`: the cost of an event by
the live keys that are held. One that has no figures is not drawn.
"""

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.result import CPU_MICROS, Figure, shown

WIDTH: Final = 860
COLOURS: Final = ("#1f6feb", "#d1570c", "#2a7d4f", "#8250df", "#b3261e", "#57606a")
_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.small{font-size:11px;fill:#57606a}.bold{font-weight:600}"
)


def draw(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Writes each plot that there are figures for. Returns their paths."""
    made = {
        "speed-throughput.svg": throughput(figures),
        "speed-latency.svg": latency(figures),
        "speed-growth.svg": growth(figures),
    }
    for name, svg in made.items():
        if svg:
            (folder / name).write_text(svg)
    return [folder / name for name, svg in made.items() if svg]


def throughput(figures: Sequence[Figure]) -> str:
    """A bar for each workload: as far as `engine and emit`, in light colour as far as `engine`; a mark for Polars."""
    rates: dict[str, dict[str, float]] = {}
    for one in figures:
        if one.benchmark == "engine":
            rates.setdefault(one.workload, {})[one.metric] = one.value
    named = {"engine", "engine and emit", "Polars query", "of the Polars query"}
    rows = [(workload, found) for workload, found in rates.items() if named <= found.keys()]
    if not rows:
        return ""
    most = max(max(found["engine"], found["Polars query"]) for _, found in rows)
    left, right, top, step = 150, 170, 92, 30
    x = _linear(0, most * 1.02, left, WIDTH - right)
    bottom = top + step * len(rows)
    parts = [_text(left, 24, "The engine on one core, by workload: million events a second", "bold")]
    legend = (("engine and emit (lines as JSON)", COLOURS[0], 1.0), ("engine (lines as columns)", COLOURS[0], 0.35))
    for at, (name, colour, opacity) in enumerate(legend):
        parts += [_bar(left + 240 * at, 38, 12, 12, colour, opacity), _text(left + 240 * at + 18, 49, name)]
    parts += [_line(left + 486, 36, left + 486, 52, "#1f2328", 2), _text(left + 494, 49, "one-thread Polars query")]
    parts.append(_text(WIDTH - right + 12, top - 8, "events/s, of Polars", "small"))
    for tick in _ticks(most):
        parts += [_line(x(tick), top - 4, x(tick), bottom, "#d0d7de", 1)]
        parts.append(_text(x(tick), bottom + 16, f"{tick / 1e6:g}", "small", "middle"))
    for at, (workload, found) in enumerate(rows):
        y = top + step * at + 4
        parts.append(_text(left - 8, y + 15, workload, anchor="end"))
        parts.append(_bar(left, y, x(found["engine"]) - left, 20, COLOURS[0], 0.35))
        parts.append(_bar(left, y, x(found["engine and emit"]) - left, 20, COLOURS[0], 1))
        parts.append(_line(x(found["Polars query"]), y - 3, x(found["Polars query"]), y + 23, "#1f2328", 2))
        label = f"{shown(found['engine and emit'])}, {found['of the Polars query']:.2f}"
        parts.append(_text(WIDTH - right + 12, y + 15, label))
    return _svg(bottom + 30, parts)


class Series(NamedTuple):
    """A line of a plot: its name, its points in the order of x, and whether their values stand beside them.

    One without a name belongs to the line before it: it is dashed, in that one's colour."""

    name: str
    points: list[tuple[float, float]]
    labelled: bool = False


def latency(figures: Sequence[Figure]) -> str:
    """Median and p99 by load, on a scale of powers of ten."""
    found: dict[str, dict[bool, list[tuple[float, float]]]] = {}
    for one in figures:
        if {"what", "load", "quantile"} <= one.settings.keys():
            points = found.setdefault(f"{one.benchmark}, {one.workload}: {one.settings['what']}", {True: [], False: []})
            points[one.settings["quantile"] != 0.5].append((float(one.settings["load"]), one.value))
    series = [
        Series(name if is_p99 else "", sorted(points))
        for name, both in found.items()
        for is_p99, points in both.items()
    ]
    if not series:
        return ""
    values = [y for one in series for _, y in one.points]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** (math.floor(math.log10(max(values))) + 1)
    ticks = [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    return _lines(
        "Latency under load: milliseconds by the share of full load (p99; dashed: median)",
        series,
        ((0, 25, 50, 75, 100), lambda value: f"{value:g} %", lambda a, b: _linear(0, 100, a, b)),
        (ticks, lambda value: f"{value:g} ms", lambda a, b: _powers(low, high, a, b)),
    )


def growth(figures: Sequence[Figure]) -> str:
    """The cost of an event by live keys; a line where a quarter more than the first stands."""
    points = sorted((f.settings["keys"], f.value) for f in figures if f.benchmark == "growth" and f.unit == CPU_MICROS)
    if len(points) < 2:
        return ""
    limit = points[0][1] * 1.25
    series = [
        Series("CPU of an event, lines encoded", points, labelled=True),
        Series("a quarter more than the first", [(points[0][0], limit), (points[-1][0], limit)]),
    ]
    most = max(value for _, value in (*points, (0, limit))) * 1.1
    return _lines(
        "The cost of an event by the live keys and identities that are held: microseconds",
        series,
        (
            [key for key, _ in points],
            lambda value: f"{value:,.0f}",
            lambda a, b: _powers(points[0][0] / 1.5, points[-1][0] * 1.5, a, b),
        ),
        (_ticks(most), lambda value: f"{value:g} us", lambda a, b: _linear(0, most, a, b)),
    )


# How it is drawn -----------------------------------------------------------------------------------------------------

Scale = Callable[[float], float]
Axis = tuple[Sequence[float], Callable[[float], str], Callable[[float, float], Scale]]
"""Its ticks, their texts, and the scale between two ends in pixels."""


def _lines(title: str, series: Sequence[Series], across: Axis, up: Axis) -> str:
    left, right, top, bottom = 90, 30, 48, 348
    x, y = across[2](left, WIDTH - right), up[2](bottom, top)
    parts = [_text(left, 24, title, "bold")]
    for tick in across[0]:
        parts.append(_line(x(tick), top, x(tick), bottom, "#eaeef2", 1))
        parts.append(_text(x(tick), bottom + 18, across[1](tick), "small", "middle"))
    for tick in up[0]:
        parts.append(_line(left, y(tick), WIDTH - right, y(tick), "#d0d7de", 1))
        parts.append(_text(left - 8, y(tick) + 4, up[1](tick), "small", "end"))
    named = -1
    for one in series:
        named += bool(one.name)
        colour = COLOURS[named % len(COLOURS)]
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in one.points)
        dashes = "" if one.name else ' stroke-dasharray="6 4"'
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        for a, b in one.points:
            inside = colour if one.name else "#ffffff"
            parts.append(f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="4" fill="{inside}" stroke="{colour}"/>')
            if one.labelled:
                parts.append(_text(x(a), y(b) + 20, shown(b), "small", "middle"))
        if one.name:
            row, column = bottom + 42 + 20 * (named // 2), left + (named % 2) * 380
            parts += [_bar(column, row - 10, 12, 12, colour, 1), _text(column + 18, row, one.name)]
    return _svg(bottom + 42 + 20 * (named // 2 + 1), parts)


def _linear(low: float, high: float, first: float, last: float) -> Scale:
    return lambda value: first + (value - low) / (high - low) * (last - first)


def _powers(low: float, high: float, first: float, last: float) -> Scale:
    scale = _linear(math.log10(low), math.log10(high), first, last)
    return lambda value: scale(math.log10(value))


def _ticks(most: float) -> list[float]:
    """Round numbers from nought to `most`, four to eight of them."""
    power = 10 ** math.floor(math.log10(most / 4))
    step = next(power * n for n in (1, 2, 5, 10) if most / (power * n) <= 8)
    return [step * n for n in range(int(most / step) + 1)]


def _svg(height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}">'
    )
    return (
        "\n".join((head, f"<style>{_STYLE}</style>", _bar(0, 0, WIDTH, height, "#ffffff", 1), *parts, "</svg>")) + "\n"
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(text)}</text>'


def _bar(x: float, y: float, width: float, height: float, colour: str, opacity: float) -> str:
    size = f'width="{max(width, 0):.1f}" height="{height:.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}" fill-opacity="{opacity:g}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width:g}"/>'
