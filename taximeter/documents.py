"""The catalogue in force, as the door sees it; and how a changed one takes force.

A change is written to every partition of `taximeter.events`, so that it acts at one place among the events, and then,
document by document, to `taximeter.catalogue`. It is only said to be done after both: a crash in between leaves the
topic as it was, and the next start writes the change again, which changes nothing where it has acted.
"""

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

from ingest.route import View
from rating.catalogue import check_change, load_catalogue
from schemas.catalogue import Catalogue, Filed, join_documents, merge, split_documents
from schemas.entry import CATALOGUE, encode_entry
from schemas.faults import encode_document

_FILED = msgspec.json.Decoder(Filed)


class CatalogueInForce:
    """Every document in force. `view` is what the door needs of it, the same object until something changes."""

    def __init__(self, records: Iterable[bytes] = ()) -> None:
        """`records`: the values of `taximeter.catalogue`, in order. Raises: CatalogueError."""
        self._filed: dict[bytes, Filed] = {}
        for value in records:
            self._file(_FILED.decode(value))
        self.catalogue = join_documents(self._filed.values())
        self._view = View.of(self.catalogue)

    def view(self, tenant: str) -> View:
        """What the door knows; a tenant that has no documents sees none."""
        return self._view if tenant == "default" else _EMPTY

    def add(self, records: Iterable[bytes]) -> None:
        """Takes further records of the topic. Raises: CatalogueError."""
        for value in records:
            self._file(_FILED.decode(value))
        self.catalogue = join_documents(self._filed.values())
        self._view = View.of(self.catalogue)

    def _file(self, filed: Filed) -> None:
        self._filed[filed.key] = filed

    async def apply(
        self,
        fresh: Catalogue,
        to_partitions: Callable[[bytes], Awaitable[object]],
        to_topic: Callable[[list[tuple[bytes, bytes]]], Awaitable[object]],
    ) -> bool:
        """Brings documents into force; False where all of them were already.

        `to_partitions` appends an entry to every partition; `to_topic` records to the catalogue's topic.
        Raises: CatalogueError where the documents contradict those in force; LogUnavailable.
        """
        merged = merge(self.catalogue, fresh)
        if encode_document(merged) == encode_document(self.catalogue):
            return False
        check_change(load_catalogue(encode_document(self.catalogue)), load_catalogue(encode_document(merged)))
        await to_partitions(encode_entry(CATALOGUE, encode_document(merged)))
        changed = [f for f in split_documents(merged) if self._filed.get(f.key) != f]
        records = [(filed.key, msgspec.json.encode(filed)) for filed in changed]
        await to_topic(records)
        self.add(value for _, value in records)
        return True


def read_catalogue_file(path: Path) -> Catalogue:
    """The checked catalogue of a file. Raises: OSError; CatalogueError with every fault."""
    return load_catalogue(path.read_bytes()).documents


_EMPTY = View({})
