"""An entry for every partition and records of another topic, in one transaction."""

from pathlib import Path

from schemas import topics
from streams.embedded.log import SqliteLog


async def test_entries_and_records_are_taken_together_and_stand_after_a_restart(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, 3)
    ends = await log.append_everywhere_with(b"entry", topics.CATALOGUE, [(b"a", b"1"), (b"b", b"2")])
    assert ends == {0: 1, 1: 1, 2: 1}
    log.close()
    log = SqliteLog(tmp_path, 3)
    assert [log.end(topics.EVENTS, partition) for partition in range(3)] == [1, 1, 1]
    found = log.read_records(topics.CATALOGUE, 0, 0)
    assert [(record.key, record.value) for record in found] == [(b"a", b"1"), (b"b", b"2")]
    log.close()
