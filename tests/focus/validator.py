"""The FinOps Foundation's own validator of FOCUS files, in an environment of its own: it wants numpy 1, Python 3.12."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "focus-validator"
PINS = (
    "focus-validator==2.2.1",
    "duckdb==1.5.6",
    "numpy==1.26.4",
    "pandas==2.3.3",
    "polars==1.44.2",
    "pyarrow==20.0.0",
)
APPLICABLE = (
    *("ACCOUNT_NAMING_SUPPORTED", "USAGE_MEASUREMENT_SUPPORTED", "UNIT_PRICING_SUPPORTED", "SUB_ACCOUNT_SUPPORTED"),
    *("NEGOTIATED_PRICING_SUPPORTED", "PUBLIC_PRICE_LIST_SUPPORTED", "MULTIPLE_PRICING_CATEGORIES_SUPPORTED"),
    *("MULTIPLE_SUB_ACCOUNT_TYPES_SUPPORTED", "MULTIPLE_BILLING_ACCOUNT_TYPES_SUPPORTED", "TAGGING_SUPPORTED"),
)
"""What the specification asks of a provider like ours. Not: regions, zones, resources, commitment discounts,
reservations, virtual currencies."""


def _pythons() -> Iterator[str]:
    """Interpreters that the validator may run on, by what they say."""
    found = [sys.executable, *filter(None, (shutil.which(f"python3.{minor}") for minor in (12, 13)))]
    found += map(str, sorted((Path.home() / ".pyenv" / "versions").glob("3.1[23].*/bin/python")))
    for python in found:
        said = subprocess.run([python, "--version"], capture_output=True, text=True, check=False).stdout
        if re.match(r"Python 3\.1[23]\.", said):
            yield python


def _command() -> Path:
    """The validator, installed where it is not. Raises: AssertionError."""
    done = FOLDER / "installed.txt"
    if not done.exists() or done.read_text() != "\n".join(PINS):
        python = next(_pythons(), None)
        assert python is not None, "the FOCUS validator needs Python 3.12 or 3.13, and none was found"
        shutil.rmtree(FOLDER, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(FOLDER)], check=True)
        pip = [str(FOLDER / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pip += ["--no-compile"]  # it loads a tenth of the modules: compiling all of them takes as long as the rest
        installed = subprocess.run([*pip, *PINS], capture_output=True, text=True, check=False)
        assert installed.returncode == 0, f"the FOCUS validator cannot be installed:\n{installed.stderr[-2000:]}"
        done.write_text("\n".join(PINS))
    return FOLDER / "bin" / "focus-validator"


def failed_rules(path: Path) -> tuple[int, dict[str, str]]:
    """How many of FOCUS 1.2's rules hold for a file, and those that do not, with what is said of them."""
    command = [str(_command()), "--data-file", str(path), "--validate-version", "1.2", "--block-download"]
    command += ["--applicability-criteria", ",".join(APPLICABLE), "--show-violations"]
    (packages,) = FOLDER.glob("lib/python3.*/site-packages")  # it looks for its list of currencies from here
    done = subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False, timeout=280)
    total = re.search(r"^Total: (\d+) \| Pass: (\d+) \| Fail: (\d+)", done.stdout, re.M)
    assert done.returncode == 0 and total is not None, (done.stdout + done.stderr)[-3000:]
    found = dict(re.findall(r"^\S* ?([A-Za-z]+-[CD]-\d+-[A-Z]): FAIL +\((.*)\)$", done.stdout, re.M))
    assert len(found) == int(total[3]), f"{total[0]}, and these were read: {sorted(found)}"
    return int(total[2]), found
