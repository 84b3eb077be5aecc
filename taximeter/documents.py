"""The catalogues in force, one for each tenant: documents with their versions; and how a changed one takes force.

A change is an entry in every partition of `taximeter.events`, so that it acts at one place among the events, and one
record for each changed document in `taximeter.catalogue`. The embedded log takes both in one transaction. On Kafka the
entries come first: a crash in between leaves the topic as it was, and whoever sends the change again (nothing was
promised yet) changes nothing where it has acted.

A document's version starts at 1 and rises by one with each change. It stands in the record, so that all who read the
topic agree; records from before there were versions are counted.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from weakref import WeakValueDictionary

import msgspec

from ingest.route import View
from rating.catalogue import load_catalogue
from rating.changes import check_change
from rating.compiled import Compiled
from schemas.access import DEFAULT_TENANT
from schemas.catalogue import (
    KINDS,
    Catalogue,
    CatalogueError,
    Filed,
    join_documents,
    merge,
    split_documents,
)
from schemas.entry import encode_catalogue
from schemas.faults import Faults, encode_document
from schemas.identity import digest
from schemas.limits import DOCUMENT_VERSIONS_MAX, TENANTS_MAX
from schemas.times import format_time

DEFAULT_SUBSCRIPTION = "default_subscription"
"""The one kind that has a single document; its id is `default`."""

Write = Callable[[bytes, list[tuple[bytes, bytes]]], Awaitable[Mapping[int, int]]]
"""Appends an entry to every partition and records to the catalogue's topic; returns the position after the entry in
each partition, when all is durable. Raises: LogUnavailable."""

_FILED = msgspec.json.Decoder(Filed)
_EMPTY = View({})


def _now() -> int:
    return time.time_ns() // 1000


class Change(NamedTuple):
    """What a request comes to for one document. `before` is None where there was none."""

    change: Literal["created", "changed", "unchanged"]
    before: Filed | None
    now: Filed


class Applied(NamedTuple):
    """What a request comes to: one change for each document that was sent, in the order of the kinds."""

    changes: list[Change]
    position: Mapping[int, int] = {}
    """After the change, by partition; empty where nothing has changed."""

    @property
    def changed(self) -> bool:
        """Whether any document differs from what was in force."""
        return any(change.change != "unchanged" for change in self.changes)


class Admission(Protocol):
    """Says whether one more tenant may have documents."""

    def check_room(self, tenant: str) -> None:
        """Raises: CatalogueError."""
        ...

    def keep(self, catalogue: "CatalogueInForce") -> None:
        """A tenant's catalogue holds documents now."""
        ...


class CatalogueInForce:
    """Every document of one tenant in force. `view` is what the door needs of it, the same object until something
    changes."""

    def __init__(
        self,
        records: Iterable[bytes] = (),
        clock: Callable[[], int] = _now,
        tenant: str = DEFAULT_TENANT,
        admission: Admission | None = None,
    ) -> None:
        """`records`: the values of `taximeter.catalogue` that are this tenant's, in order. Raises: CatalogueError."""
        self.tenant = tenant
        self._admission = admission
        self._filed: dict[bytes, list[Filed]] = {}
        self._clock = clock
        self._lock = threading.Lock()  # on Kafka a thread adds what other processes have changed
        self._applying = asyncio.Lock()
        self._compiled: tuple[Catalogue, Compiled] | None = None
        self.catalogue = Catalogue()
        self.view = _EMPTY
        self.add(map(_FILED.decode, records))

    # What is in force ---------------------------------------------------------------------------

    def get(self, kind: str, id: str) -> Filed | None:
        """A document in force."""
        versions = self._filed.get(_key(kind, id))
        return versions[-1] if versions else None

    def versions(self, kind: str, id: str) -> list[Filed]:
        """What is still known of a document's versions, the first one first."""
        return list(self._filed.get(_key(kind, id), ()))

    def ids(self, kind: str) -> list[str]:
        """The ids of a kind's documents, in order."""
        return sorted(getattr(self.catalogue, kind))

    @property
    def tag(self) -> str:
        """A text that changes whenever any document does."""
        with self._lock:
            latest = sorted((key, versions[-1].version) for key, versions in self._filed.items())
        return digest(*(f"{key.decode()} {version}" for key, version in latest)).hex()[:16]

    # Changes ------------------------------------------------------------------------------------

    def add(self, records: Iterable[Filed]) -> None:
        """Takes further records of the topic. Raises: CatalogueError."""
        with self._lock:
            taken = [self._file(filed) for filed in records]
            if any(taken):
                self._set(join_documents(versions[-1] for versions in self._filed.values()))

    def _set(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.view = View.of(catalogue)
        if self._admission is not None:
            self._admission.keep(self)

    def _file(self, filed: Filed) -> bool:
        """Files one record; False where it says nothing new."""
        versions = self._filed.setdefault(_key(filed.kind, filed.id), [])
        last = versions[-1] if versions else None
        if filed.version is None:
            if last is not None and bytes(last.document) == bytes(filed.document):
                return False
            filed = msgspec.structs.replace(filed, version=1 if last is None else _number(last) + 1)
        if last is not None and (last.version, bytes(last.document)) == (filed.version, bytes(filed.document)):
            return False
        # A record that was lost to another writer's under the same number: the later one counts.
        versions[:] = [one for one in versions if _number(one) < _number(filed)][1 - DOCUMENT_VERSIONS_MAX :]
        versions.append(filed)
        return True

    async def apply(
        self,
        fresh: Catalogue,
        write: Write,
        expect: Callable[[], None] = lambda: None,
        dry_run: bool = False,
    ) -> Applied:
        """Brings documents into force, or with `dry_run` only says what that would change. Whole or not at all.

        `expect` is called while nobody else changes anything, and raises where the documents in force are not those
        that the caller knows. Raises: CatalogueError where the documents contradict those in force; LogUnavailable.
        """
        async with self._applying:
            expect()
            before = self.catalogue
            merged = merge(before, fresh)
            changes = self._changes(before, fresh)
            changed = [change.now for change in changes if change.change != "unchanged"]
            if not changed:
                return Applied(changes)
            compiled = await asyncio.to_thread(self._check, before, merged)
            if self._admission is not None:
                self._admission.check_room(self.tenant)
            if dry_run:
                return Applied(changes)
            records = [(filed.key, msgspec.json.encode(filed)) for filed in changed]
            position = await write(encode_catalogue(self.tenant, encode_document(merged)), records)
            with self._lock:
                for filed in changed:
                    self._file(filed)
                if self.catalogue is before:
                    self._set(merged)
                    self._compiled = merged, compiled
                else:  # another process was quicker with other documents
                    self._set(join_documents(versions[-1] for versions in self._filed.values()))
            return Applied(changes, position)

    def _changes(self, before: Catalogue, fresh: Catalogue) -> list[Change]:
        now = format_time(self._clock())
        return [self._change(before, filed, now) for filed in split_documents(fresh, self.tenant)]

    def _change(self, before: Catalogue, filed: Filed, now: str) -> Change:
        last = self.get(filed.kind, filed.id)
        if last is None:
            return Change("created", None, msgspec.structs.replace(filed, version=1, changed=now))
        if encode_document(document_of(before, filed.kind, filed.id)) == bytes(filed.document):
            return Change("unchanged", last, last)
        return Change("changed", last, msgspec.structs.replace(filed, version=_number(last) + 1, changed=now))

    def _check(self, before: Catalogue, merged: Catalogue) -> Compiled:
        """The merged catalogue, compiled. Raises: CatalogueError."""
        after = load_catalogue(encode_document(merged))
        known = self._compiled
        if known is not None and known[0] is before:
            check_change(known[1], after)
            return after
        try:
            compiled = load_catalogue(encode_document(before))
        except CatalogueError:
            return after  # what is in force was written under other rules: the change mends it
        check_change(compiled, after)
        return after


class Catalogues:
    """The catalogues of all tenants. One without documents is forgotten when nobody asks about it any more."""

    def __init__(self, records: Iterable[bytes] = (), clock: Callable[[], int] = _now) -> None:
        """`records`: the values of `taximeter.catalogue`, in order. Raises: CatalogueError."""
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, CatalogueInForce] = {}
        self._empty: WeakValueDictionary[str, CatalogueInForce] = WeakValueDictionary()
        self.add(records)

    def of(self, tenant: str) -> CatalogueInForce:
        """A tenant's catalogue, perhaps one without documents; the same one for all who ask at once."""
        with self._lock:
            found = self._kept.get(tenant) or self._empty.get(tenant)
            if found is None:
                found = self._empty[tenant] = CatalogueInForce((), self._clock, tenant, self)
            return found

    def any_meters(self) -> bool:
        """Whether anything is metered for anybody."""
        return any(one.catalogue.meters for one in self._kept.values())

    def view(self, tenant: str) -> View:
        """What the door knows; a tenant that has no documents sees none."""
        found = self._kept.get(tenant)
        return _EMPTY if found is None else found.view

    def add(self, records: Iterable[bytes]) -> None:
        """Takes further records of the topic. What is wrong with one tenant's keeps no other's from being taken.

        Raises: CatalogueError of the first that is wrong.
        """
        by_tenant: dict[str, list[Filed]] = {}
        for filed in map(_FILED.decode, records):
            by_tenant.setdefault(filed.tenant, []).append(filed)
        failed: CatalogueError | None = None
        for tenant, own in by_tenant.items():
            in_force = self.of(tenant)
            self.keep(in_force)
            try:
                in_force.add(own)
            except CatalogueError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def check_room(self, tenant: str) -> None:
        """See `Admission`."""
        if tenant not in self._kept and len(self._kept) >= TENANTS_MAX:
            faults = Faults()
            faults.add("", f"found {len(self._kept)} tenants with documents, expected fewer than {TENANTS_MAX}")
            raise CatalogueError(faults)

    def keep(self, catalogue: CatalogueInForce) -> None:
        """See `Admission`."""
        self._kept[catalogue.tenant] = catalogue


def document_of(catalogue: Catalogue, kind: str, id: str) -> Any:
    """One document of a catalogue, or None."""
    return catalogue.default_subscription if kind == DEFAULT_SUBSCRIPTION else getattr(catalogue, kind).get(id)


def catalogue_of(documents: Iterable[tuple[str, str, Any]]) -> dict[str, Any]:
    """Plain documents (kind, id, value) in the form of a catalogue."""
    parts: dict[str, Any] = {}
    for kind, id, value in documents:
        if kind == DEFAULT_SUBSCRIPTION:
            parts[kind] = value
        else:
            parts.setdefault(kind, {})[id] = value
    return parts


def zone_of(catalogue: Catalogue, customer: str, subscription: str) -> str:
    """The time zone in which a subscription's periods are cut."""
    terms = catalogue.subscriptions.get(subscription) or catalogue.default_subscription
    known = catalogue.customers.get(customer)
    return (terms.timezone if terms else None) or (known.timezone if known else None) or "UTC"


def owner_of(path: str, catalogue: Catalogue) -> tuple[str, str, str] | None:
    """The document that the path of a fault leads into, as (kind, id, path inside it); None: into none."""
    kind, _, rest = path.partition(".")
    if kind.partition("[")[0] == DEFAULT_SUBSCRIPTION:
        return DEFAULT_SUBSCRIPTION, "default", rest
    if kind not in KINDS:
        return None
    owners = [id for id in getattr(catalogue, kind) if rest == id or rest.startswith((id + ".", id + "["))]
    if not owners:
        return None
    id = max(owners, key=len)
    return kind, id, rest[len(id) :].removeprefix(".")


def read_catalogue_file(path: Path) -> Catalogue:
    """The checked catalogue of a file. Raises: OSError; CatalogueError with every fault."""
    return load_catalogue(path.read_bytes()).documents


def _key(kind: str, id: str) -> bytes:
    return f"{kind}/{id}".encode()


def _number(filed: Filed) -> int:
    return filed.version or 1
