"""Who writes and merges files: a thread beside the stream. What comes of it is taken over later, by who asked for it.

No answer depends on when a job is done, so tests run jobs at any moment they like (`ByHand`), and the answers are the
same.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

Made = TypeVar("Made")


class Cancelled(Exception):
    """Nobody wants the result any more."""


class Job(Generic[Made]):
    """Something that makes a file. Urgent ones go first, also between the slices of one that is not."""

    def __init__(self, make: Callable[[Callable[[], None]], Made], *, is_urgent: bool) -> None:
        """`make` is given a function to be called now and then, which lets urgent jobs pass."""
        self._make = make
        self.is_urgent = is_urgent
        self.is_cancelled = False
        self.done = threading.Event()
        self.result: Made | None = None
        self.error: BaseException | None = None

    def work(self, pause: Callable[[], None]) -> None:
        """Does it. An error is kept for whoever takes the result."""

        def pause_or_end() -> None:
            if self.is_cancelled:
                raise Cancelled
            pause()

        try:
            pause_or_end()
            self.result = self._make(pause_or_end)
        except BaseException as error:
            self.error = error
        self.done.set()


class Worker(Protocol):
    """Does jobs at some time."""

    def submit(self, job: Job[Any]) -> None:
        """Takes a job on."""
        ...

    def wait(self, job: Job[Any]) -> None:
        """Returns when the job is done."""
        ...


class ByHand:
    """Does the jobs when it is told to, in the thread that tells it."""

    def __init__(self) -> None:
        self._jobs: deque[Job[Any]] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, job: Job[Any]) -> None:
        """Takes a job on."""
        self._jobs.append(job)

    def work(self, jobs: int = 1) -> None:
        """Does the next ones."""
        while jobs and self._jobs:
            self._jobs.popleft().work(lambda: None)
            jobs -= 1

    def wait(self, job: Job[Any]) -> None:
        """Does the jobs up to this one."""
        while not job.done.is_set():
            self.work()


class Background:
    """A thread that is there as long as there are jobs; all partitions of a process share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._urgent: deque[Job[Any]] = deque()
        self._patient: deque[Job[Any]] = deque()
        self._is_running = False

    def submit(self, job: Job[Any]) -> None:
        """Takes a job on."""
        with self._lock:
            (self._urgent if job.is_urgent else self._patient).append(job)
            if self._is_running:
                return
            self._is_running = True
        threading.Thread(target=self._work, name="files", daemon=True).start()

    def wait(self, job: Job[Any]) -> None:
        """Returns when the job is done."""
        job.done.wait()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._urgent and not self._patient:
                    self._is_running = False
                    return
                job = (self._urgent or self._patient).popleft()
            job.work(lambda: None if job.is_urgent else self._let_pass())  # noqa: B023 (done within this round)

    def _let_pass(self) -> None:
        while self._urgent:  # only this thread takes from it
            self._urgent.popleft().work(lambda: None)
