"""Builds the library from `src/*.c`: `python -m native.build`. `make setup` does it.

With the system's C compiler (`$CC`, `cc`), or, where there is none, with one that pip brings (ziglang), fetched into
`build/` by its hash. The file's name holds a hash of the sources, the flags and the machine: a library of other sources
is never loaded. It uses nothing of Python's headers, so one library serves every Python.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
FOLDER: Final = HERE / "built"
FLAGS: Final = (
    *("-std=gnu11", "-O3", "-fPIC", "-shared", "-fwrapv", "-fno-strict-aliasing", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Werror"),
)
"""Overflow of a plain sum wraps, as in the twins; where it must not, the code asks (`__builtin_add_overflow`)."""
_ZIG: Final = HERE.parent / "build" / "compiler"


def sources() -> list[Path]:
    """The files that are compiled, headers included, in a fixed order."""
    return sorted((HERE / "src").glob("*.[ch]"))


def target() -> Path:
    """Where the library of these sources stands once it is built."""
    said = hashlib.sha256("\0".join((*FLAGS, platform.machine(), sys.platform)).encode())
    for path in sources():
        said.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return FOLDER / f"taximeter-{said.hexdigest()[:16]}.so"


def built() -> Path | None:
    """The library, if it was built from these sources."""
    path = target()
    return path if path.is_file() else None


def build() -> Path:
    """Builds the library unless it is there. Raises: OSError, subprocess.CalledProcessError."""
    path = target()
    if path.is_file():
        return path
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        made = Path(folder) / path.name
        units = [str(source) for source in sources() if source.suffix == ".c"]
        subprocess.run([*_compiler(), *FLAGS, "-o", str(made), *units], check=True)
        os.replace(made, path)
    for other in FOLDER.glob("taximeter-*.so"):
        if other != path:
            other.unlink(missing_ok=True)
    return path


def _compiler() -> list[str]:
    """The command of a C compiler: the system's, or the one that pip brings."""
    asked = os.environ.get("CC")
    if asked:
        return asked.split()
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found:
        return [found]
    python = _ZIG / "bin" / "python"
    if not python.exists():
        print("==> no C compiler here: fetching one (ziglang, about 90 MB)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(_ZIG)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([*pip, "-r", str(HERE / "compiler.lock")], check=True)
    return [str(python), "-m", "ziglang", "cc"]


if __name__ == "__main__":
    print(build())
