"""`taximeter export focus`: invoices as a FOCUS file, from a running server or from what `rate-file` has written."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pyarrow as pa

from downstream.focus.columns import table_of, write
from downstream.focus.rows import Seller, rows_of
from schemas.catalogue import CatalogueError
from schemas.output import Invoice, LineItem
from schemas.times import parse_time
from taximeter.documents import read_catalogue_file
from taximeter.process import complain, say

SERVICE_CATEGORIES: Final = (
    "AI and Machine Learning", "Analytics", "Business Applications", "Compute", "Databases", "Developer Tools",
    "Multicloud", "Identity", "Integration", "Internet of Things", "Management and Governance", "Media", "Migration",
    "Mobile", "Networking", "Security", "Storage", "Web", "Other",
)  # fmt: skip
"""The specification's own list."""

_PAGE: Final = 1000
_TIMEOUT_S: Final = 60.0


class ExportError(RuntimeError):
    """Something that is needed cannot be had; the message says what."""


def focus(
    *,
    url: str | None,
    key: str | None,
    folder: Path | None,
    catalogue: Path | None,
    since: int | None,
    until: int | None,
    provider: str,
    service: str | None,
    category: str,
    out: Path,
) -> int:
    """Returns 0, 1 where something could not be read or written, 2 for bad arguments."""
    if (url is None) == (folder is None):
        complain("taximeter export focus: give either --url (a running server) or --folder (what `rate-file` wrote)")
        return 2
    try:
        invoices, lines, documents = _from_server(url, key) if url else _from_folder(folder or Path())
        if catalogue is not None:
            documents = _documents(catalogue)
        chosen = [one for one in invoices if _within(one, since, until)]
        seller = Seller(
            provider, service or provider, category, f"Other ({category})", _names(documents), _one_time(documents)
        )
        table = table_of(list(rows_of(chosen, lines, seller)))
        write(table, out)
    except CatalogueError as error:
        complain(str(error))
        return 2
    except ValueError as error:
        complain(f"taximeter export focus: {error}")
        return 2 if out.suffix not in (".csv", ".parquet") else 1
    except (ExportError, httpx.HTTPError, msgspec.MsgspecError, pa.ArrowInvalid, OSError) as error:
        complain(f"taximeter export focus: {error}")
        return 1
    except KeyError as missing:
        complain(f"taximeter export focus: an invoice names the line item {missing}, which is not there")
        return 1
    say(f"{table.num_rows:,} rows of {len(chosen):,} invoices in {out}")
    return 0


def _within(invoice: Invoice, since: int | None, until: int | None) -> bool:
    start = parse_time(invoice.period.start)
    return (since is None or start >= since) and (until is None or start < until)


Found = tuple[list[Invoice], list[LineItem], Mapping[str, Any]]


def _from_folder(folder: Path) -> Found:
    def read(name: str, kind: Any) -> list[Any]:
        return [msgspec.json.decode(line, type=kind) for line in (folder / name).read_bytes().splitlines()]

    return read("invoices.ndjson", Invoice), read("line_items.ndjson", LineItem), {}


def _from_server(url: str, key: str | None) -> Found:
    """Raises: httpx.HTTPError, ExportError, msgspec.MsgspecError."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S) as client:
        invoices = [msgspec.convert(one, Invoice) for one in _pages(client, "invoices")]
        lines = [msgspec.convert(one, LineItem) for one in _pages(client, "line-items")]
        answer = client.get("/v1/catalogue")  # a spend server of its own has none
        return invoices, lines, answer.json()["catalogue"] if answer.status_code == 200 else {}


def _pages(client: httpx.Client, listing: str) -> Iterator[Any]:
    cursor: str | None = ""
    while cursor is not None:
        answer = client.get(f"/v1/{listing}", params={"limit": _PAGE, **({"cursor": cursor} if cursor else {})})
        if answer.status_code != 200:
            raise ExportError(f"{answer.request.url} answered {answer.status_code}: {answer.text[:300]}")
        page = answer.json()
        yield from page[listing.replace("-", "_")]
        cursor = page["next_cursor"]


def _documents(path: Path) -> Mapping[str, Any]:
    """The catalogue as plain values. Raises: CatalogueError, OSError."""
    found: Mapping[str, Any] = msgspec.to_builtins(read_catalogue_file(path))
    return found


def _names(documents: Mapping[str, Any]) -> dict[str, str]:
    return {id: customer["name"] for id, customer in documents.get("customers", {}).items() if customer.get("name")}


def _one_time(documents: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """(price book, charge) of the fees that are charged once, under any version."""

    def charges(book: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
        for body in (book, *(book.get("versions") or ())):
            yield from (body.get("charges") or {}).items()

    return frozenset(
        (book, charge)
        for book, body in documents.get("price_books", {}).items()
        for charge, terms in charges(body)
        if (terms.get("price") or {}).get("model") == "one_time"
    )
