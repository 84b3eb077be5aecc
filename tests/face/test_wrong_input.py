"""Wrong input of every kind that people send: each is refused by name, with its exact answer, and harms nothing else."""

# ruff: noqa: E501 - tables read better with a row on a line

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rating.catalogue import load_catalogue
from schemas.catalogue import CatalogueError
from tests.face.running import BOOK, Server, event, in_process

# Catalogue -----------------------------------------------------------------------------------------------------------

RIGHT: dict[str, Any] = {
    "meters": {
        "tokens": {"event": "use", "aggregate": "sum", "value": "$.n", "dimensions": {"model": "$.model", "kind": "$.kind"}},
        "calls": {"event": "use", "aggregate": "count"},
    },
    "price_books": {
        "book": {
            "currency": "USD",
            "minimum": "50",
            "thresholds": [{"spend": "100"}],
            "charges": {
                "platform": {"price": {"model": "flat", "amount": "20"}},
                "tokens": {"meter": "tokens", "group_by": ["model"], "price": {"model": "unit", "unit_amount": "1"}},
                "calls": {"meter": "calls", "price": {"model": "graduated", "tiers": [
                    {"up_to": "10", "unit_amount": "1"}, {"up_to": "20", "unit_amount": "2"}, {"unit_amount": "3"}]}},
                "cells": {"meter": "tokens", "price": {"model": "matrix", "by": ["model"], "cells": [
                    {"match": {"model": "large"}, "price": {"model": "unit", "unit_amount": "1"}}]}},
                "packs": {"meter": "calls", "price": {"model": "package", "package_size": "10", "package_amount": "1"}},
            },
        }
    },
    "customers": {"acme": {"subjects": ["a", "b"], "timezone": "Europe/Zurich"}, "beta": {"subjects": ["c"]}},
    "subscriptions": {"one": {"customer": "acme", "price_book": "book", "start": "2026-11-01T00:00:00Z", "anchor": "@1"}},
    "default_subscription": {"price_book": "book"},
}  # fmt: skip
CHARGES = "price_books.book.charges"
TIERS = f"{CHARGES}.calls.price.tiers"
ONE = "subscriptions.one"

FAULTS: dict[str, tuple[str, Any, str, str]] = {
    # name: (what is changed, to what, path of the fault, part of the message); `...` takes it out
    "unknown kind of document": ("meterz", {}, "meterz", "unknown key: found 'meterz' (did you mean 'meters'?)"),
    "unknown key": ("meters.tokens.agregate", "sum", "meters.tokens.agregate", "(did you mean 'aggregate'?)"),
    "unknown key of a charge": (f"{CHARGES}.tokens.free_unit", "1", f"{CHARGES}.tokens.free_unit", "did you mean 'free_units'"),
    "unknown key of a price": (f"{CHARGES}.tokens.price.amount", "1", f"{CHARGES}.tokens.price.amount", "'unit_amount'"),
    "missing event": ("meters.tokens.event", ..., "meters.tokens.event", "missing"),
    "missing currency": ("price_books.book.currency", ..., "price_books.book.currency", "missing"),
    "missing price": (f"{CHARGES}.tokens.price", ..., f"{CHARGES}.tokens.price", "missing"),
    "missing unit amount": (f"{CHARGES}.tokens.price.unit_amount", ..., f"{CHARGES}.tokens.price.unit_amount", "missing"),
    "missing model": (f"{CHARGES}.tokens.price.model", ..., f"{CHARGES}.tokens.price.model", "missing: expected one of"),
    "missing start": (f"{ONE}.start", ..., f"{ONE}.start", "missing"),
    "a text for a mapping": ("meters", "tokens", "meters", "found 'tokens', expected a mapping"),
    "a mapping for a list": (f"{CHARGES}.tokens.group_by", {}, f"{CHARGES}.tokens.group_by", "expected a list"),
    "a number for a text": ("meters.tokens.event", "@7", "meters.tokens.event", "found 7, expected a text"),
    "a text for a flag": (f"{CHARGES}.tokens.bill_zero_usage", "yes", f"{CHARGES}.tokens.bill_zero_usage", "true or false"),
    "a price that is no number": (f"{CHARGES}.tokens.price.unit_amount", "cheap", f"{CHARGES}.tokens.price.unit_amount",
                                  "found 'cheap', expected a decimal number such as 12.5"),
    "not a number": (f"{CHARGES}.tokens.price.unit_amount", "@.nan", f"{CHARGES}.tokens.price.unit_amount", "decimal number"),
    "infinity": (f"{CHARGES}.tokens.price.unit_amount", "@.inf", f"{CHARGES}.tokens.price.unit_amount", "decimal number"),
    "13 digits after the point": (f"{CHARGES}.tokens.price.unit_amount", "0.0000000000001",
                                  f"{CHARGES}.tokens.price.unit_amount", "at most 12 digits after the point"),
    "27 digits before the point": (f"{CHARGES}.tokens.free_units", "1" + "0" * 26, f"{CHARGES}.tokens.free_units",
                                   "at most 26 digits before the point"),
    "a comma in a number": (f"{CHARGES}.tokens.free_units", "1,000", f"{CHARGES}.tokens.free_units", "found '1,000'"),
    "unknown meter": (f"{CHARGES}.tokens.meter", "tokns", f"{CHARGES}.tokens.meter",
                      "no such meter: found 'tokns' (did you mean 'tokens'?)"),
    "unknown dimension": (f"{CHARGES}.tokens.group_by", ["modle"], f"{CHARGES}.tokens.group_by[0]",
                          "no dimension of meter tokens: found 'modle' (did you mean 'model'?)"),
    "unknown dimension of a matrix": (f"{CHARGES}.cells.price.by", ["model", "size"], f"{CHARGES}.cells.price.by[1]",
                                      "no dimension of meter tokens: found 'size'"),
    "match outside by": (f"{CHARGES}.cells.price.cells.0.match", {"kind": "x"}, f"{CHARGES}.cells.price.cells[0].match.kind",
                         "not in `by`: found 'kind'"),
    "match of nothing": (f"{CHARGES}.cells.price.cells.0.match", {}, f"{CHARGES}.cells.price.cells[0].match",
                         "found nothing to match"),
    "match of null": (f"{CHARGES}.cells.price.cells.0.match", {"model": None}, f"{CHARGES}.cells.price.cells[0].match.model",
                      "expected a value or a list of values"),
    "a flat price in a cell": (f"{CHARGES}.cells.price.cells.0.price", {"model": "flat", "amount": "1"},
                               f"{CHARGES}.cells.price.cells[0].price.model", "expected a model of usage inside another price"),
    "no dimensions of a matrix": (f"{CHARGES}.cells.price.by", [], f"{CHARGES}.cells.price.by", "found no dimension"),
    "unknown model": (f"{CHARGES}.tokens.price.model", "tired", f"{CHARGES}.tokens.price.model", "found 'tired'"),
    "unknown aggregation": ("meters.tokens.aggregate", "summ", "meters.tokens.aggregate", "(did you mean 'sum'?)"),
    "unknown price book": (f"{ONE}.price_book", "bok", f"{ONE}.price_book", "no such price book: found 'bok'"),
    "unknown default price book": ("default_subscription.price_book", "x", "default_subscription.price_book", "no such price"),
    "unknown currency": ("price_books.book.currency", "USX", "price_books.book.currency", "found 'USX', expected an ISO 4217"),
    "currency in small letters": ("price_books.book.currency", "usd", "price_books.book.currency", "found 'usd'"),
    "unknown time zone": ("customers.acme.timezone", "Europe/Zurch", "customers.acme.timezone", "expected an IANA time zone"),
    "unknown zone of terms": (f"{ONE}.timezone", "Mars", f"{ONE}.timezone", "found 'Mars', expected an IANA time zone"),
    "unknown rounding": ("price_books.book.rounding", "up", "price_books.book.rounding", "expected one of half_even, half_up"),
    "unknown period": (f"{ONE}.period", "monthly", f"{ONE}.period", "(did you mean 'month'?)"),
    "tiers that do not rise": (f"{TIERS}.1.up_to", "10", f"{TIERS}[1].up_to", "found 10, expected more than 10: tiers must rise"),
    "a tier at nought": (f"{TIERS}.0.up_to", "0", f"{TIERS}[0].up_to", "expected more than 0: tiers must rise"),
    "a last tier with an end": (f"{TIERS}.2.up_to", "30", f"{TIERS}[2].up_to", "the last tier is open above"),
    "a gap": (f"{TIERS}.0.from", "1", f"{TIERS}[0].from", "unknown key: found 'from'"),
    "an open tier in the middle": (f"{TIERS}.0.up_to", ..., f"{TIERS}[0].up_to", "missing: only the last tier is open above"),
    "no tiers": (TIERS, [], TIERS, "found no tiers, expected at least one"),
    "a price below nought in a tier": (f"{TIERS}.0.unit_amount", "-1", f"{TIERS}[0].unit_amount", "expected nought or more"),
    "a minimum below nought": ("price_books.book.minimum", "-1", "price_books.book.minimum", "expected nought or more"),
    "free units below nought": (f"{CHARGES}.tokens.free_units", "-1", f"{CHARGES}.tokens.free_units", "nought or more"),
    "a package of nought": (f"{CHARGES}.packs.price.package_size", "0", f"{CHARGES}.packs.price.package_size", "more than nought"),
    "a least above the greatest": (f"{CHARGES}.tokens", {"minimum": "5", "maximum": "4", **RIGHT["price_books"]["book"][
        "charges"]["tokens"]}, f"{CHARGES}.tokens.minimum", "found 5, expected at most the maximum 4"),
    "a subject of two customers": ("customers.beta.subjects", ["b"], "customers.beta.subjects[0]", "which acme owns already"),
    "a subject twice": ("customers.beta.subjects", ["c", "c"], "customers.beta.subjects[1]", "which beta owns already"),
    "an empty subject": ("customers.beta.subjects", [""], "customers.beta.subjects[0]", "at least 1 characters"),
    "anchor 32": (f"{ONE}.anchor", "@32", f"{ONE}.anchor", "found 32, expected a whole number from 1 to 31"),
    "anchor of a day": (f"{ONE}.period", "day", f"{ONE}.anchor", "expected no anchor for days"),
    "anchor 8 of a week": (ONE, {**RIGHT["subscriptions"]["one"], "period": "week", "anchor": "@8"}, f"{ONE}.anchor", "1 (Monday) to 7"),
    "anchor that is no day": (ONE, {**RIGHT["subscriptions"]["one"], "period": "year", "anchor": "02-30"}, f"{ONE}.anchor",
                              "no day of the year"),
    "end before start": (f"{ONE}.end", "2026-10-01T00:00:00Z", f"{ONE}.end", "expected a time after start"),
    "start without a zone": (f"{ONE}.start", "2026-11-01T00:00:00", f"{ONE}.start", "expected an RFC 3339 time with an offset"),
    "start that is no day": (f"{ONE}.start", "2026-02-30T00:00:00Z", f"{ONE}.start", "day is out of range"),
    "flat with a meter": (f"{CHARGES}.platform.meter", "tokens", f"{CHARGES}.platform.meter", "reads no usage"),
    "flat with free units": (f"{CHARGES}.platform.free_units", "1", f"{CHARGES}.platform.free_units", "reads no usage"),
    "usage without a meter": (f"{CHARGES}.tokens.meter", ..., f"{CHARGES}.tokens.meter", "missing: unit prices usage"),
    "usage in advance": (f"{CHARGES}.tokens.when", "in_advance", f"{CHARGES}.tokens.when", "usage is known only afterwards"),
    "usage prorated": (f"{CHARGES}.tokens.prorate", True, f"{CHARGES}.tokens.prorate", "only a flat charge is prorated"),
    "a charge called minimum": (f"{CHARGES}.minimum", {"price": {"model": "flat", "amount": "1"}}, f"{CHARGES}.minimum",
                                "kept for a line of the invoice"),
    "count with a value": ("meters.calls.value", "$.n", "meters.calls.value", "found '$.n', expected none: count reads no value"),
    "sum without a value": ("meters.tokens.value", ..., "meters.tokens.value", "missing: sum reads a value"),
    "a path without $": ("meters.tokens.value", "n", "meters.tokens.value", "found the word 'n' at character 1"),
    "a broken path": ("meters.tokens.value", "$.a[", "meters.tokens.value", "found '[' at character 4 of '$.a['"),
    "a broken dimension": ("meters.tokens.dimensions.model", "$..m", "meters.tokens.dimensions.model", "expected .name or [0]"),
    "a where of an unknown word": ("meters.tokens.where", {"$.s": {"equals": 1}}, "meters.tokens.where.$.s.equals", "unknown key"),
    "a where of nothing": ("meters.tokens.where", {"$.s": {}}, "meters.tokens.where.$.s", "found an empty condition"),
    "a where of null": ("meters.tokens.where", {"$.s": None}, "meters.tokens.where.$.s", "exists: false"),
    "a where with a bound that is no number": ("meters.tokens.where", {"$.s": {"gt": "x"}}, "meters.tokens.where.$.s.gt", "found 'x'"),
    "an id with a space": ("meters.my tokens", RIGHT["meters"]["calls"], "meters.my tokens", "a text that matches"),
    "an id that is too long": ("meters." + "x" * 129, RIGHT["meters"]["calls"], "meters." + "x" * 129, "a text that matches"),
    "a threshold of nought": ("price_books.book.thresholds", [{"spend": "0"}], "price_books.book.thresholds[0].spend", "more than nought"),
    "a threshold twice": ("price_books.book.thresholds", [{"spend": "5"}, {"spend": "5.0"}],
                          "price_books.book.thresholds[1].spend", "found 5 twice"),
    "an override of an unknown charge": (f"{ONE}.overrides", {"charges": {"tokns": {}}}, f"{ONE}.overrides.charges.tokns",
                                         "no such charge of book: found 'tokns' (did you mean 'tokens'?)"),
    "an override of an unknown key": (f"{ONE}.overrides", {"charges": {"tokens": {"pric": {}}}},
                                      f"{ONE}.overrides.charges.tokens.pric", "(did you mean 'price'?)"),
    "an override with a bad price": (f"{ONE}.overrides", {"charges": {"tokens": {"price": {"model": "unit"}}}},
                                     f"{ONE}.overrides.charges.tokens.price.unit_amount", "missing"),
    "the id default": ("subscriptions.default", RIGHT["subscriptions"]["one"], "subscriptions.default", "is kept for customers"),
}  # fmt: skip


def changed(*changes: tuple[str, Any]) -> str:
    """The right catalogue with changes, as YAML. A text that begins with @ stands without quotes."""
    book = json.loads(json.dumps(RIGHT))
    for path, value in changes:
        *way, last = path.split(".")
        at = book
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
        if value is ...:
            del at[last]
        else:
            at[int(last) if isinstance(at, list) else last] = value
    return yaml.dump(book, Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Texts in quotes, so that a number is one only where it is meant."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    if text.startswith("@"):
        value = text[1:]
        return dumper.represent_scalar("tag:yaml.org,2002:float" if value[0] == "." else "tag:yaml.org,2002:int", value)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')


_Dumper.add_representer(str, _text)


def faults_of(text: str) -> dict[str, str]:
    with pytest.raises(CatalogueError) as refused:
        load_catalogue(text)
    return {fault.path: fault.message for fault in refused.value.faults}


def test_the_catalogue_that_is_changed_below_is_right() -> None:
    assert len(load_catalogue(changed()).plans) == 1


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_catalogue_is_named_with_its_path(name: str) -> None:
    change, value, path, message = FAULTS[name]
    found = faults_of(changed((change, value)))
    assert path in found, found
    assert message in found[path]


INDEPENDENT = ["unknown key", "unknown dimension", "match outside by", "unknown time zone", "tiers that do not rise"]
INDEPENDENT += [
    "a package of nought",
    "end before start",
    "flat with a meter",
    "count with a value",
    "a threshold twice",
]
INDEPENDENT += ["an override of an unknown charge", "a subject of two customers", "the id default", "unknown currency"]


def test_all_faults_of_a_catalogue_are_said_at_once() -> None:
    """Those in the form of documents, and those in what documents say of each other."""
    found = faults_of(changed(*(FAULTS[name][:2] for name in INDEPENDENT if name != "unknown key")))
    for name in INDEPENDENT:
        if name != "unknown key":
            assert FAULTS[name][3] in found[FAULTS[name][2]]
    shapes = [
        "unknown kind of document",
        "missing event",
        "a text for a flag",
        "a comma in a number",
        "anchor 32",
        "unknown period",
    ]
    found = faults_of(changed(*(FAULTS[name][:2] for name in shapes)))
    assert {FAULTS[name][2] for name in shapes} == set(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("meters: {a: {}, a: {}}", "line 1, column 17: not YAML: the key 'a' stands twice"),
        ("meters: [", "not YAML"),
        ("\tmeters: {}", "not YAML"),
        ("meters: *missing", "not YAML"),
        ("[" * 5000, "not YAML"),
        ("meters: {? [a] : {}}", "not YAML"),
        ("- a\n- b", "(document): found a list, expected a mapping"),
        ("just words", "(document): found 'just words', expected a mapping"),
    ],
)
def test_what_is_no_catalogue_at_all_is_one_fault(text: str, message: str) -> None:
    with pytest.raises(CatalogueError) as refused:
        load_catalogue(text)
    assert len(refused.value.faults) == 1
    assert message in str(refused.value)


# Command line -------------------------------------------------------------------------------------------------------

PLACES = {"BOOK": "book.yaml", "WRONG": "wrong.yaml", "EVENTS": "events.ndjson", "GZ": "broken.gz", "OUT": "out"}
RATE = ["rate-file", "--catalogue", "BOOK", "--events", "EVENTS", "--out", "OUT"]
COMMANDS: dict[str, tuple[list[str], int, str]] = {
    "no such command": (["rat-file"], 2, "No such command 'rat-file'"),
    "no such option": ([*RATE, "--asof", "x"], 2, "No such option: --asof"),
    "no catalogue": (["rate-file", "--events", "EVENTS", "--out", "OUT"], 2, "Missing option '--catalogue'"),
    "no events": (["rate-file", "--catalogue", "BOOK", "--out", "OUT"], 2, "Missing option '--events'"),
    "no folder": (["rate-file", "--catalogue", "BOOK", "--events", "EVENTS"], 2, "Missing option '--out'"),
    "a catalogue that is not there": ([*RATE, "--catalogue", "nowhere.yaml"], 2, "'nowhere.yaml' does not exist"),
    "events that are not there": ([*RATE, "--events", "nowhere.ndjson"], 2, "'nowhere.ndjson' does not exist"),
    "a folder for events": ([*RATE, "--events", "."], 2, "is a directory"),
    "a file for the folder": ([*RATE, "--out", "EVENTS"], 2, "is a file"),
    "as-of that is no time": ([*RATE, "--as-of", "tomorrow"], 2, "found 'tomorrow', expected an RFC 3339 time"),
    "as-of without a zone": ([*RATE, "--as-of", "2026-12-01T00:00:00"], 2, "expected an RFC 3339 time with an offset"),
    "as-of in the year 9999": ([*RATE, "--as-of", "9999-12-01T00:00:00Z"], 2, "expected 1970 to 9998"),
    "a refused catalogue": ([*RATE, "--catalogue", "WRONG"], 2, "meters.a.event: missing"),
    "a refused catalogue to check": (["check", "WRONG"], 2, "meters.a.aggregate: missing"),
    "nothing to check": (["check"], 2, "Missing argument 'CATALOGUE'"),
    "half a gzip file": ([*RATE, "--events", "GZ"], 1, "not a whole gzip file"),
    "a port that is none": (["serve", "--port", "99999"], 2, "99999 is not in the range 0<=x<=65535"),
    "a port in words": (["serve", "--port", "http"], 2, "'http' is not a valid integer"),
    "snapshots at once": (["serve", "--snapshot-every", "0"], 2, "found '0', expected 1s or more"),
    "a session of no time": (["rate", "--bootstrap", "x:1", "--snapshots", "s", "--session-timeout", "0s"], 2, "found '0s', expected 1s or more"),
    "a duration without a unit": (["serve", "--lateness", "90"], 2, "expected a number and a unit: 90s, 15m, 1h or 35d"),
    "a duration below nought": (["serve", "--tick=-5s"], 2, "expected a number and a unit"),
    "a file for the data": (["serve", "--data", "EVENTS"], 2, "is a file"),
    "a refused catalogue to serve": (["serve", "--data", "OUT", "--port", "0", "--catalogue", "WRONG"], 2, "meters.a.event"),
    "no partitions": (["serve", "--data", "OUT", "--port", "0", "--partitions", "0"], 2, "partitions"),
    "a log level that is none": (["--log-level", "loud", "check", "BOOK"], 2, "'loud' is not one of"),
    "settings that are no TOML": (["--settings", "EVENTS", "check", "BOOK"], 2, "--settings"),
    "no broker named": (["ingest"], 2, "Missing option '--bootstrap'"),
    "no snapshots": (["rate", "--bootstrap", "localhost:1"], 2, "Missing option '--snapshots'"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "book.yaml").write_text(BOOK)
    (tmp_path / "wrong.yaml").write_text("meters: {a: {}}")
    (tmp_path / "events.ndjson").write_text(event("a") + "\n")
    (tmp_path / "broken.gz").write_bytes(gzip.compress(event("a").encode() * 99)[:-20])
    monkeypatch.chdir(tmp_path)
    for name in ("KAFKA_BOOTSTRAP", "TAXIMETER_INGEST_BOOTSTRAP"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_command_line_ends_with_its_status_and_says_what_is_wrong(name: str, folder: Path) -> None:
    words, status, message = COMMANDS[name]
    done = in_process(*(PLACES.get(word, word) for word in words))
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "out").exists()


# Door ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("wrong") / "data", "--max-ahead", "36500d") as running:
        yield running


JSON, LINES = "application/json", "application/x-ndjson"
GOOD = event("good")
EVENTS: dict[str, tuple[str, str, str | None, str]] = {
    # name: (the event, code, path, part of the message)
    "no id": (event("x", id=...), "invalid_event", "id", "found nothing"),
    "an empty source": (event("x", source=""), "invalid_event", "source", "expected"),
    "a number for a type": (event("x", type=5), "invalid_event", "type", "expected"),
    "no subject": (event("x", subject=...), "invalid_event", "subject", "found"),
    "an id that is too long": (event("x" * 513), "too_large", "id", "512"),
    "another version": (event("x", specversion="0.3"), "invalid_event", "specversion", "1.0"),
    "a time that is none": (event("x", "now"), "invalid_time", "time", "expected an RFC 3339 time"),
    "a time without a zone": (event("x", "2026-11-05T00:00:00"), "invalid_time", "time", "offset"),
    "a year before 1970": (event("x", "1969-12-31T23:59:59Z"), "invalid_time", "time", "1970"),
    "a time far ahead": (event("x", "9000-01-01T00:00:00Z"), "time_out_of_bounds", "time", "found"),
    "a list for data": (event("x", data="[1]"), "invalid_data", "data", "found"),
    "a key twice in data": (event("x", data='{"tokens": 1, "tokens": 2}'), "invalid_data", "data.tokens", "twice"),
    "no JSON": ('{"id": ', "invalid_json", None, "found"),
    "NaN": (event("x", data='{"tokens": NaN}'), "invalid_json", None, "found"),
}


@pytest.mark.parametrize("name", EVENTS)
def test_a_wrong_event_is_refused_alone_by_the_door(name: str, server: Server) -> None:
    text, code, path, message = EVENTS[name]
    answer = server.post(f"{event('good ' + name)}\n{text}\n", LINES)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["accepted"], body["rejected"]) == (1, 1)
    [verdict] = body["events"]
    assert (verdict["verdict"], verdict["code"], verdict.get("path"), verdict["line"]) == ("rejected", code, path, 2)
    assert message in verdict["message"]
    assert server.post(text, LINES).status_code == 400


BODIES: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "nothing": (b"", {"content-type": JSON}, 400, "invalid_json"),
    "half an array": (f"[{GOOD}, ".encode(), {"content-type": JSON}, 400, "invalid_json"),
    "a number": (b"5", {"content-type": JSON}, 400, "invalid_json"),
    "XML": (b"<event/>", {"content-type": "text/xml"}, 415, "unsupported_media_type"),
    "another charset": (GOOD.encode(), {"content-type": f"{JSON}; charset=utf-16"}, 415, "unsupported_media_type"),
    "no gzip": (GOOD.encode(), {"content-type": JSON, "content-encoding": "gzip"}, 400, "invalid_encoding"),
    "half a gzip": (
        gzip.compress(GOOD.encode())[:-9],
        {"content-type": JSON, "content-encoding": "gzip"},
        400,
        "invalid_encoding",
    ),
    "Brotli": (GOOD.encode(), {"content-type": JSON, "content-encoding": "br"}, 415, "unsupported_media_type"),
    "a gzip bomb": (
        gzip.compress(b" " * 40_000_000),
        {"content-type": JSON, "content-encoding": "gzip"},
        413,
        "too_large",
    ),
    "too many events": (b"{}\n" * 100_001, {"content-type": LINES}, 413, "too_large"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_cannot_be_read_is_refused_whole(name: str, server: Server) -> None:
    body, headers, status, code = BODIES[name]
    answer = server.client.post("/v1/events", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith("found ")


QUESTIONS: dict[str, tuple[str, str, int, str, str]] = {
    "another method": ("PUT", "/v1/events", 405, "method_not_allowed", "POST"),
    "no such path": ("GET", "/v1/evnts", 404, "not_found", "no such resource: /v1/evnts"),
    "an unknown parameter": ("GET", "/v1/invoices?custmer=a", 400, "unknown_parameter", "did you mean 'customer'"),
    "a limit of nought": ("GET", "/v1/invoices?limit=0", 400, "invalid_parameter", "limit"),
    "a cursor that is none": ("GET", "/v1/invoices?cursor=x", 400, "invalid_parameter", "next_cursor"),
    "a position that is none": ("GET", "/v1/invoices?position=soon", 400, "invalid_parameter", "such as 0:1234"),
    "a position of another partition": ("GET", "/v1/invoices?position=7:1", 400, "invalid_parameter", "partition"),
    "a position that is never reached": ("GET", "/v1/invoices?position=0:999999&wait_ms=1", 504, "position_not_reached", "asked for"),
    "usage of no meter": ("GET", "/v1/customers/a/usage", 400, "invalid_parameter", "meter: missing"),
    "usage of an unknown meter": ("GET", "/v1/customers/a/usage?meter=tokns", 404, "unknown_meter", "did you mean 'tokens'"),
    "a window that is none": ("GET", "/v1/customers/a/usage?meter=tokens&window=fortnight", 400, "invalid_parameter", "window"),
    "a zone that is none": ("GET", "/v1/customers/a/usage?meter=tokens&timezone=Mars", 400, "invalid_parameter", "IANA"),
    "from after to": ("GET", "/v1/customers/a/usage?meter=tokens&from=2027-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", 400,
                      "invalid_parameter", "from"),
    "an unknown code": ("GET", "/v1/rejections?code=bad", 400, "invalid_parameter", "code"),
    "an unknown invoice": ("GET", "/v1/invoices/inv_0", 404, "unknown_invoice", "inv_0"),
    "a period that is none": ("GET", "/v1/customers/a/spend?period=last", 400, "invalid_parameter", "period"),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_wrong_question_is_told_what_is_wrong(name: str, server: Server) -> None:
    method, path, status, code, message = QUESTIONS[name]
    answer = server.client.request(method, path)
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert message in answer.json()["detail"]


@pytest.mark.parametrize(
    "body", ["", "now", "[]", '{"time": 5}', '{"time": "soon"}', '{"tim": "2026-11-05T00:00:00Z"}']
)
def test_a_wrong_tick_is_refused(body: str, server: Server) -> None:
    answer = server.client.post("/v1/ticks", content=body)
    assert answer.status_code == 400
    assert answer.json()["code"] in ("invalid_json", "invalid_time")


def test_after_all_that_the_server_is_well_and_has_counted_what_was_right(server: Server) -> None:
    position = server.send([event("last")])
    spend = server.get("/v1/customers/acme/spend", position)
    calls = next(c for c in spend["currencies"][0]["by_charge"] if c["charge"] == "calls")
    assert calls["events"] >= 1
    assert server.client.get("/health/ready").status_code == 200
    assert "Traceback" not in server.complaints()
