"""Webhooks wired: in `serve`, as a process on Kafka, and the commands for what could not be delivered."""

import asyncio
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from downstream.notifications.endpoints import Endpoint, EndpointsError, load_endpoints
from downstream.notifications.follow import Ends, follow
from downstream.notifications.queue import Queue, QueueRefused
from schemas import topics
from streams.embedded.log import SqliteLog
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable, Source
from taximeter.process import complain, say, until_signalled

FILE_NAME = "webhooks.sqlite"
_ASK_S = 30.0


async def run_webhooks(endpoints: Mapping[str, Endpoint], source: Source, queue: Queue, ends: Ends) -> None:
    """Follows and sends for every endpoint, for ever; ends with the first task that fails. Raises: LogUnavailable."""
    import httpx  # nobody else needs it

    from downstream.notifications.sender import Sender

    async with httpx.AsyncClient() as http, asyncio.TaskGroup() as tasks:
        for name, endpoint in endpoints.items():
            sender = Sender(name, endpoint, queue, http)
            tasks.create_task(sender.run(), name=f"webhook {name}")
            tasks.create_task(follow(name, endpoint, source, queue, ends, sender.wake), name=f"follow for {name}")


def ends_of(log: SqliteLog) -> Ends:
    """Where an embedded log ends."""

    async def ends(names: Sequence[str]) -> dict[tuple[str, int], int]:
        found = {}
        for name in names:
            single = any(topic.name == name and topic.partitions == 1 for topic in topics.REGISTRY)
            for partition in range(1 if single else log.partitions):
                found[name, partition] = log.end(name, partition)
        return found

    return ends


def ends_on(settings: KafkaSettings) -> Ends:
    """Where the topics end on Kafka."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    from streams.kafka.admin import offsets_of

    def ask(names: Sequence[str]) -> dict[tuple[str, int], int]:
        consumer = Consumer({**settings.confluent(), "group.id": "unused", "enable.auto.commit": False})
        try:
            found = {}
            known = consumer.list_topics(timeout=_ASK_S).topics
            for name in names:
                if settings.topic(name) not in known:
                    raise LogUnavailable(f"the topic {settings.topic(name)} is not there")
                for partition in known[settings.topic(name)].partitions:
                    place = TopicPartition(settings.topic(name), partition)
                    found[name, partition] = offsets_of(consumer, place, _ASK_S)[1]
            return found
        except KafkaException as error:
            raise LogUnavailable(f"cannot ask Kafka for the ends of {', '.join(names)}: {error}") from error
        finally:
            consumer.close()

    async def ends(names: Sequence[str]) -> dict[tuple[str, int], int]:
        return await asyncio.to_thread(ask, names)

    return ends


async def run_on_kafka(settings: KafkaSettings, endpoints: Path, data: Path) -> int:
    """`taximeter webhooks run`. Returns the exit status."""
    from streams.kafka.source import KafkaSource

    try:
        wanted = load_endpoints(endpoints)
    except (EndpointsError, OSError) as error:
        complain(f"taximeter webhooks: {error}")
        return 2
    try:
        queue = Queue(data / FILE_NAME)
    except (QueueRefused, OSError, sqlite3.Error) as error:
        complain(f"taximeter webhooks: {error}")
        return 1
    work = asyncio.create_task(run_webhooks(wanted, KafkaSource(settings), queue, ends_on(settings)))
    stopped = asyncio.create_task(until_signalled())
    try:
        say(f"taximeter webhooks: ready, {len(wanted)} endpoints, queue in {data}")
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if work.done() and work.exception() is not None:
            complain(f"taximeter webhooks: {_first(work.exception())}")
            return 1
        say("taximeter webhooks: stopping")
        return 0
    finally:
        for task in (work, stopped):
            task.cancel()
        await asyncio.gather(work, stopped, return_exceptions=True)
        queue.close()


def _first(error: BaseException | None) -> BaseException | None:
    return error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error


def _open(data: Path) -> Queue:
    """Raises: OSError."""
    if not (data / FILE_NAME).is_file():
        raise FileNotFoundError(
            2, f"holds no {FILE_NAME}, expected the folder of a `serve` or `webhooks run`", str(data)
        )
    try:
        return Queue(data / FILE_NAME)
    except (QueueRefused, sqlite3.Error) as error:
        raise OSError(None, str(error), str(data / FILE_NAME)) from error


def show_dead(data: Path, endpoint: str | None) -> int:
    """`taximeter webhooks dead`. Returns the exit status: 3 where there are some."""
    queue = _open(data)
    try:
        for name, counts in queue.counts().items():
            if endpoint in (None, name):
                click.echo(f"{name}: {counts.delivered:,} delivered, {counts.waiting:,} waiting, {counts.dead:,} dead")
        found = queue.dead(endpoint)
        for message in found:
            click.echo(f"  {message.endpoint}  {message.id}  {message.kind}  {message.attempts} tries: {message.error}")
    finally:
        queue.close()
    return 3 if found else 0


def replay_dead(data: Path, endpoint: str | None, id: str | None) -> int:
    """`taximeter webhooks replay`. Returns the exit status: 1 where there was nothing to replay."""
    queue = _open(data)
    try:
        count = queue.replay(time.time(), endpoint, id)
    finally:
        queue.close()
    click.echo(f"{count:,} messages wait again")
    return 0 if count else 1
