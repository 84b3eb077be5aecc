"""The code in the documentation runs: catalogues load, commands print what is shown, Python does not raise.

Conventions: a fenced `yaml` block that holds `price_books:` is a whole catalogue; a `console` or `python` block runs
where the HTML comment `<!-- run -->` stands before it. Console blocks of one document run in order in one folder:
lines that begin with `$ ` are commands (a `\\` at the end goes on in the next line, `<<'EOF'` up to EOF), the others
are what they print, without regard to white space; a line that holds `...` stands for any number of lines. A block
of any kind after `<!-- file: NAME -->` is first written to that file of the folder. A `diff` block after
`<!-- stands -->` shows a change that was made: what it comes to stands in the files.
"""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from rating.catalogue import load_catalogue

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>`{3,})(?P<kind>[\w-]*)[^\n]*\n(?P<body>.*?)^(?P=indent)(?P=ticks) *$", re.M | re.S
)
_RUN = re.compile(r"<!-- *run *-->\s*\Z")
_FILE = re.compile(r"<!-- *file: *(\S+) *-->\s*\Z")
_STANDS = re.compile(r"<!-- *stands *-->\s*\Z")
_HERE = re.compile(r"<<'?(\w+)'?")
_SECONDS_MAX = 120


class Block(NamedTuple):
    """One fenced block: its place, kind and text; whether it runs; the file that it is written to; whether its change
    was made."""

    place: str
    kind: str
    text: str
    runs: bool
    file: str | None
    stands: bool = False


def documents() -> list[Path]:
    """README.md first, then everything in docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    return read_blocks(path.read_text(), path.relative_to(ROOT).as_posix()) if path.exists() else []


def read_blocks(text: str, name: str) -> list[Block]:
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        named = _FILE.search(before)
        body = re.sub(rf"^{match['indent']}", "", match["body"], flags=re.M)
        place = f"{name}:{before.count(chr(10)) + 1}"
        file, stands = named[1] if named else None, bool(_STANDS.search(before))
        found.append(Block(place, match["kind"], body, bool(_RUN.search(before)), file, stands))
    return found


def steps_of(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that it prints."""
    steps: list[tuple[str, list[str]]] = []
    going_on, until = False, ""
    for line in text.splitlines():
        if going_on or until:
            steps[-1] = (steps[-1][0] + "\n" + (line if until else line.removeprefix("> ")), [])
        elif line.startswith("$ "):
            steps.append((line[2:], []))
        elif steps:
            steps[-1][1].append(line)
        elif line.strip():
            raise AssertionError(f"found {line!r}, expected a command that begins with '$ '")
        if until:
            until = "" if line == until else until
        elif here := _HERE.search(line) if line.startswith("$ ") or going_on else None:
            until = here[1]
        going_on = not until and bool(steps) and not steps[-1][1] and line.endswith("\\")
    return steps


class Hunk(NamedTuple):
    """A stretch of a file after a change. `whole`: it is all of the file."""

    path: str
    whole: bool
    text: str


def hunks_of(diff: str) -> list[Hunk]:
    """What the files of a unified diff come to."""
    found: list[Hunk] = []
    path, whole = "", False
    for line in diff.splitlines():
        if line.startswith("--- "):
            whole = line == "--- /dev/null"
        elif line.startswith("+++ b/"):
            path = line.removeprefix("+++ b/")
        elif line.startswith("@@"):
            found.append(Hunk(path, whole, ""))
        elif not line.startswith("-"):
            assert found, f"found {line!r}, expected a line with @@ before it"
            found[-1] = found[-1]._replace(text=found[-1].text + line[1:] + "\n")
    return found


def check_hunk(hunk: Hunk, root: Path) -> None:
    """The file is, or holds, what the hunk shows."""
    found = (root / hunk.path).read_text()
    if hunk.whole:
        assert hunk.text == found, f"{hunk.path} is not what is shown"
    else:
        assert "\n" + hunk.text in "\n" + found, f"{hunk.path} does not hold what is shown:\n{hunk.text}"


def prints(expected: list[str], found: str) -> bool:
    """Whether a text is what a document shows; white space aside, lines with `...` stand for any lines."""
    shown = [" ".join(line.split()) for line in expected if line.strip()]
    parts = [re.escape(line) + "\n" if "..." not in line else "(?s:.*)" for line in shown]
    plain = "".join(" ".join(line.split()) + "\n" for line in found.splitlines() if line.strip())
    return not shown or re.fullmatch("".join(parts), plain) is not None


def environment() -> dict[str, str]:
    """The environment of a reader who has installed the program."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("TAXIMETER", "KAFKA"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", "")])
    return own | {"PATH": path, "COLUMNS": "120", "PYTHONPATH": str(ROOT)}


def run_block(block: Block, folder: Path) -> None:
    """Writes and runs one block in the document's folder."""
    if block.file:
        (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.file).write_text(block.text)
    if not block.runs:
        return
    if block.kind == "python":
        steps = [([sys.executable, "-c", block.text], list[str]())]
    else:
        assert block.kind == "console", f"{block.place}: found a block of {block.kind!r}, expected console or python"
        steps = [(["bash", "-ec", command], shown) for command, shown in steps_of(block.text)]
        assert steps, f"{block.place}: no line begins with '$ '"
    for command, shown in steps:
        done = subprocess.run(
            command, cwd=folder, env=environment(), check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=_SECONDS_MAX,
        )  # fmt: skip
        said = f"{block.place}: {command[-1]}\nexit status {done.returncode}, printed:\n{done.stdout}"
        assert done.returncode == 0 or "echo $?" in command[-1] or "||" in command[-1], said
        assert prints(shown, done.stdout), f"{said}\nshown:\n" + "\n".join(shown)


def end_what_runs_in(folder: Path) -> None:
    """A document that fails on the way leaves the servers that it has started."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").resolve() == folder.resolve():
                os.kill(int(process.name), signal.SIGKILL)


DOCUMENTS = documents()
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
CATALOGUES = [
    b for path in DOCUMENTS for b in blocks_of(path) if b.kind in ("yaml", "yml") and "price_books:" in b.text
]
CHANGES = [b for path in DOCUMENTS for b in blocks_of(path) if b.stands]


def test_there_is_a_readme() -> None:
    assert (ROOT / "README.md").is_file(), "README.md is missing"
    assert blocks_of(ROOT / "README.md"), "README.md shows no code"


@pytest.mark.parametrize("block", CATALOGUES, ids=[block.place for block in CATALOGUES])
def test_a_catalogue_in_the_documentation_loads(block: Block) -> None:
    load_catalogue(block.text)


@pytest.mark.parametrize("block", CHANGES, ids=[block.place for block in CHANGES])
def test_a_change_in_the_documentation_was_made(block: Block) -> None:
    hunks = hunks_of(block.text)
    assert block.kind == "diff" and hunks
    for hunk in hunks:
        check_hunk(hunk, ROOT)


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_the_code_of_a_document_runs(path: Path, tmp_path: Path) -> None:
    try:
        for block in blocks_of(path):
            run_block(block, tmp_path)
    finally:
        end_what_runs_in(tmp_path)


# What reads the documents is tested too, on a document of its own ----------------------------------------------------

SAMPLE = """
Words.

<!-- file: hello.txt -->
```text
hello
```

<!-- run -->
```console
$ cat hello.txt
hello
$ cat > two.txt <<'EOF'
one
two
EOF
$ wc -l < two.txt
2
$ printf 'one\\ntwo\\nthree\\n' \\
    | sort
one
...
two
```

  <!-- run -->
  ```python
  assert open("hello.txt").read() == "hello\\n"
  ```

```console
$ this does not run
```
"""


def test_blocks_are_found_written_and_run_in_order(tmp_path: Path) -> None:
    blocks = read_blocks(SAMPLE, "sample")
    assert [(b.kind, b.runs, b.file) for b in blocks] == [
        ("text", False, "hello.txt"), ("console", True, None), ("python", True, None), ("console", False, None),
    ]  # fmt: skip
    assert blocks[1].place == "sample:10"
    for block in blocks:
        run_block(block, tmp_path)


@pytest.mark.parametrize("wrong", ["$ cat nothing", "$ echo one\ntwo", "$ echo one\none\ntwo", "words"])
def test_what_is_not_as_shown_fails(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        run_block(Block("here", "console", wrong, True, None), tmp_path)


def test_python_that_raises_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run_block(Block("here", "python", "1 / 0", True, None), tmp_path)


DIFF = """
--- a/some.txt
+++ b/some.txt
@@
 one
-two
+three
--- /dev/null
+++ b/new.txt
@@
+four
+
"""


def test_what_a_diff_comes_to_is_looked_up(tmp_path: Path) -> None:
    hunks = hunks_of(DIFF.lstrip())
    assert hunks == [Hunk("some.txt", False, "one\nthree\n"), Hunk("new.txt", True, "four\n\n")]
    (tmp_path / "some.txt").write_text("nought\none\nthree\nfour\n")
    (tmp_path / "new.txt").write_text("four\n\nfive\n")
    check_hunk(hunks[0], tmp_path)
    with pytest.raises(AssertionError, match=r"new.txt is not"):
        check_hunk(hunks[1], tmp_path)
    (tmp_path / "some.txt").write_text("one\ntwo\nthree\n")
    with pytest.raises(AssertionError, match=r"some.txt does not hold"):
        check_hunk(hunks[0], tmp_path)
