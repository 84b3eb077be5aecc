"""The examples of docs/compat.md, in their order, against a running server: curl and their own clients."""

import subprocess
import sys
from pathlib import Path

from tests.compat.openmeter_door import door
from tests.docs.test_code_blocks import ROOT, read_blocks
from tests.face.test_http_docs import is_shown, steps_of

HERE = "http://127.0.0.1:8080"


def run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_the_examples_are_as_shown(tmp_path: Path) -> None:
    blocks = read_blocks((ROOT / "docs" / "compat.md").read_text(), "compat.md")
    told = ""
    with door(tmp_path) as server:
        for block in blocks:
            text = block.text.replace(HERE, server.url)
            if block.kind == "python":
                told = run([sys.executable, "-c", text])
            elif block.kind == "text":
                assert told == block.text
            elif block.kind == "console":
                for command, answer in steps_of(text):
                    found = run(["bash", "-c", command.replace("curl ", "curl -sS ", 1)])
                    assert is_shown(answer, found), f"{command}\n{found}"
