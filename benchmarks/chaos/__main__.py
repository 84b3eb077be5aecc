"""`python -m benchmarks.chaos`: real faults on real processes, then a comparison to the cent. `make chaos` runs it."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Final

from benchmarks.chaos.broken_build import WAYS
from benchmarks.chaos.groups import GROUPS, Group, Run, run_group
from benchmarks.chaos.report import about_naive, as_report, as_text, cells, table, total
from benchmarks.chaos.row import Row

_ALL_KILLS: Final = sum(group.times for group in GROUPS if group.share)
_SAID_MAX: Final = 4000
_TAIL_SHARE: Final = 0.93
"""No fault is begun in the last part of the time: the comparison needs it."""


def main() -> int:
    """Runs the groups. 0 where everything that must be nought is."""
    options = _options()
    signal.signal(signal.SIGTERM, _stop)
    begun = time.monotonic()
    date = time.strftime("%Y-%m-%d", time.gmtime())
    folder = Path(tempfile.mkdtemp(prefix="taximeter-chaos-"))

    def say(text: str) -> None:
        print(f"[{(time.monotonic() - begun) / 60:5.1f} min] {text}", file=sys.stderr, flush=True)

    run = Run(folder, options.rate, begun + options.minutes * 60 * _TAIL_SHARE, say=say, broken=options.broken)
    rows: list[Row] = []
    try:
        for group in _chosen(options.only):
            times = _times(group, options)
            say(f"{group.title}: {times} times")
            row = run_group(run, group, times)
            rows.append(row)
            say("  " + " ".join(f"{cell or '-'}" for cell in cells(row)[1:]) + ("" if row.right else "  WRONG"))
            for text in [*row.broken, *row.findings.examples]:
                say("  ! " + _shortened(text))
    except KeyboardInterrupt:
        say("stopped")
        return 130
    finally:
        run.close()
        if options.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    lines = table(rows, run.naive)
    print(as_text(lines))
    every = total(rows)
    if run.naive is not None:
        print(about_naive(run.naive))
    minutes = (time.monotonic() - begun) / 60
    print(
        f"{every.kills} processes killed, {every.broker_restarts} broker restarts, {every.events} acknowledged events, "
        f"{minutes:.1f} minutes: {'everything is as it must be' if every.right else 'SOMETHING IS WRONG'}"
    )
    short = [row.fault for row in rows if row.cut_short]
    if short:
        print(f"The time was over: {len(short)} lines have fewer faults than asked, or none: {', '.join(short)}")
    if options.report is not None:
        command = " ".join(["python -m benchmarks.chaos", *sys.argv[1:]])
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(as_report(rows, run.naive, command, date, minutes))
        print(f"report: {options.report}")
    return 0 if every.right else 1


def _shortened(text: str) -> str:
    """Head and end of what may hold the logs of all processes."""
    return text if len(text) < _SAID_MAX else text[: _SAID_MAX // 2] + "\n…\n" + text[-_SAID_MAX // 2 :]


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    keys = "\n".join(f"  {group.key:16} {group.title}" for group in GROUPS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Kills, stops, cuts off and starves real processes while events come in, and compares every line item,\n"
            "invoice and alert with an independent pass over what the log has taken. Needs Java (see make kafka-jars)\n"
            "for the faults on Kafka; nothing for those of `serve`. Exit status 1 where anything is not as it must be."
        ),
        epilog=f"faults (--only):\n{keys}\n\nA short look: --kills 20 --broker-restarts 2 --only worker-kill,zombie",
    )
    parser.add_argument("--kills", type=int, default=_ALL_KILLS, help="processes to kill at random (%(default)s)")
    parser.add_argument("--broker-restarts", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--minutes", type=float, default=30.0, help="no fault is begun after that (%(default)s)")
    parser.add_argument("--only", default="", help="faults, with commas (default: all)")
    parser.add_argument("--rate", type=float, default=300.0, help="events a second (%(default)s)")
    parser.add_argument("--report", type=Path, help="write the report here, as Markdown")
    parser.add_argument(
        "--break", dest="broken", default="", choices=["", *WAYS], help="workers broken on purpose: must end red"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs and data")
    return parser.parse_args()


def _chosen(only: str) -> list[Group]:
    known = {group.key: group for group in GROUPS}
    asked = [key for key in only.split(",") if key]
    wrong = [key for key in asked if key not in known]
    if wrong:
        print(f"--only: found {', '.join(wrong)}, expected some of {', '.join(known)}", file=sys.stderr)
        raise SystemExit(2)
    return [known[key] for key in asked] or list(GROUPS)


def _times(group: Group, options: argparse.Namespace) -> int:
    if group.key == "broker-kill":
        return int(options.broker_restarts)
    scale = options.kills / _ALL_KILLS
    return max(1, round(group.times * (scale if group.share else min(scale, 1.0))))


if __name__ == "__main__":
    sys.exit(main())
