"""What an audit says to people, and to programs."""

from collections.abc import Iterator

import msgspec

from schemas.access import DEFAULT_TENANT
from taximeter.audit.report import Difference, Report
from taximeter.text import heading, number, paragraph, plural

_SHOWN = 200
"""Differences that are told one by one; the rest is counted."""


def as_text(report: Report, width: int) -> Iterator[str]:
    """The report in words: every difference, what was not audited, and how much was."""
    if report.differences:
        yield from heading(plural(len(report.differences), "difference"), width=width)
        for one in report.differences[:_SHOWN]:
            yield from _difference(one, width)
        if len(report.differences) > _SHOWN:
            yield f"and {number(len(report.differences) - _SHOWN)} more"
        yield ""
    for (what, why), count in sorted(report.not_audited.items()):
        times = f" ({number(count)} times)" if count > 1 else ""
        yield from paragraph(f"not audited: {what}: {why}{times}", 0, width, hang=4)
    for source, id, customers in report.shared_ids[:_SHOWN]:
        names = ", ".join(customers)
        yield from paragraph(f"the same id under several customers: {source} {id}: {names}", 0, width, hang=4)
    yield from paragraph(_summary(report), 0, width)


def _difference(one: Difference, width: int) -> Iterator[str]:
    whose = "" if one.tenant == DEFAULT_TENANT else f" of tenant {one.tenant}"
    yield from paragraph(f"{one.what} {one.id}{whose}", 0, width)
    yield from paragraph(one.about, 4, width, hang=4)
    for name, expected, found in one.fields:
        yield from paragraph(f"{name}: expected {expected}, found {found}", 8, width, hang=4)
    if one.events:
        more = f", and {number(one.more)} more" if one.more else ""
        listed = ", ".join(f"{source} {id}" for source, id in one.events)
        yield from paragraph(f"events: {listed}{more}", 8, width, hang=4)


def _summary(report: Report) -> str:
    through = ", ".join(f"{partition}:{offset}" for partition, offset in sorted(report.loaded.through.items()))
    counted = f"{plural(report.line_items, 'line item')} and {plural(report.invoices, 'invoice')}"
    events = f"{plural(report.loaded.events, 'event')} ({plural(report.loaded.duplicates, 'duplicate')})"
    says = f"{plural(len(report.differences), 'difference')}" if report.differences else "no difference"
    left = sum(report.not_audited.values())
    rest = f"; {plural(left, 'thing')} not audited" if left else ""
    return f"{counted} computed again from {events}, through {through}: {says}{rest}."


def as_json(report: Report) -> str:
    """The report as one JSON object."""
    found = {
        "line_items": report.line_items,
        "invoices": report.invoices,
        "events": report.loaded.events,
        "duplicates": report.loaded.duplicates,
        "through": {str(partition): offset for partition, offset in sorted(report.loaded.through.items())},
        "differences": [
            {
                "what": one.what,
                "id": one.id,
                "tenant": one.tenant,
                "about": one.about,
                "fields": [{"name": name, "expected": e, "found": f} for name, e, f in one.fields],
                "events": [{"source": source, "id": id} for source, id in one.events],
                "more_events": one.more,
            }
            for one in report.differences
        ],
        "not_audited": [
            {"what": what, "why": why, "times": count} for (what, why), count in sorted(report.not_audited.items())
        ],
        "shared_ids": [
            {"source": source, "id": id, "customers": customers} for source, id, customers in report.shared_ids
        ],
    }
    return msgspec.json.encode(found).decode()
