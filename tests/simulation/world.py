"""What one run shares: the loop, the dice, the trace, and which faults are still to come."""

import random
from collections import Counter
from collections.abc import Sequence

from tests.simulation.loop import PROCESS, Crash, Process, SimulatedLoop
from tests.simulation.story import Fault, Story


class World:
    """See the module. `healed` is when no more faults come."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.loop = SimulatedLoop()
        self.dice = random.Random(f"{story.seed} world")
        self.loop.work_s = lambda: self.dice.uniform(0.001, 0.01)
        self.trace: list[str] = []
        self.happened: Counter[str] = Counter()
        """How often each place was passed, each fault came, and what else is worth counting."""
        self.healed = False
        self.doomed = False
        """The next process that passes a place crashes there."""
        self._faults: dict[tuple[str, str], list[Fault]] = {}
        for fault in story.faults:
            self._faults.setdefault((fault.kind, fault.place), []).append(fault)
        self._times: Counter[tuple[str, str]] = Counter()

    def say(self, text: str) -> None:
        """One line of the trace."""
        self.trace.append(f"{self.loop.time():9.3f}  {text}")

    def due(self, kind: str, place: str = "") -> Fault | None:
        """Told each time that a fault of this kind could come: the fault that comes now, if any."""
        key = kind, place
        if key not in self._faults or self.healed:
            return None
        self._times[key] += 1
        for fault in self._faults[key]:
            if fault.nth == self._times[key]:
                self.happened[kind] += 1
                return fault
        return None

    def timed(self, kind: str) -> Sequence[Fault]:
        """Faults that come between inputs, whatever the places."""
        return self._faults.get((kind, ""), ())

    def is_doomed(self) -> bool:
        """Whether a crash was ordered for the next place; asked once."""
        doomed, self.doomed = self.doomed and not self.healed, False
        return doomed

    def passed(self, place: str) -> None:
        """What `streams.faults_hook` calls at each numbered place, in the process that is there."""
        process = PROCESS.get()
        if process is None:
            return
        if process.dead:
            raise Crash(process.name)
        self.happened[f"passed {place}"] += 1
        if self.due("crash", place) or self.is_doomed():
            self.happened[f"crash {place}"] += 1
            self.say(f"{process.name} crashes {place}")
            process.die(f"crash {place}")
            raise Crash(process.name)
        if fault := self.due("stand_still", place):
            self.happened[f"standstill {place}"] += 1
            self.say(f"{process.name} stands still {place} for {fault.seconds:.1f} s")
            process.stand_still(fault.seconds)

    def process(self, name: str) -> Process:
        """A new process."""
        return Process(self.loop, name)
