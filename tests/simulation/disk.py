"""The snapshots' disk: the real store in a folder of the run's own, and what may happen to its files."""

import errno
import os
import random
from collections.abc import Mapping
from pathlib import Path

from streams.snapshots import Snapshot, SnapshotStore
from tests.simulation.world import World


class SimulatedDisk(SnapshotStore):
    """A process's view of the snapshots. `spare`: one snapshot of each partition is always left whole."""

    def __init__(self, world: World, folder: Path, spare: bool = False) -> None:
        super().__init__(folder)
        self._world, self._root, self._spare = world, folder, spare

    def save(self, processor: str, partition: int, snapshot: Snapshot) -> None:
        """See `SnapshotStore.save`."""
        super().save(processor, partition, snapshot)
        self._world.happened["snapshots"] += 1
        self._world.say(f"snapshot of partition {partition} at {snapshot.position}")
        self._damage(self._root / processor / f"{partition:05d}")

    def load(self, processor: str, partition: int) -> Snapshot | None:
        """See `SnapshotStore.load`."""
        snapshot = super().load(processor, partition)
        if self._damaged:
            self._world.happened["damaged snapshots passed over"] += 1
        if snapshot is not None:
            self._world.happened["snapshots loaded"] += 1
        self._world.say(f"found {f'a snapshot at {snapshot.position}' if snapshot else 'no snapshot'} of {partition}")
        return snapshot

    def _bring_files(self, prefix: str, files: Mapping[str, Path]) -> None:
        if self._world.due("full_disk"):
            self._world.say(f"no space for a snapshot in {prefix}")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super()._bring_files(prefix, files)

    def _damage(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.snapshot"))
        if self._spare and (len(paths) < 2 or _is_damaged(folder)):
            return
        for kind in ("torn_snapshot", "flipped_bit"):
            if fault := self._world.due(kind):
                data = bytearray(paths[-1].read_bytes())
                at = int(fault.part * (len(data) - 1))
                if kind == "torn_snapshot":
                    del data[at:]
                else:
                    data[at] ^= 1 << random.Random(at).randrange(8)
                paths[-1].write_bytes(data)
                (folder / "damaged").write_text(paths[-1].name)
                self._world.doomed = kind == "torn_snapshot" or fault.part < 0.7
                self._world.say(f"{kind.replace('_', ' ')}: {paths[-1].name} at byte {at}")


def _is_damaged(folder: Path) -> bool:
    """Whether one of the snapshots was damaged before."""
    note = folder / "damaged"
    return note.exists() and (folder / note.read_text()).exists()
