"""A failing story, cut down to one that a person can read: whatever can be left out while it still fails, is."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tests.simulation.story import Change, Events, Input, Story

Fails = Callable[[Story], bool]


def shrink(story: Story, fails: Fails, seconds: float = 60.0) -> Story:
    """A smaller story that fails too. Stops after some time with the smallest one that was found."""
    deadline = time.monotonic() + seconds
    found = True
    while found and time.monotonic() < deadline:
        found = False
        for smaller in _smaller(story):
            if time.monotonic() > deadline:
                break
            if fails(smaller):
                story, found = smaller, True
                break
    return story


def _smaller(story: Story) -> Iterator[Story]:
    """Smaller stories, the boldest first."""
    for faults in _parts(story.faults):
        yield story.only(faults=faults)
    for kept in _parts(tuple(range(len(story.inputs)))):
        waits = tuple(story.waits[at] for at in kept if at < len(story.waits))
        yield story.only(inputs=tuple(story.inputs[at] for at in kept), waits=waits)
    for at, one in enumerate(story.inputs):
        if isinstance(one, Events) and len(one.texts) > 1:
            for texts in _parts(one.texts):
                changed = (*story.inputs[:at], one._replace(texts=texts), *story.inputs[at + 1 :])
                if texts:
                    yield story.only(inputs=changed)
    for word in ("workers", "partitions"):
        if getattr(story, word) > 1:
            yield story.only(**{word: getattr(story, word) - 1})
    yield from _plainer(story)
    for at, wait in enumerate(story.waits):
        if wait:
            yield story.only(waits=(*story.waits[:at], 0.0, *story.waits[at + 1 :]))


def _parts(items: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Without one half, then without the other, then without each quarter, down to without each one."""
    size = len(items)
    while size > 1:
        size = (size + 1) // 2
        for start in range(0, len(items), size):
            yield items[:start] + items[start + size :]
    if len(items) == 1:
        yield ()


def _plainer(story: Story) -> Iterator[Story]:
    """With less in its catalogue."""
    for charge in ("d", "n", "f"):
        yield from _without(story, partial(_take, ("charges", charge)))
    for word in ("thresholds", "budget", "minimum"):
        yield from _without(story, partial(_take, (word,)))
    for word in ("discount", "free_units", "maximum", "group_by"):
        yield from _without(story, partial(_take, ("charges", "c", word)))
    for word in ("coupons", "credit_grants", "taxes"):
        catalogue = json.loads(json.dumps(story.catalogue))
        take = partial(_take, ("customers", "acme", word))
        if take(catalogue) is not None:
            yield _with(story, catalogue, take)


def _take(path: tuple[str, ...], document: dict[str, Any]) -> Any:
    """Takes out what stands at the end of a path; None where nothing does."""
    *way, last = path
    for name in way:
        document = document.get(name) or {}
    return document.pop(last, None)


def _without(story: Story, take: Callable[[dict[str, Any]], Any]) -> Iterator[Story]:
    catalogue = json.loads(json.dumps(story.catalogue))
    if take(catalogue["price_books"]["book"]) is not None:

        def take_all(other: dict[str, Any]) -> None:
            book = other["price_books"]["book"]
            for body in book.get("versions", [book]):
                take(body)

        yield _with(story, catalogue, take_all)


def _with(story: Story, catalogue: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> Story:
    """The story with another catalogue; its changes lose the same."""
    inputs: list[Input] = []
    for one in story.inputs:
        if isinstance(one, Change):
            other = json.loads(one.catalogue)
            change(other)
            inputs.append(Change(json.dumps(other)))
        else:
            inputs.append(one)
    return story.only(catalogue=catalogue, inputs=tuple(inputs))
