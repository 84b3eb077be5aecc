"""Some hundreds of stories: each comes out right, none is left out, and a run is the same every time."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import streams.faults_hook
import streams.kafka.partition
from tests.simulation.command import run_chunk
from tests.simulation.outcome import Outcome
from tests.simulation.report import narrative, never_seen, table, tally
from tests.simulation.run import run_story
from tests.simulation.shrink import shrink
from tests.simulation.story import Events
from tests.simulation.test_mutations import done_before_emit
from tests.simulation.throw import throw

SEEDS = 200
PART = 50
ROOT = Path(__file__).resolve().parents[2]

_seen: Counter[str] = Counter()


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_stories_come_out_right(first: int) -> None:
    wrong, counts, _ = run_chunk(range(first, first + PART))
    _seen.update(counts)
    assert not wrong, "\n".join(narrative(run_story(throw(wrong[0]))))


def test_every_place_crashed_and_every_fault_came() -> None:
    """A check that never meets a fault proves nothing. Without the test before it, it tells the stories itself."""
    if sum(count for name, count in _seen.items() if name.endswith(": stories")) < SEEDS:
        _seen.clear()
        _seen.update(run_chunk(range(SEEDS))[1])
    print("\n".join(table(_seen)))
    assert not never_seen(_seen)


def test_a_seed_tells_the_same_story_in_another_process() -> None:
    """Also under another order of hashes, and whatever was told before."""
    seeds = [5, 12, 23]
    told = ["\n".join(narrative(run_story(throw(seed)))) for seed in seeds]
    again = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", *map(str, reversed(seeds))],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert again.stdout.decode() == "\n".join(reversed(told)) + "\n"


def test_a_run_leaves_what_it_replaced_as_it_was() -> None:
    before = vars(streams.kafka.partition)["time"]
    run_story(throw(1))
    assert vars(streams.kafka.partition)["time"] is before and streams.faults_hook.hook is None


def _shrunk(monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, Outcome]:
    done_before_emit(monkeypatch)
    story = throw(0)
    small = shrink(story, lambda one: bool(run_story(one).problems), seconds=20.0)
    return run_story(story), run_story(small)


def test_a_failing_story_is_cut_down_to_one_that_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, small = _shrunk(monkeypatch)
    assert small.problems
    assert not small.story.faults  # this mutation is wrong without any
    assert sum(len(one.texts) for one in small.story.inputs if isinstance(one, Events)) <= 1
    assert len(narrative(small)) < len(narrative(whole))
    assert narrative(small)[-1].partition(". ")[2].startswith("WRONG: ")


def test_figures_are_kept_by_host() -> None:
    counts = tally(run_story(throw(3)))
    assert counts["embedded: stories"] == 1 and counts["kafka: stories"] == 0
    assert counts["embedded: passed after_commit"] > 0
