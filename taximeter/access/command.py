"""`taximeter keys`: makes, lists, rotates and revokes API keys, beside whatever runs.

Whoever may write the data folder, or the topic, is the operator: here any tenant's keys can be made.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from schemas import topics
from schemas.times import SECOND
from streams.kafka.admin import TopicError, ensure_topics
from taximeter.access.kafka_store import KafkaKeys
from taximeter.access.keys import Key, KeyRefused, make_key, revoke, rotate, shown
from taximeter.access.ring import KeyStore, KeysUnavailable
from taximeter.access.sqlite_store import SqliteKeys
from taximeter.options import kafka_settings
from taximeter.process import complain, say
from taximeter.text import table

_HEADER = ("id", "tenant", "name", "scopes", "state", "created", "expires")
_ONCE = "This is the only time that the key is shown."


async def create(*, tenant: str, name: str, scope: Sequence[str], expires_in: int, json: bool, **where: Any) -> int:
    """Makes a key. Durations in seconds. Returns the exit status, as all of these do."""

    async def make(store: KeyStore, now: int) -> int:
        text, records = make_key(tenant, name, scope, now, now + expires_in * SECOND if expires_in else None)
        await store.append(records)
        _show_new(text, _find(store, text.split("_")[1]), now, json)
        return 0

    return await _with_store("create", where, make)


async def rotate_key(*, id: str, grace: int, json: bool, **where: Any) -> int:
    """Gives a key another secret; the one before stays valid for `grace` seconds."""

    async def make(store: KeyStore, now: int) -> int:
        text, records = rotate(_find(store, id), now, grace * SECOND)
        await store.append(records)
        _show_new(text, _find(store, id), now, json)
        return 0

    return await _with_store("rotate", where, make)


async def revoke_key(*, id: str, json: bool, **where: Any) -> int:
    """Ends a key for good."""

    async def end(store: KeyStore, now: int) -> int:
        await store.append(revoke(_find(store, id), now))
        _show(_find(store, id), now, json)
        return 0

    return await _with_store("revoke", where, end)


async def list_keys(*, tenant: str | None, json: bool, **where: Any) -> int:
    """All keys, or one tenant's."""

    async def show(store: KeyStore, now: int) -> int:
        keys = store.ring.keys(tenant)
        if json:
            say(msgspec.json.encode([shown(key, now) for key in keys]).decode())
        elif keys:
            rows = [_row(key, now) for key in keys]
            say("\n".join(table(_HEADER, rows, ["left"] * len(_HEADER), gap=2)))
        else:
            say("no keys")
        return 0

    return await _with_store("list", where, show)


async def show_key(*, id: str, json: bool, **where: Any) -> int:
    """One key, its secrets' times included."""

    async def show(store: KeyStore, now: int) -> int:
        _show(_find(store, id), now, json)
        return 0

    return await _with_store("show", where, show)


async def _with_store(name: str, where: dict[str, Any], act: Callable[[KeyStore, int], Awaitable[int]]) -> int:
    try:
        async with _store(**where) as store:
            return await act(store, time.time_ns() // 1000)
    except (KeyRefused, ValueError) as error:
        complain(f"taximeter keys {name}: {error}")
        return 2
    except (KeysUnavailable, TopicError) as error:
        complain(f"taximeter keys {name}: {error}")
        return 1


@asynccontextmanager
async def _store(
    data: Path | None, bootstrap: str | None, prefix: str, replication: int, security: Sequence[str]
) -> AsyncIterator[KeyStore]:
    if data is not None:
        bootstrap = None  # of the environment, perhaps
    if (data is None) == (bootstrap is None):
        raise ValueError("give one of --data (the folder of `serve`) and --bootstrap")
    if data is not None:
        yield SqliteKeys(data)
        return
    settings = kafka_settings(bootstrap or "", 1, prefix, replication, security)
    ensure_topics(settings, [topic for topic in topics.REGISTRY if topic.name == topics.KEYS])
    keys = KafkaKeys(settings)
    keys.start()
    try:
        yield keys
    finally:
        keys.stop()


def _find(store: KeyStore, id: str) -> Key:
    """A key by its id; a whole key's text finds it too. Raises: KeyRefused."""
    if id.startswith("tmk_"):
        id = id.split("_")[1]
    key = store.ring.key(id)
    if key is None:
        raise KeyRefused(f"found no key {id[:60]!r}, expected an id that `taximeter keys list` shows")
    return key


def _show_new(text: str, key: Key, now: int, json: bool) -> None:
    if json:
        say(msgspec.json.encode({"key": text, **shown(key, now)}).decode())
        return
    say(text)
    complain(f"taximeter: the key {key.about.id} of the tenant {key.about.tenant}. {_ONCE}")


def _show(key: Key, now: int, json: bool) -> None:
    found = shown(key, now)
    if json:
        say(msgspec.json.encode(found).decode())
        return
    for name, value in found.items():
        if name != "secrets":
            say(f"{name:8} {', '.join(value) if isinstance(value, list | tuple) else value}")
    for one in msgspec.to_builtins(found["secrets"]):
        say(f"secret   since {one['created']}" + (f", until {one['until']}" if "until" in one else ""))


def _row(key: Key, now: int) -> tuple[str, ...]:
    about = key.about
    return (
        about.id, about.tenant, about.name, ",".join(about.scopes), key.state(now), about.created[:19] + "Z",
        about.expires or "never",
    )  # fmt: skip
