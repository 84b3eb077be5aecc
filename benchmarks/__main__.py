"""All benchmarks one after the other, each in a process of its own, with short settings: `python -m benchmarks`.

For numbers to quote, run them by themselves and longer: see README.md.
"""

import subprocess
import sys

RUNS = (
    ("engine", "--events", "300000"),
    ("deduplicate", "--keys", "100000,1000000", "--events", "500000"),
    ("door", "--seconds", "1", "--repeat", "1"),
    ("door", "--inside", "--seconds", "1"),
    ("sqlite_log", "--seconds", "2"),
    ("spend_store", "200000"),
    ("query", "--lines", "40000", "--customers", "800", "--seconds", "5", "--raw", "100000"),
    ("restore", "--lines", "100000"),
)


def main() -> int:
    """Runs them all, whichever fails. Returns the number of those that failed."""
    failed = 0
    for name, *options in RUNS:
        print(f"\n== {name} {' '.join(options)}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
