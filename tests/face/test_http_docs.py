"""The examples in docs/http.md, in their order, against a running server."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.docs.test_code_blocks import ROOT, read_blocks
from tests.face.running import Server

TEXT = (ROOT / "docs" / "http.md").read_text()


def steps_of(text: str) -> list[tuple[str, str]]:
    """Each command, which goes on behind a backslash and until its quotes are closed, and the answer below it."""
    steps: list[tuple[str, str]] = []
    going_on = False
    for line in text.splitlines():
        if going_on or line.startswith("$ "):
            command = f"{steps.pop()[0]}\n{line}" if going_on else line[2:]
            steps.append((command, ""))
            going_on = command.count("'") % 2 == 1 or command.endswith("\\")
        else:
            steps[-1] = (steps[-1][0], steps[-1][1] + line + "\n")
    return steps


def fits(shown: Any, found: Any) -> bool:
    """Whether an answer is the one shown; a text with `...` stands for anything that begins like it."""
    if isinstance(shown, str) and shown.endswith("..."):
        return shown == "..." or (isinstance(found, str) and found.startswith(shown[:-3]))
    if isinstance(shown, dict) and isinstance(found, dict):
        return list(shown) == list(found) and all(fits(shown[key], found[key]) for key in shown)
    if isinstance(shown, list) and isinstance(found, list):
        return len(shown) == len(found) and all(map(fits, shown, found))
    return shown == found


def is_shown(answer: str, found: str) -> bool:
    """JSON by its values, another text without regard to white space."""
    try:
        return fits(json.loads(answer), json.loads(found))
    except ValueError:
        return answer.split() == found.split()


def ask(command: str) -> str:
    """What a command prints."""
    return subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True, timeout=60).stdout


def test_the_examples_are_as_shown(tmp_path: Path) -> None:
    blocks = [block for block in read_blocks(TEXT, "http.md") if block.kind in ("yaml", "console")]
    with Server(tmp_path / "data", catalogue=blocks[0].text) as server:
        for block in blocks[1:]:
            for command, answer in steps_of(block.text):
                told = command.replace("http://127.0.0.1:8080", server.url).replace("curl ", "curl -sS ", 1)
                found = ask(told)
                # Some questions are answered from tables, which are written a moment later than what was acknowledged.
                deadline = time.monotonic() + 10
                while " -d " not in command and not is_shown(answer, found) and time.monotonic() < deadline:
                    time.sleep(0.1)
                    found = ask(told)
                assert is_shown(answer, found), f"{command}\n{found}"
