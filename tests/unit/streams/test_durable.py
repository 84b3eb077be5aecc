"""Files that are there whole or not at all, with several writers in one folder."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from streams.durable import write_durably


def test_writers_in_one_folder_leave_each_others_unfinished_files_alone(tmp_path: Path) -> None:
    """One is in the middle of a file whenever another begins: of the same name, and of another."""

    def write(writer: int) -> None:
        for at in range(40):
            content = b"%d" % at
            write_durably(tmp_path / "shared", (content, b"\n"))
            write_durably(tmp_path / f"own-{writer}", (content, b"\n"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own-0", "own-1", "own-2", "own-3", "shared"]
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"39\n"}


def test_a_file_that_is_being_written_stays_and_one_that_a_crash_left_goes(tmp_path: Path) -> None:
    (tmp_path / "a.1.tmp").write_bytes(b"half")

    def in_between() -> None:
        write_durably(tmp_path / "b", (b"b",))

    write_durably(tmp_path / "a", (b"a",), before_naming=in_between)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"a", "b": b"b"}
