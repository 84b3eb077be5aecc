"""Figures: several runs are one, the targets stand beside them, what is on record is read as it was written."""

from pathlib import Path

from benchmarks.load_figures import load_figures
from benchmarks.result import TARGETS, Figure, append, figure, latencies, newest, read, table, together


def _one(*runs: float, metric: str = "engine and emit") -> Figure:
    return figure("engine", "default", metric, "events/s", runs, checked="a sum", settings={"events": 5})


def test_runs_of_one_name_are_one_figure() -> None:
    merged = together([_one(10, 30), _one(1, metric="other"), _one(20)])
    assert [one.metric for one in merged] == ["engine and emit", "other"]
    assert merged[0].runs == [10, 30, 20]
    assert merged[0].value == 20
    assert merged[0].spread == 1.0


def test_the_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "made" / "speed.jsonl"
    first, second = _one(1, 2, 3), _one(4)
    append(path, [first])
    append(path, [second])
    assert read(path) == [first, second]
    assert newest(read(path)) == [second]


def test_a_target_that_is_not_met_says_so() -> None:
    at_least = TARGETS["engine", "default", "engine and emit"]
    for rate, word in ((at_least.value - 1000, "NOT MET"), (at_least.value, "met")):
        assert table([_one(rate)])[1][-1] == word
    at_most = TARGETS["restore", "1,000,000 lines", "from start to ready"]
    for seconds, word in ((at_most.value, "met"), (at_most.value + 0.1, "NOT MET")):
        cells = table([figure("restore", "1,000,000 lines", "from start to ready", "s", [seconds])])
        assert cells[1][-1] == word


def test_latencies_say_load_and_quantile() -> None:
    def add(metric: str, unit: str, runs: list[float], settings: dict[str, object]) -> Figure:
        return figure("query", "x", metric, unit, runs, settings=settings)

    seconds = [n / 1000 for n in range(1000, 0, -1)]
    median, slowest = latencies(add, "answer", 50, seconds)
    assert (median.metric, median.value) == ("answer, median at 50 % load", 501)
    assert (slowest.metric, slowest.value) == ("answer, p99 at 50 % load", 991)
    assert slowest.settings == {"what": "answer", "load": 50, "quantile": 0.99, "times": 1000}
    assert latencies(add, "answer", 50, []) == []


def test_what_a_run_under_load_says_is_figures() -> None:
    told = {
        "events": 600,
        "seconds": 2.0,
        "accepted_per_s": 400.0,
        "rated_per_s": 300.0,
        "cpu_us_per_event": {"door": 1.0, "all": 3.0},
        "anonymous_mib": {"door": [10, 11, 12], "broker": [500, 510, 505]},
        "mapped_mib": {"door": [3, 3, 4], "broker": [20, 20, 20]},
        "door_ms": {"p50": 1.0, "p99": 4.0},
        "line_item_ms": {"p50": 20.0, "p99": 90.0},
        "options": {"workers": 2},
    }
    full = {one.metric: one for one in load_figures("pipeline", told)}
    assert full["sustained"].value == 300
    assert full["sustained"].target == TARGETS["pipeline", "default", "sustained"]
    assert full["CPU, all"].value == 3
    assert full["memory of all at the end"].value == 517
    assert full["memory, more than at half time"].value == -4
    half = {one.metric: one for one in load_figures("pipeline", told, 50)}
    assert half["answer to line item, p99 at 50 % load"].value == 90
    assert half["answer to line item, p99 at 50 % load"].target is not None
    assert half["door's answer, median at 50 % load"].settings["load"] == 50
