"""`taximeter serve` as a user runs it: a process on a folder, asked over HTTP, killed, stopped and started again."""

import gzip
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.face.running import BOOK, Server, event, taximeter


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that tests share; each uses customers of its own."""
    with Server(tmp_path_factory.mktemp("serve") / "data") as running:
        yield running


def many(count: int, customers: int = 7) -> list[str]:
    """Usage of several customers in two periods, some of it without its value, with a level crossed."""
    found = []
    for i in range(count):
        data = f'{{"tokens": {i % 97}.25, "model": "m{i % 5}"}}' if i % 50 else '{"model": "none"}'
        month = 11 if i % 3 else 12
        found.append(
            event(f"e{i}", f"2026-{month}-{1 + i % 28:02d}T00:00:{i % 60:02d}Z", data, subject=f"c{i % customers}")
        )
    found.append(event("big", "2026-11-20T00:00:00Z", '{"tokens": 100000, "model": "m1"}', subject="c1"))
    return found


def everything(server: Server, position: str = "") -> dict[str, list[Any]]:
    return {name: server.listing(name, position) for name in ("line-items", "invoices")}


def settled(server: Server, position: str) -> dict[str, list[Any]]:
    """All line items and invoices once both periods are closed."""
    server.get("/v1/invoices", position)
    return everything(server, server.tick("2027-02-01T00:00:00Z"))


def without_places(outputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Outputs without the position of the log, which differs where something was sent again."""
    return {name: [{**one, "through": None} for one in found] for name, found in outputs.items()}


# Answers -------------------------------------------------------------------------------------------------------------


def test_the_ready_line_names_the_url_and_the_folder(server: Server) -> None:
    assert server.ready_line.strip() == f"taximeter: ready at {server.url} (data in {server.data})"
    ready = server.client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert server.client.get("/health/live").status_code == 200


def test_one_event_in_each_form_counts_the_same(server: Server) -> None:
    def named(id: str) -> str:
        return event(id, subject="forms")

    answers = [
        server.post(named("structured"), "application/cloudevents+json"),
        server.post(f"[{named('batch-1')}, {named('batch-2')}]", "application/cloudevents-batch+json"),
        server.post(
            '{"tokens": 1, "model": "large"}', "application/json", ce_specversion="1.0", ce_id="binary",
            ce_source="gate", ce_type="llm.request", ce_subject="forms", ce_time="2026-11-05T00:00:00Z",
        ),
        server.post(f"{named('line-1')}\n\n{named('line-2')}\n", "application/x-ndjson"),
        server.post(gzip.compress(named("gzip-1").encode()), content_encoding="gzip"),
        server.post(gzip.compress(f"[{named('gzip-2')}]".encode()), "application/json", content_encoding="gzip"),
    ]  # fmt: skip
    assert [(a.status_code, a.json()["accepted"]) for a in answers] == [(200, n) for n in (1, 2, 1, 2, 1, 1)]
    answer = server.get("/v1/customers/forms/spend", answers[-1].json()["position"])
    charges = {c["charge"]: (c["amount"], c["events"]) for c in answer["currencies"][0]["by_charge"]}
    assert charges == {"tokens": ("0.08", 8), "calls": ("1", 8)}


def test_spend_with_the_position_of_the_answer_includes_what_was_sent(server: Server) -> None:
    for i in range(1, 21):
        answer = server.post(event(f"own-{i}", subject="own-writes"))
        spend = server.get("/v1/customers/own-writes/spend", answer.json()["position"])
        by_charge = {c["charge"]: c for c in spend["currencies"][0]["by_charge"]}
        assert by_charge["tokens"]["events"] == i
        assert by_charge["tokens"]["amount"] == str(i / 100)


def test_usage_in_windows(server: Server) -> None:
    times = ["2026-11-05T00:00:00Z", "2026-11-05T23:59:59.999999Z", "2026-11-06T00:00:00Z", "2026-11-06T00:00:00Z"]
    lines = [
        event(f"w{i}", at, f'{{"tokens": {i}.5, "model": "m{i % 2}"}}', subject="windows") for i, at in enumerate(times)
    ]
    position = server.send([*lines, lines[0]])
    answer = server.get("/v1/customers/windows/usage", position, meter="tokens", window="day")
    assert [(w["start"], w["value"], w["events"]) for w in answer["windows"]] == [
        ("2026-11-05T00:00:00Z", "2", 2),
        ("2026-11-06T00:00:00Z", "6", 2),
    ]
    shifted = server.get(
        "/v1/customers/windows/usage", position, meter="tokens", window="day", timezone="America/New_York"
    )
    assert [w["value"] for w in shifted["windows"]] == ["0.5", "7.5"]


def test_line_items_say_how_an_amount_came_about(server: Server) -> None:
    position = server.send([event(f"i{i}", subject="items") for i in range(25)])
    items = server.get("/v1/line-items", position, customer="items")["line_items"]
    calls = next(item for item in items if item["charge"] == "calls")
    assert (calls["quantity"], calls["amount"], calls["events"], calls["currency"]) == ("25", "3", 25, "USD")
    assert calls["period"] == {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
    assert [(tier["packages"], tier["amount"]) for tier in calls["tiers"]] == [("3", "3")]
    tokens = next(item for item in items if item["charge"] == "tokens")
    assert (tokens["dimensions"], tokens["amount"]) == ({"model": "large"}, "0.25")


def test_a_level_makes_an_invoice_at_once_that_names_its_event(server: Server) -> None:
    lines = [event("t1", subject="level"), event("t2", data='{"tokens": 50000, "model": "large"}', subject="level")]
    position = server.send([*lines, event("t3", subject="level")])
    [invoice] = server.get("/v1/invoices", position, customer="level")["invoices"]
    assert (invoice["kind"], invoice["total"]) == ("threshold", "501.01")
    assert invoice["because"] == {"threshold": "500", "level": "500", "event": {"source": "gate", "id": "t2"}}
    assert server.get(f"/v1/invoices/{invoice['id']}")["invoice"] == invoice
    [alert] = server.get("/v1/alerts", customer="level")["alerts"]
    assert alert["invoice"] == invoice["id"]


def test_duplicates_and_conflicts_are_told_at_the_door(server: Server) -> None:
    first, other = event("d1", subject="twice"), event("d1", subject="twice", data='{"tokens": 5, "model": "x"}')
    server.send([first])
    answer = server.post("\n".join([first, other, event("d2", subject="twice")])).json()
    assert (answer["accepted"], answer["duplicates"], answer["rejected"]) == (1, 2, 0)
    assert [e.get("conflict", False) for e in answer["events"]] == [False, True]
    spend = server.get("/v1/customers/twice/spend", answer["position"])
    assert spend["currencies"][0]["by_charge"][0]["events"] == 2


def test_rejections_can_be_listed(server: Server) -> None:
    position = server.post(event("r1", subject="rejected", data='{"model": "x"}')).json()["position"]
    found = server.get("/v1/rejections", position, code="missing_value")["rejections"]
    assert ("r1", "tokens", "data.tokens") in [(r["event"]["id"], r["meter"], r["path"]) for r in found]


# Whole runs ----------------------------------------------------------------------------------------------------------


def test_a_tick_closes_periods_and_usage_after_it_is_corrected(tmp_path: Path) -> None:
    with Server(tmp_path / "data", "--lateness", "0") as server:
        server.send([event("a"), event("b", "2026-12-01T00:00:00Z")])
        position = server.tick("2026-12-01T00:00:00Z")
        [invoice] = server.get("/v1/invoices", position)["invoices"]
        assert (invoice["kind"], invoice["customer"], invoice["total"]) == ("period", "acme", "1.01")
        position = server.send([event("late"), event("c", "2026-12-02T00:00:00Z")])
        assert server.get("/v1/rejections", position)["rejections"] == []
        position = server.tick("2027-01-01T00:00:00Z")
        invoices = server.get("/v1/invoices", position)["invoices"]
        assert sorted((i["kind"], i["period"]["start"][:7], i["total"]) for i in invoices) == [
            ("correction", "2026-11", "0.01"), ("period", "2026-11", "1.01"), ("period", "2026-12", "1.02"),
        ]  # fmt: skip


def test_batches_of_one_and_of_ten_thousand_and_a_file_sent_twice_give_the_same_bytes(tmp_path: Path) -> None:
    lines = many(400)
    with Server(tmp_path / "ones") as one, Server(tmp_path / "whole") as whole:
        before = everything(one, one.send(lines, 1))
        assert json.dumps(before) == json.dumps(everything(whole, whole.send(lines)))
        assert json.dumps(before) == json.dumps(everything(whole, whole.send(lines)))
        closed = settled(whole, whole.send(lines, 100))
        assert [i["id"] for i in before["invoices"]] == [
            i["id"] for i in closed["invoices"] if i["kind"] == "threshold"
        ]
        assert json.dumps(without_places(settled(one, ""))) == json.dumps(without_places(closed))
        assert len(before["invoices"]) == 1  # c1 in November: nothing is left to bill of it at the close
        assert len(closed["invoices"]) == 14


def kill_after(server: Server, acknowledged: list[int], count: int) -> None:
    """Kills the server, with the next request probably on its way, once so many are acknowledged."""
    while len(acknowledged) < count:
        time.sleep(0.0005)
    server.kill()


def test_after_kill_9_every_acknowledged_event_counts_once(tmp_path: Path) -> None:
    lines = many(4000)
    batches = [lines[at : at + 20] for at in range(0, len(lines), 20)]
    acknowledged: list[int] = []
    for number in range(3):
        with Server(tmp_path / "killed", catalogue=None if number else BOOK) as server:
            left = [i for i in range(len(batches)) if i not in acknowledged]
            killer = threading.Thread(target=kill_after, args=(server, acknowledged, len(acknowledged) + 15 + number))
            killer.start()
            try:
                for i in left:
                    answer = server.post("\n".join(batches[i]))
                    assert answer.status_code == 200
                    acknowledged.append(i)
            except httpx.TransportError:
                pass
            killer.join()
    assert 45 <= len(acknowledged) < len(batches)
    with Server(tmp_path / "killed", catalogue=None) as server, Server(tmp_path / "calm") as calm:
        counted = sum(
            item["events"] for item in server.listing("line-items", server.send(lines[:1])) if item["charge"] == "calls"
        )
        # What was acknowledged is there; of the three requests that the kills broke off, all or nothing.
        assert counted - 20 * len(acknowledged) in (0, 20, 40, 60)
        for batch in batches:
            server.send(batch)
        found = without_places(settled(server, server.send(lines[:1])))
        expected = without_places(settled(calm, calm.send(lines)))
        assert found["line-items"] == expected["line-items"]
        assert found["invoices"] == expected["invoices"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_and_another_start_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    with Server(tmp_path / "data") as server:
        server.send([event("a")])
        status, said = server.stop(number)
        assert (status, said.strip(), server.complaints()) == (0, "taximeter: stopping", "")
    with Server(tmp_path / "data", catalogue=None) as server:
        position = server.send([event("a"), event("b")])
        assert server.get("/v1/customers/acme/spend", position)["currencies"][0]["total"] == "1.02"


def test_a_second_process_on_the_same_folder_is_refused(server: Server) -> None:
    done = taximeter("serve", "--port", "0", "--data", server.data)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1 and str(server.data) in done.stderr, done.stderr
    assert server.client.get("/health/ready").status_code == 200


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = taximeter("serve", "--port", port, "--data", tmp_path / "data")
    assert done.returncode == 1
    assert f"taximeter serve: cannot listen on 127.0.0.1:{port}: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refused_catalogue_ends_with_2_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "book.yaml").write_text(BOOK.replace("meter: calls", "meter: cals"))
    done = taximeter("serve", "--port", "0", "--data", tmp_path / "data", "--catalogue", tmp_path / "book.yaml")
    assert done.returncode == 2
    assert "price_books.launch.charges.calls.meter: no such meter: found 'cals' (did you mean 'calls'?)" in done.stderr
    assert not (tmp_path / "data").exists()


def test_several_partitions_bill_the_same(tmp_path: Path) -> None:
    lines = many(300)
    with Server(tmp_path / "one") as one, Server(tmp_path / "three", "--partitions", "3") as three:
        found = [without_places(settled(server, server.send(lines, 50))) for server in (one, three)]
        assert found[0] == found[1]
