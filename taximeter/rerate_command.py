"""`taximeter rerate`: what re-rating a customer comes to, in tables, and with `--apply` doing it.

Through a running server, or straight on the data folder of one that does not run.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import msgspec

from rating.engine import RatingSettings
from schemas.access import DEFAULT_TENANT
from schemas.entry import encode_rerate
from schemas.output import Invoice
from schemas.times import format_time
from streams.embedded.folder import LogError
from streams.embedded.host import HostSettings
from streams.embedded.log import SqliteLog
from streams.log import LogUnavailable, encode_position
from streams.snapshots import SnapshotError, SnapshotStore
from taximeter.client.courier import authorization
from taximeter.embedded import Embedded, EmbeddedSettings
from taximeter.process import complain, say
from taximeter.rerate import (
    RerateAnswer,
    RerateLine,
    RerateRefused,
    RerateRequest,
    answer_of,
    check_request,
    partition_for,
    show,
)
from taximeter.rerate_http import PATH
from taximeter.simulate_command import in_money, in_numbers, in_words
from taximeter.text import heading, paragraph, plural, table

_TIMEOUT_S: Final = 600.0
_SETTLE_S: Final = 3600.0


async def rerate(
    *,
    customer: str,
    tenant: str,
    since: int,
    until: int | None,
    price_book: str | None,
    reason: str,
    apply: bool,
    json: bool,
    url: str | None,
    data: Path | None,
    partitions: int,
    width: int,
) -> int:
    """Returns 0, 1 where it could not be done, 2 for bad arguments and for what does not fit what was billed."""
    if (url is None) == (data is None):
        complain("taximeter rerate: give either --url (a running server) or --data (a folder that no server holds)")
        return 2
    to = None if until is None else format_time(until)
    asked = RerateRequest(customer, format_time(since), to, price_book, reason, dry_run=not apply)
    try:
        answer = await (
            _ask(asked, tenant, url) if url is not None else _on_folder(asked, tenant, data or Path(), partitions)
        )
    except RerateRefused as refused:
        complain("taximeter rerate: refused")
        for fault in refused.faults:
            complain("\n".join(paragraph(fault, 2, width, hang=2)))
        return 2
    except (LogError, LogUnavailable, SnapshotError, TimeoutError, httpx.HTTPError, OSError) as error:
        complain(f"taximeter rerate: {str(error) or type(error).__name__}")
        return 1
    say(msgspec.json.encode(answer).decode() if json else "\n".join(_explain(answer, width)))
    return 0


async def _ask(asked: RerateRequest, tenant: str, url: str) -> RerateAnswer:
    async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, headers=authorization()) as client:
        headers = {"content-type": "application/json"}
        body, whose = msgspec.json.encode(asked), {} if tenant == DEFAULT_TENANT else {"tenant": tenant}
        response = await client.post(url.rstrip("/") + PATH, content=body, headers=headers, params=whose)
    if response.status_code == 200:
        return msgspec.json.decode(response.content, type=RerateAnswer)
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.MsgspecError:
        raise OSError(f"{url} answered {response.status_code}: {response.text[:200]}") from None
    if problem.faults or response.status_code in (400, 422):
        raise RerateRefused(problem.faults or [problem.detail])
    raise OSError(f"{url} answered {response.status_code}: {problem.detail}")


class _Problem(msgspec.Struct):
    detail: str
    faults: list[str] = []


async def _on_folder(asked: RerateRequest, tenant: str, data: Path, partitions: int) -> RerateAnswer:
    entry = check_request(asked, tenant)
    if not (data / "log.sqlite").exists():
        raise OSError(f"--data: found no log in {data}, expected the data folder of `taximeter serve`")
    settings = EmbeddedSettings(data=data, partitions=partitions, host=HostSettings(tick_seconds=None))
    log = SqliteLog(data, partitions)
    try:
        found = show(
            log, SnapshotStore(data / "snapshots"), RatingSettings(partitions, folder=data / "identities"), entry
        )
    finally:
        log.close()
    if asked.dry_run:
        return answer_of(entry, found)
    async with Embedded(settings) as parts:
        partition = partition_for(entry, partitions)
        position = {partition: await parts.log.append(partition, encode_rerate(entry), 0)}
        await parts.settle(_SETTLE_S)
    return answer_of(entry, found, encode_position(position))


# As a person reads it ------------------------------------------------------------------------------------------------


def _explain(answer: RerateAnswer, width: int) -> Iterator[str]:
    book = "today's prices" if answer.price_book is None else f"the prices of {answer.price_book}"
    yield from heading(f"{answer.customer}: {plural(answer.periods, 'billing period')} under {book}", width=width)
    moved = [line for line in answer.lines if line.difference != "0"]
    if moved:
        yield from _table(answer, moved, width)
    else:
        yield "Nothing changes."
    if answer.unchanged:
        yield f"{plural(answer.unchanged, 'line')} as before."
    for line in answer.lines:
        if line.left is not None:
            yield from paragraph(f"{in_words(line.period['start'])}, {_name(line)}: {line.left}.", 0, width, hang=2)
    for invoice in answer.invoices:
        yield ""
        yield from _invoice(invoice, width)
    yield ""
    if answer.dry_run:
        yield "Nothing is written yet. The same with --apply does it."
    else:
        yield f"Applied as {answer.id}, at the position {answer.position}."


def _table(answer: RerateAnswer, lines: list[RerateLine], width: int) -> Iterator[str]:
    rows: list[list[str]] = []
    for line in lines:
        amounts = [in_numbers(line.before), in_numbers(line.after), _signed(line.difference)]
        rows.append([in_words(line.period["start"]), _name(line), in_numbers(line.quantity), *amounts])
    for total in answer.totals:
        amounts = [in_numbers(total["before"]), in_numbers(total["after"]), _signed(total["difference"])]
        rows.append([f"all, {total['currency']}", "", "", *amounts])
    header = ["period from", "charge", "quantity", "before", "after", "difference"]
    yield from table(header, rows, ["left", "left", "number", "number", "number", "number"], width=width, gap=2)


def _invoice(invoice: Invoice, width: int) -> Iterator[str]:
    name = f"{invoice.kind} invoice of {in_words(invoice.period.start)}, {invoice.subscription}"
    yield from heading(name, f"in {invoice.currency}", width)
    rows = []
    for line in invoice.lines:
        values = [value if value is not None else "(none)" for value in line.dimensions.values()]
        label = f"{line.charge}  {' · '.join(values)}" if values else line.charge
        rows.append([label, in_money(line.amount, invoice.currency)])
    for total, sign in (("discounts", -1), ("credits", -1), ("taxes", 1)):
        amount = getattr(invoice, total)
        if amount != "0":
            rows.append([total, in_money(amount, invoice.currency, sign)])
    rows.append(["to pay", in_money(invoice.total, invoice.currency)])
    yield from table(["line", "amount"], rows, ["left", "number"], width=width)


def _name(line: RerateLine) -> str:
    values = [value if value is not None else "(none)" for value in line.dimensions.values()]
    return f"{line.charge}  {' · '.join(values)}" if values else line.charge


def _signed(amount: str) -> str:
    return ("" if amount.startswith("-") or amount == "0" else "+") + in_numbers(amount)
