"""The catalogues of several tenants: one topic, nothing of each other, and a bound."""

import gc

import msgspec
import pytest

import taximeter.documents
from schemas.catalogue import Catalogue, CatalogueError, Customer, Filed
from schemas.entry import CATALOGUE, TENANT_CATALOGUE, Entry, decode_catalogue
from taximeter.documents import Catalogues


class Topic:
    """What is written: entries of the log, and records of the topic by key."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.records: list[tuple[bytes, bytes]] = []

    async def write(self, entry: bytes, records: list[tuple[bytes, bytes]]) -> dict[int, int]:
        self.entries.append(entry)
        self.records += records
        return {0: len(self.entries)}


def customers(**subjects: str) -> Catalogue:
    return Catalogue(customers={name: Customer(subjects=[subject]) for name, subject in subjects.items()})


async def test_each_tenant_has_its_own_documents_versions_and_view() -> None:
    topic, held = Topic(), Catalogues()
    await held.of("default").apply(customers(acme="a"), topic.write)
    await held.of("meters").apply(customers(acme="b"), topic.write)
    await held.of("meters").apply(customers(acme="c"), topic.write)
    for catalogues in (held, Catalogues(value for _, value in topic.records)):
        versions = {name: catalogues.of(name).versions("customers", "acme") for name in ("default", "meters", "none")}
        assert {name: [one.version for one in found] for name, found in versions.items()} == {
            "default": [1], "meters": [1, 2], "none": [],
        }  # fmt: skip
        assert catalogues.view("default").subjects == {"a": "acme"}
        assert catalogues.view("meters").subjects == {"c": "acme"}
        assert catalogues.view("none").subjects == {}
    # A tenant that is called like a kind has keys of its own, too.
    assert [key for key, _ in topic.records] == [b"customers/acme", b"meters customers/acme", b"meters customers/acme"]
    assert msgspec.json.decode(topic.records[0][1]).keys() == {"kind", "id", "document", "version", "changed"}
    read = [(Entry(0, 1, value).kind, decode_catalogue(Entry(0, 1, value).kind, value[2:])) for value in topic.entries]
    assert [(kind, brought.tenant) for kind, brought in read] == [
        (CATALOGUE, "default"), (TENANT_CATALOGUE, "meters"), (TENANT_CATALOGUE, "meters"),
    ]  # fmt: skip


def _record(tenant: str, kind: str, document: object) -> bytes:
    raw = msgspec.Raw(msgspec.json.encode(document))
    return msgspec.json.encode(Filed(kind, "x", raw, version=1, tenant=tenant))


def test_what_is_wrong_with_one_tenants_documents_keeps_no_others_out() -> None:
    catalogues = Catalogues()
    wrong, right = _record("a", "meters", {"event": 7}), _record("b", "customers", {"subjects": ["s"]})
    with pytest.raises(CatalogueError):
        catalogues.add([wrong, right])
    assert catalogues.view("b").subjects == {"s": "x"}
    assert catalogues.view("a").subjects == {}


async def test_so_many_tenants_have_documents_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taximeter.documents, "TENANTS_MAX", 2)
    topic, catalogues = Topic(), Catalogues()
    for name in ("a", "b"):
        await catalogues.of(name).apply(customers(acme="a"), topic.write)
    written = len(topic.entries)
    with pytest.raises(CatalogueError, match="found 2 tenants with documents, expected fewer than 2"):
        await catalogues.of("c").apply(customers(acme="a"), topic.write)
    assert len(topic.entries) == written
    await catalogues.of("b").apply(customers(acme="b"), topic.write)
    assert len(topic.entries) == written + 1, "those who have documents may change them"


def test_a_tenant_that_is_only_asked_about_is_forgotten() -> None:
    catalogues = Catalogues()
    one = catalogues.of("asked")
    assert catalogues.of("asked") is one, "while somebody asks, it is the same"
    del one
    gc.collect()
    assert not catalogues._kept and not catalogues._empty
