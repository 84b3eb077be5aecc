"""The groups of faults: which there are, on what each runs, how often by default, and how one is run and compared."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from benchmarks.chaos import broker_faults, embedded_faults, worker_faults
from benchmarks.chaos.deployment import Deployment, Site
from benchmarks.chaos.embedded import Embedded
from benchmarks.chaos.naive import Naive, NaiveResult
from benchmarks.chaos.row import Row

On = Literal["kafka", "embedded"]


@dataclass(frozen=True)
class Group:
    """One line of the table."""

    key: str
    title: str
    on: On
    times: int
    """Of the default run. With `share`, of `--kills`; else scaled like the kills."""
    share: bool = False
    explained: str = ""


GROUPS: Final = (
    Group("worker-kill", "worker: kill -9 at random", "kafka", 60, True,
          "kill -9 of a rating worker at a random moment; one time in four of a second one while the partitions move, "
          "one time in four of the same again while it starts"),
    Group("broker-kill", "broker: kill -9 and restart", "kafka", 20, False,
          "kill -9 of the broker under load; it comes back on the same files after 0.2 to 3 s"),
    Group("door-kill", "door: kill -9 in the middle of requests", "kafka", 45, True,
          "kill -9 of one door or of both while requests are under way; the clients send the same again"),
    Group("serve-kill", "serve: kill -9 in a loop", "embedded", 75, True,
          "kill -9 of `taximeter serve` at random moments, one time in three again while it starts"),
    Group("serve-torn", "serve: kill -9, newest snapshots torn", "embedded", 20, True,
          "the newest snapshot of each partition is cut short, has a bit flipped, or is emptied before the restart"),
    Group("worker-places", "worker: crash at each numbered step", "kafka", 1, False,
          "a worker joins and ends at one of the numbered steps of the commit, of the restore, of a snapshot, as by a "
          "power cut (TAXIMETER_FAULT)"),
    Group("serve-places", "serve: crash at each numbered step", "embedded", 1, False,
          "the process ends at every place of TAXIMETER_FAULT, and is started again"),
    Group("zombie", "worker: stands still in a step, others take over, wakes", "kafka", 4, False,
          "SIGSTOP in the middle of a step for longer than the session; after the take-over SIGCONT; it must stop "
          "itself with status 70 and write nothing that counts"),
    Group("pause", "worker: SIGSTOP at random, take-over, SIGCONT", "kafka", 4, False,
          "the same at a random moment; one that had no step under way may join again"),
    Group("rebalance", "workers: join and leave under load", "kafka", 3, False,
          "a worker joins, works, leaves by SIGTERM; nobody else may stop"),
    Group("network", "broker: port closed, connections reset", "kafka", 5, False,
          "a proxy between the system and the broker closes its port for 1 to 9 s and resets every connection"),
    Group("worker-disk", "worker: no space for snapshots", "kafka", 2, False,
          "no file of a worker may grow beyond 2 KiB, so no snapshot finds space; it is killed without one"),
    Group("serve-disk", "serve: full disk (log, spend store, snapshots)", "embedded", 4, False,
          "the data folder has no space left for seconds; every second time the process is killed meanwhile"),
    Group("serve-snapshots", "serve: full disk (snapshots only)", "embedded", 2, False,
          "the snapshots' folder has no space left; the process is killed, and the journal has it all"),
    Group("worker-memory", "worker: no more memory", "kafka", 3, False,
          "the address space of a running worker is limited to less than it has, and it dies or is killed after 8 s; "
          "its next start has too little memory and dies, the one after that has no limit"),
    Group("serve-memory", "serve: no more memory", "embedded", 3, False,
          "the same for `serve`, which is killed after 6 s"),
    Group("worker-clock", "worker: wall clock jumps", "kafka", 4, False,
          "the wall clock of a worker, which writes ticks, jumps by 2 s to 20 days, forwards or back; every second "
          "time it is killed after that"),
    Group("serve-clock", "serve: wall clock jumps", "embedded", 4, False,
          "the wall clock jumps by 2 s to 20 days, forwards or back; every second time a kill follows"),
    Group("second", "serve: a second process on the folder", "embedded", 3, False,
          "it must be refused, by the number of the process that holds the folder"),
    Group("newer", "serve: a folder of a newer version", "embedded", 1, False,
          "a log, then a snapshot of format version 99 must be refused by name"),
)  # fmt: skip


@dataclass
class Run:
    """What all groups of a run share."""

    folder: Path
    rate: float
    deadline: float
    """Monotonic: no fault is begun after it."""
    site: Site | None = None
    naive: NaiveResult | None = None
    broken: str = ""
    """The way in which the workers are broken on purpose (`broken_build`)."""
    say: Callable[[str], None] = print

    def kafka(self) -> Site:
        """The broker, started at the first call; one that a group has left broken is mended."""
        if self.site is None:
            self.say("starting a broker")
            self.site = Site(self.folder / "kafka")
        if not self.site.broker.is_running():
            self.site.broker.start()
        self.site.proxy.open()
        return self.site

    def close(self) -> None:
        """Ends the broker."""
        if self.site is not None:
            self.site.close()


def run_group(run: Run, group: Group, times: int) -> Row:
    """Runs one group on a system of its own, and compares. What keeps it from ending is in the row."""
    row = Row(group.title, deadline=run.deadline)
    if row.is_late():
        return row
    begun = time.monotonic()
    try:
        if group.on == "kafka":
            _on_kafka(run, group, times, row)
        else:
            _on_embedded(run, group, times, row)
    except Exception as error:  # the other groups run all the same, and the table shows it
        row.broken.append(f"the run of this fault did not end: {type(error).__name__}: {error}")
    row.seconds = time.monotonic() - begun
    return row


def _on_kafka(run: Run, group: Group, times: int, row: Row) -> None:
    through_proxy = group.key == "network"
    with Deployment(
        run.kafka(), run.folder / group.key, proxied=through_proxy, rate=run.rate, broken=run.broken
    ) as deployment:
        naive = Naive(deployment) if group.key == "worker-kill" else None
        deployment.load.start()
        if naive is not None:
            worker_faults.kill_workers(deployment, row, times, naive.kill)
        else:
            _KAFKA[group.key](deployment, row, times)
        deployment.check(row)
        if naive is not None:
            run.naive = naive.result()


_KAFKA: Final[dict[str, Callable[[Deployment, Row, int], None]]] = {
    "worker-places": worker_faults.crash_at_places,
    "zombie": worker_faults.make_zombies,
    "pause": worker_faults.pause_workers,
    "rebalance": worker_faults.join_and_leave,
    "worker-disk": worker_faults.fill_snapshot_disk,
    "worker-memory": worker_faults.limit_memory,
    "worker-clock": worker_faults.step_clocks,
    "door-kill": broker_faults.kill_doors,
    "broker-kill": broker_faults.kill_broker,
    "network": broker_faults.cut_network,
}


def _on_embedded(run: Run, group: Group, times: int, row: Row) -> None:
    folder = run.folder / group.key
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        mounted = False
        if group.key == "serve-disk":
            mounted = stack.enter_context(embedded_faults.small_disk(folder / "data"))
        if group.key == "serve-snapshots" and not stack.enter_context(
            embedded_faults.small_disk(folder / "data" / "snapshots")
        ):
            row.notes.append("not tried: mounting a small file system needs root")
            return
        clock = folder / "clock"
        clock.write_text("0")
        through = ("benchmarks.chaos.stepped_clock", str(clock)) if group.key == "serve-clock" else ("taximeter", "")
        embedded = stack.enter_context(Embedded(folder, rate=run.rate, module=through[0], before=through[1]))
        embedded.load.start()
        if group.key == "serve-disk":
            embedded_faults.fill_disk(embedded, row, times, mounted)
        elif group.key == "serve-clock":
            embedded_faults.step_serve_clock(embedded, row, times, clock)
        else:
            _EMBEDDED[group.key](embedded, row, times)
        embedded.check(row)


_EMBEDDED: Final[dict[str, Callable[[Embedded, Row, int], None]]] = {
    "serve-kill": embedded_faults.kill_serve,
    "serve-places": embedded_faults.crash_serve_at_places,
    "serve-torn": embedded_faults.tear_snapshots,
    "serve-snapshots": embedded_faults.fill_snapshot_disk,
    "serve-memory": embedded_faults.limit_serve_memory,
    "second": embedded_faults.start_second,
    "newer": embedded_faults.start_on_newer_folder,
}
