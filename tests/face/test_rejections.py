"""Rejections are listed, explained, mended and sent again: over HTTP and by the command, against a running server."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.rejection import CODES
from tests.face.running import Server, event, in_process, taximeter

BOOK = """
meters:
  tokens: {event: llm.request, aggregate: sum, value: $.tokens}
  words: {event: llm.request, aggregate: sum, value: $.words}
  calls: {event: llm.request, aggregate: count}
price_books:
  launch:
    currency: USD
    charges:
      tokens: {meter: tokens, price: {model: unit, unit_amount: "1"}}
      words: {meter: words, price: {model: unit, unit_amount: "100"}}
      calls: {meter: calls, price: {model: unit, unit_amount: "10000"}}
default_subscription: {price_book: launch, period: month}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data", catalogue=BOOK) as server:
        yield server


def used(id: str, subject: str = "acme", **data: Any) -> str:
    return event(id, subject=subject, data=json.dumps(data))


def listed(server: Server, position: str = "", **where: Any) -> list[Any]:
    return server.get("/v1/rejections", position, **where)["rejections"]


def soon(server: Server) -> Any:
    """The newest rejection, when there is one: those of the door have no position to wait for."""
    deadline = time.monotonic() + 30
    while not (found := listed(server)):
        assert time.monotonic() < deadline, "no rejection is listed"
        time.sleep(0.05)
    return found[0]


def resend(server: Server, path: str, status: int = 200, **body: Any) -> Any:
    answer = server.client.post(f"/v1/rejections/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def amounts(server: Server, position: str, customer: str = "acme") -> dict[str, str]:
    items = server.get("/v1/line-items", position, customer=customer)["line_items"]
    return {item["charge"]: item["amount"] for item in items}


def test_one_that_never_went_in_is_mended_under_its_id(server: Server) -> None:
    server.post(event("e1", subject="acme", source=..., data='{"tokens": 5, "words": 1}'))
    one = soon(server)
    assert one["id"].startswith("rej_") and "mended" not in one
    shown = server.get(f"/v1/rejections/{one['id']}")
    assert shown["rejection"] == one and "source" not in shown["rejection"]["event"]
    assert "missing" in shown["meaning"] and "keep its id" in shown["what_to_do"]
    assert resend(server, f"{one['id']}/resend", 422)["code"] == "mend_required"
    answer = resend(server, f"{one['id']}/resend", merge={"source": "gate"})
    [result] = answer["results"]
    assert result == {"rejection": one["id"], "verdict": "accepted", "event": {"source": "gate", "id": "e1"}}
    [after] = listed(server, answer["position"])
    assert after["mended"].items() >= {"source": "gate", "id": "e1"}.items()
    assert amounts(server, answer["position"]) == {"tokens": "5", "words": "100", "calls": "10000"}
    assert resend(server, f"{one['id']}/resend", 409)["code"] == "already_mended"


def test_one_that_two_meters_rejected_is_made_good_once(server: Server) -> None:
    position = server.post(used("e1")).json()["position"]
    both = listed(server, position, code="missing_value")
    assert {one["meter"] for one in both} == {"tokens", "words"}
    assert amounts(server, position) == {"calls": "10000"}, "counted by one meter"
    shown = resend(server, "resend", code="missing_value", merge={"data": {"tokens": 2, "words": 3}})
    assert shown["dry_run"] and sorted(one["verdict"] for one in shown["results"]) == ["shown", "with"]
    assert not listed(server, mended="true"), "nothing was sent"
    merge = {"data": {"tokens": 2, "words": 3}}
    answer = resend(server, "resend", code="missing_value", merge=merge, dry_run=False)
    assert answer["sent"] == 1 and not answer["more"]
    assert amounts(server, answer["position"]) == {"tokens": "2", "words": "300", "calls": "10000"}
    assert [one["mended"]["id"] for one in listed(server)] == ["e1+mend.1"] * 2
    assert not listed(server, mended="false")
    again = resend(server, "resend", ids=[one["id"] for one in both], dry_run=False)
    assert {one["code"] for one in again["results"]} == {"already_mended"} and again["refused"] == 2


def test_what_is_sent_wrong_again_takes_nothing_back(server: Server) -> None:
    position = server.post(used("e1", tokens=1)).json()["position"]
    [one] = listed(server, position)
    late = resend(server, f"{one['id']}/resend", 400, merge={"time": "yesterday"})
    assert late["results"][0]["verdict"] == "rejected" and late["results"][0]["code"] == "invalid_time"
    assert amounts(server, position) == {"tokens": "1", "calls": "10000"}, "the void did not go in alone"
    assert len(listed(server)) == 1, "and nothing new was rejected"
    still = resend(server, f"{one['id']}/resend")
    assert still["sent"] == 1
    [new, old] = listed(server, still["position"])
    assert (new["event"]["id"], new["event"]["mends"], old["mended"]["id"]) == ("e1+mend.1", one["id"], "e1+mend.1")
    done = resend(server, f"{new['id']}/resend", merge={"data": {"words": 2}})
    assert done["results"][0]["event"]["id"] == "e1+mend.2"
    assert amounts(server, done["position"]) == {"tokens": "1", "words": "200", "calls": "10000"}


def test_a_conflict_counts_too_or_takes_the_place(server: Server) -> None:
    for id in ("both", "replaced"):
        server.post(used(id, id, tokens=1, words=1))
        position = server.post(used(id, id, tokens=5, words=1)).json()["position"]
    by_subject = {one["event"]["subject"]: one["id"] for one in listed(server, position, code="conflict")}
    resend(server, f"{by_subject['both']}/resend")
    done = resend(server, f"{by_subject['replaced']}/resend", replace=True)
    assert amounts(server, done["position"], "both")["tokens"] == "6"
    assert amounts(server, done["position"], "replaced")["tokens"] == "5"


def test_nobody_can_make_good_what_is_anothers(server: Server) -> None:
    """An event that names a rejection of another tenant says nothing of it; one that names nonsense says nothing."""
    position = server.post(used("e1", tokens=1)).json()["position"]
    [one] = listed(server, position)
    for nonsense in ("rej_", "rej_0:1:2", "rej_" + "0" * 32, "hello"):
        server.post(event(nonsense, subject="acme", mends=nonsense, data='{"tokens":1,"words":1}'))
    assert "mended" not in listed(server, server.tick("2026-11-06T00:00:00Z"))[-1]
    assert server.client.get(f"/v1/rejections/{one['id']}", params={"tenant": "other"}).status_code in (400, 404)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "expected one of ids, rejections, and code or meter"),
        ({"ids": ["rej_0:1"], "code": "conflict"}, "expected one of ids"),
        ({"code": "conflickt"}, "did you mean 'conflict'"),
        ({"code": "conflict", "event": {"id": "x"}}, "expected it for one rejection"),
        ({"ids": ["rej_0:1"] * 1001}, "expected 1 to 1000"),
        ({"code": "conflict", "limit": 0}, "expected 1 to 1000"),
        ({"rejections": [{"id": "x"}]}, "rejections[0]: "),
        ({"colour": "red"}, "unknown field"),
    ],
)
def test_a_wrong_request_is_refused(server: Server, body: Any, detail: str) -> None:
    answer = resend(server, "resend", 400, **body)
    assert detail in answer["detail"], answer


def test_the_command_does_the_same(server: Server, tmp_path: Path) -> None:
    url = ("--url", server.url)
    position = server.post("\n".join([used("e1", words=1), used("e2", words="two", tokens=1)])).json()["position"]
    by_code = {one["code"]: one["id"] for one in listed(server, position)}
    shown = in_process("rejections", "list", *url)
    assert shown.returncode == 0 and "missing_value" in shown.stdout and "2 rejections that no event" in shown.stdout
    lines = in_process("rejections", "list", *url, "--code", "invalid_value", "--json").stdout.splitlines()
    assert [json.loads(line)["event"]["id"] for line in lines] == ["e2"]
    one = in_process("rejections", "show", by_code["invalid_value"], *url).stdout
    assert "found 'two'" in one and "Its id is used up" in one and "no event stands for it" in one
    dry = in_process("rejections", "mend", by_code["invalid_value"], "--set", "data.words=2", "--dry-run", *url)
    assert dry.returncode == 0 and "e2+void.1" in dry.stdout and '"words":2' in dry.stdout
    words = ("--set", "data.words=2", "--reason", "a word")
    done = in_process("rejections", "mend", by_code["invalid_value"], *words, *url)
    assert done.returncode == 0 and "accepted as e2+mend.1 of gate" in done.stdout, done.stderr
    (tmp_path / "mended.json").write_text(used("e1", words=1, tokens=4))
    file = ("--event", tmp_path / "mended.json")
    assert in_process("rejections", "mend", by_code["missing_value"], *file, *url).returncode == 0
    again = in_process("rejections", "resend", *by_code.values(), *url)
    assert again.returncode == 3 and again.stdout.count("already_mended") == 2
    assert "0 rejections" in in_process("rejections", "list", *url).stdout
    assert "made good by e2+mend.1" in in_process("rejections", "show", by_code["invalid_value"], *url).stdout
    position = server.tick("2026-11-06T00:00:00Z")
    assert amounts(server, position) == {"tokens": "5", "words": "300", "calls": "20000"}
    assert server.stop()[0] == 0
    stopped = in_process("rejections", "list", "--data", server.data, "--all")
    assert stopped.returncode == 0 and "2 rejections" in stopped.stdout and by_code["missing_value"] in stopped.stdout


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["list"], 2, "give --url"),
        (["list", "--data", "nowhere"], 2, "found no spend.duckdb"),
        (["list", "--url", "http://127.0.0.1:1"], 1, "taximeter rejections: "),
        (["resend", "--url", "http://127.0.0.1:1"], 2, "either the ids, or --code"),
        (["mend", "rej_0:1", "--url", "http://127.0.0.1:1"], 2, "give --set or --event"),
        (["mend", "rej_0:1", "--set", "tokens"], 2, "give --url"),
        (["explain", "broken"], 2, "is not one of"),
    ],
)
def test_wrong_words_are_refused(words: list[str], status: int, said: str, tmp_path: Path) -> None:
    done = taximeter("rejections", *words, cwd=tmp_path)
    assert done.returncode == status and said in done.stderr, done.stderr


def test_every_code_is_explained_by_the_command() -> None:
    text = in_process("rejections", "explain").stdout
    assert all(f"\n{code}\n" in f"\n{text}" for code in CODES)
