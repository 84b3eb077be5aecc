"""The audit shares no computing with the engine."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOADED = """
import json, sys
import taximeter.audit.command, taximeter.audit.explain
print(json.dumps(sorted(sys.modules)))
"""


def test_no_module_of_the_engine_or_the_door_is_loaded() -> None:
    words = [sys.executable, "-c", LOADED]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    loaded = json.loads(run.stdout)
    ours = {name for name in loaded if name.partition(".")[0] in ("rating", "ingest", "taximeter")}
    assert {name for name in ours if name.startswith("ingest")} == set()
    assert {name for name in ours if name.startswith("rating.") and not name.startswith("rating.archive")} == set()
    assert "duckdb" in loaded
    assert not {"polars", "faust"} & set(loaded)


def test_the_contract_names_every_part_of_the_engine() -> None:
    """The import contract lists what the audit must not import: nothing new may be forgotten there."""
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (own,) = [
        one for one in contracts if one["source_modules" if "source_modules" in one else "name"] == ["taximeter.audit"]
    ]
    parts = {f"rating.{path.stem}" for path in (ROOT / "rating").iterdir() if not path.stem.startswith(("_", "README"))}
    assert parts - {"rating.archive"} <= set(own["forbidden_modules"])
    assert "ingest" in own["forbidden_modules"]
