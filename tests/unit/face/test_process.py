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


def test_pandas_is_not_loaded_where_it_is_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TELLS], capture_output=True, text=True, check=False, env=environment(), cwd=ROOT
    )
    assert done.stdout == "pandas is left out of this process 0\n", done.stderr
