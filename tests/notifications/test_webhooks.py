"""Webhooks from a running server to a real receiver."""

import sqlite3
import time
from pathlib import Path

from tests.face.running import Server, event, taximeter
from tests.notifications.receiver import SECRET, Receiver, is_signed


def endpoints(folder: Path, *receivers: Receiver, **more: str) -> Path:
    path = folder / "endpoints.yaml"
    options = "".join(f", {name}: {value}" for name, value in more.items())
    path.write_text(
        "endpoints:\n"
        + "".join(f"  r{n}: {{url: '{r.url}', secrets: [{SECRET}]{options}}}\n" for n, r in enumerate(receivers))
    )
    return path


def spend(server: Server, dollars: int, id: str) -> None:
    data = f'{{"tokens": {dollars * 100}, "model": "large"}}'
    assert server.post(event(id, data=data, subject=id)).status_code == 200


def test_invoices_and_alerts_are_posted_signed_and_once(tmp_path: Path) -> None:
    with Receiver() as receiver, Server(tmp_path / "data", "--webhooks", endpoints(tmp_path, receiver)) as server:
        spend(server, 600, "first")
        calls = receiver.wait_for(2)
        assert sorted(call.content["type"] for call in calls) == ["alert.threshold", "invoice.issued"]
        assert all(is_signed(call) for call in calls)
        assert not any(is_signed(call, "whsec_" + "A" * 32) for call in calls)
        invoices = {c.content["data"]["kind"]: c.content["data"] for c in calls if c.content["type"].startswith("inv")}
        assert {kind: invoice["total"] for kind, invoice in invoices.items()} == {"threshold": "601"}
        assert {call.id for call in calls} == {
            f"{c.content['data']['id']}.{c.content['data']['revision']}"
            if "revision" in c.content["data"]
            else c.content["data"]["id"]
            for c in calls
        }


def test_a_receiver_that_fails_is_told_again_and_a_restart_forgets_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Receiver(lambda n: 500) as receiver:
        file = endpoints(tmp_path, receiver)
        with Server(data, "--webhooks", file) as server:
            spend(server, 600, "first")
            receiver.wait_for(2)
            queue = sqlite3.connect(data / "webhooks.sqlite")
            while set(queue.execute("SELECT attempts, state FROM messages")) != {(1, "waiting")}:
                time.sleep(0.05)  # the test's own limit ends this
            server.stop()
        queue.execute("UPDATE messages SET due = 0")  # or we would wait for the pause
        queue.commit()
        receiver.answer = lambda n: 204
        with Server(data, "--webhooks", file):
            calls = receiver.wait_for(4)
        assert len({(call.id, call.body) for call in calls}) == 2
        assert all(is_signed(call) for call in calls)


def test_what_is_given_up_is_listed_and_replayed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Receiver(lambda n: 410) as receiver:
        file = endpoints(tmp_path, receiver, events="[invoice]")
        with Server(data, "--webhooks", file) as server:
            spend(server, 600, "first")
            receiver.wait_for(1)
            done = taximeter("webhooks", "dead", "--data", data)
            while "1 dead" not in done.stdout:
                done = taximeter("webhooks", "dead", "--data", data)
            assert done.returncode == 3
            assert "1 tries: 410" in done.stdout
            receiver.answer = lambda n: 200
            assert taximeter("webhooks", "replay", "--data", data, "--endpoint", "other").returncode == 1
            replayed = taximeter("webhooks", "replay", "--data", data)
            assert (replayed.returncode, replayed.stdout) == (0, "1 messages wait again\n")
            spend(server, 600, "second")  # wakes the sender, which looks for all that is due
            calls = receiver.wait_for(3)
            assert calls[0][:2] in [call[:2] for call in calls[1:]]


def test_an_endpoint_hears_what_comes_after_it_or_everything(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Server(data) as server:
        spend(server, 600, "before")
        server.stop()
    with Receiver() as late, Receiver() as early:
        file = endpoints(tmp_path, late, events="[invoice]")
        file.write_text(
            file.read_text()
            + f"  all: {{url: '{early.url}', secrets: [{SECRET}], events: [invoice], start: beginning}}\n"
        )
        with Server(data, "--webhooks", file) as server:
            early.wait_for(1)
            spend(server, 600, "after")
            early.wait_for(2)
            (only,) = late.wait_for(1)
            assert only.content["data"]["because"]["event"]["id"] == "after"


def test_a_wrong_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "endpoints.yaml").write_text("endpoints: {a: {url: nowhere, secrets: [x]}}")
    done = taximeter("serve", "--data", tmp_path / "data", "--webhooks", tmp_path / "endpoints.yaml")
    assert done.returncode == 2
    assert "endpoints.a.url: found 'nowhere', expected https://host/path" in done.stderr
    assert "endpoints.a.secrets[0]: found" in done.stderr


def test_a_folder_without_a_queue_is_named(tmp_path: Path) -> None:
    done = taximeter("webhooks", "dead", "--data", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{tmp_path}: holds no webhooks.sqlite" in done.stderr
