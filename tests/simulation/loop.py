"""An event loop on simulated time, and the simulated processes that run on it.

Time jumps to the next timer as soon as nothing else is ready, so a minute of waiting costs nothing. What is ready runs
in the order in which it became ready, so the same calls give the same run.

A process is a context variable: every task, timer and callback carries that of the process which made it. A dead
process's callbacks are never run (as by kill -9: no `finally`, no goodbye); those of one that stands still (as by
SIGSTOP) wait until it goes on. What has no process is the world: the network, the broker, the supervisor.
"""

import asyncio
import heapq
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any

PROCESS: ContextVar["Process | None"] = ContextVar("process", default=None)


class Crash(BaseException):
    """The process is gone, here and now. No `except Exception` stops it."""


class Stuck(Exception):
    """Nothing can happen any more, or it takes for ever."""


class Process:
    """One life of one simulated process."""

    def __init__(self, loop: "SimulatedLoop", name: str) -> None:
        self.loop = loop
        self.name = name
        self.dead = False
        self.reason = ""
        self.error: BaseException | None = None
        self.still_until = 0.0
        """Until when it stands still."""
        self.stood_still_s = 0.0
        self.held: deque[asyncio.Handle] = deque()
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, self)

    def now(self) -> float:
        """The time that the process reads off its clock. One that stands still reads it when it goes on."""
        return max(self.loop.time(), self.still_until)

    def stand_still(self, seconds: float) -> None:
        """Whatever it does next, it does so much later."""
        self.still_until = self.now() + seconds
        self.stood_still_s += seconds
        self.loop.call_in_world(self.still_until, self._go_on)

    def _go_on(self) -> None:
        if self.loop.time() >= self.still_until:
            self.loop.ready.extend(self.held)
            self.held.clear()

    async def awake(self) -> None:
        """Returns when the process runs. Whatever reaches out into the world waits for it first."""
        while not self.dead and self.still_until > self.loop.time():
            await asyncio.sleep(self.still_until - self.loop.time())
        if self.dead:
            raise Crash(self.name)

    def die(self, reason: str, error: BaseException | None = None) -> None:
        """Nothing of it runs after this. What it has in memory is gone."""
        if not self.dead:
            self.dead, self.reason, self.error = True, reason, error
            self.held.clear()


class _NoSelector:
    """There are no sockets."""

    def close(self) -> None:
        pass


class SimulatedLoop(asyncio.BaseEventLoop):
    """See the module. `run` in place of `run_until_complete`."""

    def __init__(self, seconds_max: float = 100_000.0, callbacks_max: int = 2_000_000) -> None:
        super().__init__()
        self.ready: deque[asyncio.Handle] = deque()
        self.work_s: Callable[[], float] = lambda: 0.0
        """How long work in another thread takes."""
        self.tasks: list[asyncio.Task[Any]] = []
        """All that were ever begun: those of a dead process must not be tidied up in the middle of a run."""
        self.problems: list[str] = []
        """What no task has caught."""
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = count()
        self._seconds_max, self._callbacks_max = seconds_max, callbacks_max
        self._selector = _NoSelector()
        self.set_exception_handler(self._on_problem)
        self.set_task_factory(_quiet_task)

    def run(self, main: Any) -> Any:
        """Runs a coroutine of the world to its end. Raises: Stuck, and what it raises."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            for _ in range(self._callbacks_max):
                if task.done():
                    return task.result()
                self._run_next()
            raise Stuck(f"still at work after {self._callbacks_max} callbacks, {self._now:.1f} s")
        finally:
            asyncio._set_running_loop(before)

    def dispose(self) -> None:
        """Ends what is still under way, when nobody looks any more."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # some have never begun
            for task in self.tasks:
                with suppress(BaseException):
                    task.get_coro().close()
        self.tasks.clear()
        self.ready.clear()
        self._timers.clear()
        self.close()

    def _run_next(self) -> None:
        if not self.ready:
            if not self._timers:
                raise Stuck(f"nothing is left to wait for at {self._now:.1f} s")
            self._now = max(self._now, self._timers[0][0])
            if self._now > self._seconds_max:
                raise Stuck(f"still at work after {self._seconds_max:.0f} s")
        while self._timers and self._timers[0][0] <= self._now:
            self.ready.append(heapq.heappop(self._timers)[2])
        handle = self.ready.popleft()
        if handle._cancelled:
            return
        process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is None:
            handle._run()
        elif process.dead:
            pass
        elif process.still_until > self._now:
            process.held.append(handle)
        else:
            handle._run()

    # What asyncio asks of a loop -----------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_in_world(self, when: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
        """As `call_at`, whatever becomes of the process that asks for it."""
        return self.call_at(when, callback, *args, context=_WORLD)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        """Work in another thread: it is done in one go, some time later, unless the process dies before."""
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                result = func(*args)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call_later(self.work_s(), work)
        return future

    def _on_problem(self, _loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Crash | GeneratorExit) and "never retrieved" not in context["message"]:
            self.problems.append(f"{context['message']}: {error!r}")


_WORLD = copy_context()


def _quiet_task(loop: Any, coroutine: Any, **options: Any) -> "asyncio.Task[Any]":
    task = asyncio.Task(coroutine, loop=loop, **options)
    loop.tasks.append(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task
