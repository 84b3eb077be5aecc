"""What every command does first, tried in a process of its own."""

import subprocess
import sys

from tests.face.running import ROOT, environment

_TELLS = """
import importlib.util, sys
assert importlib.util.find_spec("pandas"), "it is not installed, so this shows nothing"
from taximeter.process import leave_pandas_out
leave_pandas_out()
leave_pandas_out()
import polars, pyarrow
assert pyarrow.array(["a"]).to_pylist() == ["a"]
assert polars.from_arrow(pyarrow.table({"a": [1]})).rows() == [(1,)]
try:
    import pandas
except ModuleNotFoundError as error:
    print(error, sum(name.startswith("pandas") for name in sys.modules))
"""


_SIGNALLED = """
import asyncio, os, signal
from taximeter.process import until_signalled

async def main():
    asked = until_signalled()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(asked, 10)
    print("heard")

asyncio.run(main())
"""


def _run(code: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment(), cwd=ROOT)


def test_pandas_is_not_loaded_where_it_is_installed() -> None:
    done = _run(_TELLS)
    assert done.stdout == "pandas is left out of this process 0\n", done.stderr


def test_a_signal_is_heard_from_the_call_on() -> None:
    done = _run(_SIGNALLED)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
