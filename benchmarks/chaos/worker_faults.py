"""Faults of rating workers: kills at random and at forced points, zombies, joining, leaving, limits, wrong clocks."""

import random
import resource
import signal
import time
from collections.abc import Callable
from typing import Final

from benchmarks.chaos.deployment import RECOVERY_MAX_S, SESSION_S, Deployment
from benchmarks.chaos.processes import Member
from benchmarks.chaos.row import Row
from streams.faults_hook import EXIT_STATUS, PLACES

EMBEDDED_ONLY: Final = frozenset({"after_commit"})
SELDOM: Final = frozenset({"after_open", "after_restore", "in_restore", "in_files", "in_snapshot", "after_snapshot"})
"""Places that a process passes seldom: it ends at the first passing, elsewhere at the fourth."""
FORCED: Final = {place: 1 if place in SELDOM else 4 for place in sorted(PLACES - EMBEDDED_ONLY)}
"""Every place that a worker on Kafka passes -> at which passing it ends."""

ZOMBIE_PLACES: Final = ("after_process", "after_journal", "after_fence", "after_emit")
_FAILED: Final = 70

WhenKilled = Callable[[], None]


def now_ms() -> int:
    """The clock that journal records carry."""
    return time.time_ns() // 1_000_000


def kill_workers(deployment: Deployment, row: Row, times: int, also: WhenKilled = lambda: None) -> None:
    """kill -9 of a worker at a random moment; every other time one more, while the partitions move or it starts."""
    chance = random.Random()
    while row.kills < times and not row.is_late():
        deployment.wait_flowing()
        time.sleep(chance.uniform(0.0, 0.8))
        first, *others = chance.sample(deployment.workers, len(deployment.workers))
        concerned, at = _kill(deployment, row, first)
        also()
        again = chance.random()
        if again < 0.5 and row.kills < times:
            # Another while the partitions move, or the same while it starts.
            time.sleep(chance.uniform(0.5, SESSION_S + 1.0))
            other = others[0] if others and again < 0.25 else first
            kills = row.kills
            more, killed_at = _kill(deployment, row, other)
            if row.kills > kills:
                at = killed_at
                concerned = {n: max(concerned.get(n, 0), more.get(n, 0)) for n in concerned | more}
        deployment.recovery(row, concerned, at)


def _kill(deployment: Deployment, row: Row, worker: Member) -> tuple[dict[int, int], int]:
    """The partitions that it owned with their epochs, and when it died."""
    concerned = deployment.watch.owned_by(worker.pid)
    row.in_flight += deployment.in_flight()
    at = now_ms()
    if worker.kill():
        row.kills += 1
        row.injected += 1
    return concerned, at


def crash_at_places(deployment: Deployment, row: Row, rounds: int, places: tuple[str, ...] = tuple(FORCED)) -> None:
    """A worker joins, and ends at one of the numbered steps as by a power cut; the others take over."""
    for _ in row.rounds(rounds):
        for place in places:
            deployment.wait_flowing()
            worker = deployment.add_worker(fault=f"{place}:{FORCED[place]}", keep=False)
            worker.order_end()
            status = worker.wait(RECOVERY_MAX_S)
            at = now_ms()
            row.in_flight += deployment.in_flight()
            if status != EXIT_STATUS:
                row.broken.append(f"{place} ended with status {status}, expected {EXIT_STATUS}: never passed?")
            row.injected += 1
            concerned = deployment.watch.owned_by(worker.pid)
            deployment.fleet.remove(worker)
            deployment.recovery(row, concerned, at)


def make_zombies(deployment: Deployment, row: Row, times: int) -> None:
    """A worker stands still in the middle of a step, longer than its session; others take over; it wakes.

    It must find out at its next append or before its next output, and stop itself with status 70.
    """
    for number in row.rounds(times):
        deployment.wait_flowing()
        place = ZOMBIE_PLACES[number % len(ZOMBIE_PLACES)]
        zombie = deployment.add_worker(fault=f"{place}:5:stop", keep=False)
        deployment.fleet.wait_standing_still(zombie, RECOVERY_MAX_S)
        at = now_ms()
        row.in_flight += deployment.in_flight()
        row.injected += 1
        concerned = deployment.watch.owned_by(zombie.pid)
        deployment.recovery(row, concerned, at)
        zombie.order_end()
        zombie.signal(signal.SIGCONT)
        status = zombie.wait(RECOVERY_MAX_S)
        if status != _FAILED:
            row.broken.append(f"a zombie from {place} ended with status {status}, expected {_FAILED}")
        deployment.fleet.remove(zombie)


def pause_workers(deployment: Deployment, row: Row, times: int) -> None:
    """SIGSTOP of a worker at a random moment, SIGCONT when its session is long over.

    One that had a step under way stops itself; one that had none may join again. Both are right.
    """
    chance = random.Random()
    for _ in row.rounds(times):
        deployment.wait_flowing()
        time.sleep(chance.uniform(0.0, 0.5))
        worker = chance.choice(deployment.workers)
        deployment.fleet.wait_ready(worker, RECOVERY_MAX_S)
        concerned = deployment.watch.owned_by(worker.pid)
        row.in_flight += deployment.in_flight()
        at = now_ms()
        worker.signal(signal.SIGSTOP)
        row.injected += 1
        deployment.recovery(row, concerned, at)
        worker.signal(signal.SIGCONT)


def join_and_leave(deployment: Deployment, row: Row, times: int) -> None:
    """A worker joins under load, works, leaves with SIGTERM (status 0): nobody else may stop."""
    for _ in row.rounds(times):
        deployment.wait_flowing()
        row.in_flight += deployment.in_flight()
        pids = [worker.pid for worker in deployment.workers]
        joined_at = now_ms()
        guest = deployment.add_worker(keep=False)
        deployment.fleet.wait_ready(guest, RECOVERY_MAX_S)
        deployment.recovery(row, deployment.watch.owned_by(guest.pid), joined_at, newer_epoch=False)
        deployment.wait_flowing()
        owned = deployment.watch.owned_by(guest.pid)
        left_at = now_ms()
        status = guest.stop()
        if status != 0:
            row.broken.append(f"a worker that was asked to leave ended with status {status}, expected 0")
        deployment.fleet.remove(guest)
        deployment.recovery(row, owned, left_at)
        row.injected += 2
        if pids != [worker.pid for worker in deployment.workers]:
            row.broken.append("a worker stopped because another joined or left")


def fill_snapshot_disk(deployment: Deployment, row: Row, times: int) -> None:
    """No file may grow beyond 2 KiB: no snapshot finds space. Meanwhile the worker is killed; the space comes back."""
    for number in row.rounds(times):
        worker = deployment.workers[number % len(deployment.workers)]
        deployment.fleet.wait_ready(worker, RECOVERY_MAX_S)
        deployment.wait_flowing()
        before = worker.log().count("was not written")
        worker.limit(resource.RLIMIT_FSIZE, 2048)
        row.injected += 1
        deployment.fleet.wait_logged(worker, "was not written", before, RECOVERY_MAX_S)
        concerned, at = _kill(deployment, row, worker)
        row.injected -= 1
        deployment.recovery(row, concerned, at)


def limit_memory(deployment: Deployment, row: Row, times: int) -> None:
    """A worker gets no more memory than it has, and dies of it or is killed; its next start has too little to come up,

    dies, and is started without a limit."""
    chance = random.Random()
    survived = 0
    for number in row.rounds(times):
        deployment.wait_flowing()
        worker = deployment.workers[number % len(deployment.workers)]
        deployment.fleet.wait_ready(worker, RECOVERY_MAX_S)
        concerned = deployment.watch.owned_by(worker.pid)
        row.in_flight += deployment.in_flight()
        row.injected += 1
        worker.order_end()
        size = worker.address_space()
        worker.memory = int(size * chance.uniform(0.2, 0.6))
        worker.limit(resource.RLIMIT_AS, size // 2)
        at = now_ms()
        if worker.wait(8.0) is None:
            survived += 1
            at = now_ms()
            row.kills += worker.kill()
        deployment.recovery(row, concerned, at)
    if survived:
        row.notes.append(f"{survived} of {times} went on without more memory for 8 s, and were killed")


def step_clocks(deployment: Deployment, row: Row, times: int) -> None:
    """The wall clock of a worker, which writes ticks, jumps by up to days, forwards and back; now and then a kill."""
    chance = random.Random()
    clock = deployment.folder / "clock"
    clock.write_text("0")
    stepped = deployment.add_worker("", True, "benchmarks.chaos.stepped_clock", clock)
    deployment.workers.append(stepped)
    for number in row.rounds(times):
        deployment.fleet.until(lambda: stepped.ready, "the worker with the clock is ready", RECOVERY_MAX_S)
        deployment.wait_flowing()
        offset = chance.choice((-1, 1)) * chance.choice((2.0, 90.0, 3700.0, 86_400.0 * 3, 86_400.0 * 20))
        clock.write_text(str(offset))
        row.in_flight += deployment.in_flight()
        row.injected += 1
        time.sleep(1.5)
        deployment.wait_flowing()
        if number % 2:
            concerned = deployment.watch.owned_by(stepped.pid)
            at = now_ms()
            row.kills += stepped.kill()
            deployment.recovery(row, concerned, at)
