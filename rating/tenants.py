"""The state of one partition: a `State` for each tenant, and what they share. Nothing else of a tenant meets another.

Shared are the identities of events (each is made of its tenant, too), the clock, and the place in the log. All that a
tenant's events and documents can change is in a state of its own: so what it is told is the same whoever else is
there, and a change of its catalogue costs the others nothing.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from rating.deduplicate import Deduplicator
from rating.sheets.shelf import Shelf
from rating.state import State
from rating.totals import Totals
from schemas.access import DEFAULT_TENANT
from streams.processor import Fetch

SNAPSHOT_VERSION: Final = 6
_NOBODY: Final = ""
"""No tenant is called so."""


class Tenants:
    """Everything that one partition's engine knows."""

    def __init__(self, partition: int, partitions: int, identities: Deduplicator, shelf: Shelf) -> None:
        self.partition = partition
        self.partitions = partitions
        self.identities = identities
        self.shelf = shelf
        self.totals = Totals()
        """Of the whole partition, without charges: those are the tenants' own."""
        self.nobody = State(partition, partitions, _NOBODY)
        """The state of a tenant that has not come yet: it is told the time, and nothing else."""
        self._states: dict[str, State] = {}
        self.of(DEFAULT_TENANT)

    def __iter__(self) -> Iterator[State]:
        """The states, in the order in which their tenants first came."""
        return iter(self._states.values())

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, tenant: str) -> bool:
        return tenant in self._states

    def of(self, tenant: str) -> State:
        """The state of a tenant. One that is new stands where it would if it had been here from the beginning."""
        found = self._states.get(tenant)
        if found is None:
            found = self._states[tenant] = State(self.partition, self.partitions, tenant, self.shelf)
            found.set_clock(self.nobody)
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of memory in tables and indexes (texts and lists not counted)."""
        return sum(state.nbytes for state in self) + self.identities.nbytes

    def tend(self) -> None:
        """Rows of the ledgers go to disk where that is due. Between two steps: nobody looks at any."""
        if self.shelf.is_full:
            self.shelf.seal(part for state in self if (part := state.ledger.seal(self.shelf.least)) is not None)
        self.shelf.tend()

    # Snapshot ----------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """Everything as MessagePack: plain values and the bytes of columns, nothing that is executed.

        Identities and rows of ledgers that are on disk are named only (`files`).
        """
        return msgspec.msgpack.encode(
            {
                "version": SNAPSHOT_VERSION,
                "partition": [self.partition, self.partitions],
                "identities": self.identities.dump(),
                "sheets": [self.shelf.serial, self.shelf.name_files()],
                "totals": self.totals.dump(),
                "nobody": self.nobody.dump(),
                "tenants": [[state.tenant, state.dump()] for state in self],
            }
        )

    def files(self) -> Mapping[str, Path]:
        """The files that the last `dump` named. They stay until the next."""
        return {**self.identities.files(), **self.shelf.files()}

    @classmethod
    def load(
        cls, raw: bytes, partition: int, partitions: int, identities: Deduplicator, shelf: Shelf, fetch: Fetch
    ) -> "Tenants":
        """What `dump` wrote; what is kept of events comes after it (`rating.keeper.keep_again`).

        `identities`, `shelf`: empty ones, to be filled. Raises: ValueError where it is of another partition or version;
        and what `Deduplicator.load` and `Shelf.open` raise.
        """
        dumped: dict[str, Any] = msgspec.msgpack.decode(raw)
        if dumped["version"] != SNAPSHOT_VERSION:
            raise ValueError(
                f"found a state of version {dumped['version']}, expected {SNAPSHOT_VERSION}: remove the snapshots, "
                "and the state is made again from the log"
            )
        if dumped["partition"] != [partition, partitions]:
            raise ValueError(f"found the state of partition {dumped['partition']}, expected {[partition, partitions]}")
        identities.load(dumped["identities"], fetch)
        found = cls(partition, partitions, identities, shelf)
        found.totals = Totals.load(dumped["totals"])
        found.nobody = State.load(dumped["nobody"], partition, partitions, _NOBODY)
        with tempfile.TemporaryDirectory() as temporary:  # where nothing may stay, all is read at once
            serial, names = dumped["sheets"]
            shelf.open(serial, names, fetch, Path(temporary))
            found._states = {
                tenant: State.load(state, partition, partitions, tenant, shelf) for tenant, state in dumped["tenants"]
            }
            shelf.name_files()
        return found
