"""Plots and page: drawn from what is on record, and nothing where there is nothing."""

from pathlib import Path
from xml.etree import ElementTree

from benchmarks.plots import draw
from benchmarks.report import write_report
from benchmarks.result import CPU_MICROS, Figure, figure

SVG = "{http://www.w3.org/2000/svg}"


def _engine(workload: str, rate: float) -> list[Figure]:
    values = {"engine": 2 * rate, "engine and emit": rate, "Polars query": 4 * rate, "of the Polars query": 0.25}
    return [figure("engine", workload, metric, "", [value]) for metric, value in values.items()]


def _latency(load: float, quantile: float, value: float) -> Figure:
    settings = {"what": "answer", "load": load, "quantile": quantile}
    return figure("door", "single", f"{quantile} at {load}", "ms", [value], settings=settings)


def _growth(keys: int, value: float) -> Figure:
    return figure("growth", "own-keys", f"cost at {keys}", CPU_MICROS, [value], settings={"keys": keys})


def test_a_bar_is_as_long_as_its_rate(tmp_path: Path) -> None:
    (path,) = draw([*_engine("slow <&>", 100_000), *_engine("fast", 400_000)], tmp_path)
    bars = ElementTree.parse(path).iter(f"{SVG}rect")
    widths = [float(bar.get("width", "")) for bar in bars if bar.get("height") == "20.0"]
    assert [round(width / widths[1], 1) for width in widths] == [2, 1, 8, 4]
    assert "slow <&>" in [text.text for text in ElementTree.parse(path).iter(f"{SVG}text")]


def test_points_stand_in_the_order_of_their_values(tmp_path: Path) -> None:
    figures = [_latency(50, 0.5, 10), _latency(10, 0.5, 2), _latency(50, 0.99, 1000), _latency(10, 0.99, 20)]
    growth = [_growth(10**7, 1.2), _growth(10**5, 1.0)]
    latency_path, growth_path = draw([*figures, *growth], tmp_path)
    slowest, median = _points(latency_path)
    dashes = [line.get("stroke-dasharray") for line in ElementTree.parse(latency_path).iter(f"{SVG}polyline")]
    assert dashes == [None, "6 4"], "medians are dashed"
    assert median[0][0] < median[1][0]
    assert slowest[1][1] < slowest[0][1] < median[1][1] < median[0][1], "more is higher up"
    cost, limit = _points(growth_path)
    assert cost[0][0] < cost[1][0]
    assert limit[0][1] == limit[1][1] < cost[1][1] < cost[0][1]


def _points(path: Path) -> list[list[tuple[float, float]]]:
    lines = ElementTree.parse(path).iter(f"{SVG}polyline")
    return [[tuple(map(float, point.split(","))) for point in line.get("points", "").split()] for line in lines]  # type: ignore[misc]


def test_the_page_shows_the_newest_and_what_was_drawn(tmp_path: Path) -> None:
    write_report([*_engine("default", 1_000), *_engine("default", 2_000)], tmp_path)
    page = (tmp_path / "speed.md").read_text()
    assert "| 2,000 |" in page
    assert "| 1,000 |" not in page
    assert "speed-throughput.svg" in page
    assert "speed-latency.svg" not in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speed-throughput.svg", "speed.md"]
