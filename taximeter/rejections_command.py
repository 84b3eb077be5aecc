"""What `taximeter rejections …` does: asks a running server or a folder, and has mended events sent by a door."""

import json as plain_json
import shutil
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from rating.spend.duckdb_store import DuckdbStore
from rating.spend.mends import Mending
from rating.spend.parameters import Problem
from rating.spend.rejections import RejectionFilter, find, get
from rating.spend.store import Place, StoreDamaged, StoreError, StoreFull
from schemas.access import DEFAULT_TENANT
from schemas.rejection import EXPLAINED, Where
from taximeter.process import complain, say
from taximeter.rejections_http import PATH, RESENT_MAX, ResendAnswer, Resent
from taximeter.text import WIDTH_MAX, paragraph, plural, table

_TIMEOUT_S: Final = 120.0
_PAGE: Final = 500
_NOT_TAKEN: Final = 3
_HEADER: Final = ("id", "code", "meter", "event", "message")


class BadArguments(ValueError):
    """What was asked for cannot be; the message says why."""


class _Shown(msgspec.Struct, kw_only=True):
    """A rejection as it is listed."""

    id: str
    code: str
    message: str
    event: msgspec.Raw
    where: Where
    meter: str | None = None
    path: str | None = None
    mended: Mending | None = None


_SHOWN: Final = msgspec.json.Decoder(_Shown)


async def reporting(main: Coroutine[Any, Any, int]) -> int:
    """The exit status; what went wrong in one line."""
    try:
        return await main
    except BadArguments as error:
        complain(f"taximeter rejections: {error}")
        return 2
    except Problem as problem:
        complain(f"taximeter rejections: {problem}")
        return 1
    except (StoreDamaged, StoreError, StoreFull, httpx.HTTPError, OSError) as error:
        complain(f"taximeter rejections: {str(error) or type(error).__name__}")
        return 1


async def list_rejections(
    *,
    url: str | None,
    key: str | None,
    data: Path | None,
    code: str | None,
    meter: str | None,
    everything: bool,
    limit: int,
    as_json: bool,
) -> int:
    """Returns the exit status."""
    asked = RejectionFilter(code=code, meter=meter, mended=None if everything else False)
    found, more = await _find(url, key, data, asked, limit)
    if as_json:
        for raw in found:
            say(bytes(raw).decode())
        return 0
    rows = [_row(_SHOWN.decode(raw)) for raw in found]
    if rows:
        say("\n".join(table(_HEADER, rows, ("left", "left", "left", "left", "left"), width=_width())))
    open_ones = "rejections" if everything else "rejections that no event stands for"
    say(f"{'at least ' if more else ''}{len(rows):,} {open_ones}")
    return 0


async def show_rejection(*, id: str, url: str | None, key: str | None, data: Path | None, as_json: bool) -> int:
    """Returns the exit status."""
    [raw] = await _get([id], url, key, data)
    say(bytes(raw).decode() if as_json else "\n".join(_explained(_SHOWN.decode(raw), _width())))
    return 0


def explain_codes(codes: Iterable[str]) -> None:
    """Prints what codes mean."""
    for number, code in enumerate(codes):
        meaning, what_to_do, used_up = EXPLAINED[code]
        if number:
            say("")
        say(code)
        for text in (meaning, what_to_do, *_of_id(used_up)):
            say("\n".join(paragraph(text, 2, _width())))


async def mend_rejection(
    *,
    id: str,
    changes: Sequence[str],
    event: Path | None,
    replace: bool,
    url: str | None,
    key: str | None,
    door: str | None,
    reason: str,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Returns the exit status."""
    if event is None and not changes and not replace:
        raise BadArguments("mend: give --set or --event (`resend` sends an event as it came)")
    documents = await _get([id], url, key, None)
    more: dict[str, Any] = {"replace": replace, "reason": reason}
    if changes:
        more["merge"] = merge_of(changes)
    if event is not None:
        more["event"] = read_event(event)
    answer = await _send(documents, more, door or url or "", key, dry_run)
    return _told([answer], as_json)


async def resend_rejections(
    *,
    ids: Sequence[str],
    code: str | None,
    meter: str | None,
    limit: int,
    url: str | None,
    key: str | None,
    door: str | None,
    reason: str,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Returns the exit status."""
    if bool(ids) == bool(code or meter):
        raise BadArguments("resend: give either the ids, or --code or --meter")
    if ids:
        documents = await _get(ids, url, key, None)
    else:
        asked = RejectionFilter(code=code, meter=meter, mended=False)
        documents, _ = await _find(url, key, None, asked, limit)
    answers = [
        await _send(documents[start : start + RESENT_MAX], {"reason": reason}, door or url or "", key, dry_run)
        for start in range(0, len(documents), RESENT_MAX)
    ]
    return _told(answers, as_json)


# Asking ---------------------------------------------------------------------------------------------------------------


async def _find(
    url: str | None, key: str | None, data: Path | None, asked: RejectionFilter, limit: int
) -> tuple[list[msgspec.Raw], bool]:
    """At most `limit` rejections, the newest first, and whether there are more."""
    found: list[msgspec.Raw] = []
    if data is not None:
        store = _open(url, data)
        try:
            after: Place | None = None
            while len(found) < limit:
                page = find(store, DEFAULT_TENANT, asked, after, min(limit - len(found), _PAGE))
                found, after = [*found, *page.rejections], page.after
                if after is None:
                    break
            return found, after is not None
        finally:
            store.close()
    wanted = {"code": asked.code, "meter": asked.meter, "mended": None if asked.mended is None else "false"}
    parameters = {name: value for name, value in wanted.items() if value is not None}
    cursor: str | None = ""
    async with _client(key) as client:
        while cursor is not None and len(found) < limit:
            page_of = {"limit": str(min(limit - len(found), _PAGE))} | ({"cursor": cursor} if cursor else {})
            answer = _decode(await client.get(_at(url, "/v1/rejections"), params=parameters | page_of), _Page)
            found += answer.rejections
            cursor = answer.next_cursor
    return found, cursor is not None


class _Page(msgspec.Struct):
    rejections: list[msgspec.Raw]
    next_cursor: str | None


class _One(msgspec.Struct):
    rejection: msgspec.Raw


async def _get(ids: Sequence[str], url: str | None, key: str | None, data: Path | None) -> list[msgspec.Raw]:
    if data is not None:
        store = _open(url, data)
        try:
            return [get(store, DEFAULT_TENANT, id) for id in ids]
        finally:
            store.close()
    async with _client(key) as client:
        return [_decode(await client.get(_at(url, f"/v1/rejections/{id}")), _One).rejection for id in ids]


def _open(url: str | None, data: Path) -> DuckdbStore:
    """The spend store of a folder. Raises: BadArguments; StoreError where a server holds it."""
    path = data / "spend.duckdb"
    if url is not None:
        raise BadArguments("give either --url or --data")
    if not path.exists():
        raise BadArguments(f"--data: found no spend.duckdb in {data}, expected a data folder of `taximeter serve`")
    return DuckdbStore(path)


def _client(key: str | None) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, headers=headers)


def _at(url: str | None, path: str) -> str:
    if not url:
        raise BadArguments("give --url, a running server such as http://127.0.0.1:8080")
    return url.rstrip("/") + path


def _decode(answer: httpx.Response, type: type[Any]) -> Any:
    """Raises: OSError with what the server says is wrong."""
    try:
        if answer.is_success:
            return msgspec.json.decode(answer.content, type=type)
        detail = msgspec.json.decode(answer.content, type=dict[str, Any]).get("detail")
    except msgspec.MsgspecError:
        detail = answer.text[:200]
    raise OSError(f"{answer.request.url} answered {answer.status_code}: {detail}")


# Sending --------------------------------------------------------------------------------------------------------------


async def _send(
    documents: Sequence[msgspec.Raw], more: Mapping[str, Any], url: str, key: str | None, dry_run: bool
) -> ResendAnswer:
    body = msgspec.json.encode({"rejections": documents, **more, "dry_run": dry_run})
    headers = {"content-type": "application/json"}
    async with _client(key) as client:
        answer: ResendAnswer = _decode(await client.post(_at(url, PATH), content=body, headers=headers), ResendAnswer)
    return answer


def read_event(path: Path) -> msgspec.Raw:
    """The mended event of a file, its text as it stands there. Raises: OSError, BadArguments."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadArguments(f"--event: found no JSON, expected a CloudEvent: {error}") from None


def merge_of(changes: Sequence[str]) -> dict[str, Any]:
    """`data.tokens=5` as a JSON Merge Patch; numbers stay as they are written. Raises: BadArguments."""
    patch: dict[str, Any] = {}
    for change in changes:
        path, equals, text = change.partition("=")
        names = path.split(".")
        if not equals or not all(names):
            raise BadArguments(f"--set: found {change!r}, expected PATH=JSON such as data.tokens=5")
        place = patch
        for name in names[:-1]:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise BadArguments(f"--set: found {change!r} and a value for what stands above it")
        place[names[-1]] = _value(text)
    return patch


def _value(text: str) -> Any:
    try:
        plain_json.loads(text, parse_float=str, parse_int=str, parse_constant=_no_constant)
    except ValueError:
        return text
    return msgspec.Raw(text.encode())


def _no_constant(name: str) -> None:
    raise ValueError(name)


# Telling --------------------------------------------------------------------------------------------------------------


def _told(answers: Sequence[ResendAnswer], as_json: bool) -> int:
    for answer in answers:
        if as_json:
            say(msgspec.json.encode(answer).decode())
            continue
        for one in answer.results:
            say(_told_one(one))
    sent, refused = sum(one.sent for one in answers), sum(one.refused for one in answers)
    if not as_json and not any(one.dry_run for one in answers):
        say(f"{plural(sent, 'event')} sent, {refused:,} refused")
    return _NOT_TAKEN if refused else 0


def _told_one(one: Resent) -> str:
    event = "" if one.event is None else f" as {one.event.id} of {one.event.source}"
    if one.verdict == "shown":
        texts = "\n".join(f"  {bytes(text).decode()}" for text in one.events or ())
        return f"{one.rejection} would be sent{event}:\n{texts}"
    why = "" if one.message is None else f": {one.code + ': ' if one.code else ''}{one.message}"
    return f"{one.rejection} {one.verdict}{event if one.verdict != 'refused' else ''}{why}"


def _row(shown: _Shown) -> tuple[str, ...]:
    event = _attributes(shown.event).get("id", "")
    return shown.id, shown.code, shown.meter or "", str(event)[:40], f"{shown.path or ''} {shown.message}".strip()


def _attributes(event: msgspec.Raw) -> dict[str, Any]:
    try:
        return msgspec.json.decode(event, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def _explained(shown: _Shown, width: int) -> Iterable[str]:
    meaning, what_to_do, used_up = EXPLAINED[shown.code]
    yield f"{shown.id}: {shown.code}" + (f", for the meter {shown.meter}" if shown.meter else "")
    yield ""
    found = f"{shown.path}: {shown.message}" if shown.path else shown.message
    for text in (found, meaning, what_to_do, *_of_id(used_up)):
        yield from paragraph(text, 2, width)
    yield ""
    yield "  " + bytes(shown.event).decode()
    yield ""
    by = shown.mended
    yield "  no event stands for it" if by is None else f"  made good by {by.id} of {by.source} at {by.arrived}"


def _of_id(used_up: bool) -> Iterable[str]:
    if used_up:
        yield "Its id is used up: the mended event gets another."


def _width() -> int:
    return min(shutil.get_terminal_size((WIDTH_MAX, 24)).columns, 160)
