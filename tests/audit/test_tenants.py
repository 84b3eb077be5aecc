"""The audit of several tenants in one archive: each by itself, with its own documents, voids and re-ratings."""

from collections.abc import Callable
from pathlib import Path

from rating.archive.ranges import Cut
from rating.archive.store import Archive
from rating.engine import RatingSettings
from schemas import topics
from schemas.entry import Rerate, encode_rerate
from taximeter.audit.found import Found
from taximeter.audit.report import Report
from taximeter.audit.run import Audit
from taximeter.audit.tell import as_json, as_text
from tests.audit.running import SETTINGS
from tests.unit.rating.engines import Log, event, open_engine, run

BOOK = """
meters: {units: {event: use, aggregate: %s}}
price_books: {book: {currency: %s, charges: {units: {meter: units, price: {model: unit, unit_amount: "%s"}}}}}
customers: {acme: {subjects: [%s]}}
default_subscription: {price_book: book}
"""
OURS = BOOK % ("sum, value: $.n", "USD", "2", "acme")
THEIRS = BOOK % ("count", "JPY", "30", "team, acme")
VOID = '{"source": "gate", "id": "1", "reason": "wrong"}'
TENANTS = ("default", "a/b", "b")


def recorded(folder: Path) -> tuple[Archive, Found]:
    """Three tenants with the same names and identities; one takes an event back, one is rated again."""
    log = Log()
    for tenant, book in zip(TENANTS, (OURS, THEIRS, OURS), strict=True):
        log.of(tenant).catalogue(book)
        log.events([event(str(n), f"2026-11-0{n}T00:00:00Z", f'{{"n": {n}}}') for n in (1, 2, 3)], 2)
    log.of("b").events([event("v", "2026-11-05T00:00:00Z", VOID, type="taximeter.void")])
    log.of("default").events([event("1", "2026-11-01T00:00:00Z", '{"n": 1}')])
    log.tick("2026-12-01T00:00:00Z").of("b").catalogue(OURS.replace('"2"', '"3"'))
    log._value(encode_rerate(Rerate(customer="acme", since="2026-11-01T00:00:00Z", tenant="b")), 1)
    settings = RatingSettings(partitions=1, lateness=0, window_days=None, corrections=2**60)
    outputs = run(log, open_engine(settings=settings))
    archive, found = Archive(folder), Found({0: log.entries[-1].end})
    archive.write(Cut(0, 0, log.entries[-1].end), log.entries)
    for topic in (topics.LINE_ITEMS, topics.INVOICES):
        found.add(topic, [output.value for output in outputs if output.topic == topic])
    return archive, found


def audited(folder: Path, change: Callable[[Found], object] = lambda found: None) -> dict[str, Report]:
    archive, found = recorded(folder)
    change(found)
    return {tenant: Audit(archive, found, SETTINGS, (), tenant).run() for tenant in TENANTS}


def test_each_tenant_agrees_by_itself(tmp_path: Path) -> None:
    reports = audited(tmp_path)
    assert all(report.differences == [] for report in reports.values())
    counts = [(r.line_items, r.invoices, r.loaded.events, r.loaded.duplicates) for r in reports.values()]
    assert counts == [(1, 1, 4, 1), (1, 1, 3, 0), (1, 2, 4, 0)]
    assert all(report.loaded.tenants == ("default", "a/b", "b") for report in reports.values())
    assert all(not report.not_audited for report in reports.values())


def test_what_is_wrong_with_one_tenants_line_is_told_of_that_tenant_alone(tmp_path: Path) -> None:
    def dearer(found: Found) -> None:
        [line] = [item for item in found.line_items.values() if item["tenant"] == "a/b"]
        line["amount"] = "91"

    reports = audited(tmp_path, dearer)
    assert [len(reports[tenant].differences) for tenant in TENANTS] == [0, 1, 0]
    whole = reports["default"]
    for tenant in TENANTS[1:]:
        whole.add(reports[tenant])
    assert "of tenant a/b" in "\n".join(as_text(whole, 200))
    assert '"tenant":"a/b"' in as_json(whole)
    assert (whole.line_items, whole.invoices, whole.loaded.events) == (3, 4, 11)
