"""Real processes: who may start, what a key may do while it is changed beside the server, and TLS by handshake."""

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from taximeter.access.front import HealthFront
from taximeter.access.gate import Gate
from taximeter.access.sqlite_store import SqliteKeys
from taximeter.observe import EngineTotals
from taximeter.tls import Tls, TlsSettings
from taximeter.worker_health import WorkerHealth
from tests.access.certificates import Authority
from tests.end_to_end.processes import READY_S, Process, Processes
from tests.face.running import Server, event, in_process, taximeter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NOTICED_S = 1.0
"""Within so long a running server knows of a change."""
CLOSED_S = 5.0
"""Within so long a server has ended whose clients say nothing: half of what requests at hand are given."""
_JSON = {"content-type": "application/json"}


def create(data: Path, *scopes: str, tenant: str = "default") -> str:
    """A new key, by the command in this process."""
    words = [word for scope in scopes for word in ("--scope", scope)]
    done = in_process("keys", "create", "--data", data, "--tenant", tenant, "--name", "test", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def until_status(client: httpx.Client, key: str, status: int, path: str = "/v1/line-items") -> float:
    """Asks until the answer has this status; after how many seconds."""
    began = time.monotonic()
    while client.get(path, headers=bearer(key)).status_code != status:
        assert time.monotonic() - began < 10, f"{path} never answered {status}"
        time.sleep(0.02)
    return time.monotonic() - began


# Who may start ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_others_are_not_listened_to_without_a_key(host: str, tmp_path: Path) -> None:
    done = taximeter("serve", "--host", host, "--port", "0", "--data", tmp_path / "data")
    assert done.returncode == 2 and done.stdout == ""
    assert f"--host {host}: found no API key" in done.stderr
    assert f"taximeter keys create --data {tmp_path / 'data'}" in done.stderr and "--insecure-no-keys" in done.stderr


def test_expired_and_revoked_keys_do_not_count_for_a_start(tmp_path: Path) -> None:
    key = create(tmp_path / "data", "admin")
    in_process("keys", "revoke", key, "--data", tmp_path / "data")
    done = taximeter("serve", "--host", "0.0.0.0", "--port", "0", "--data", tmp_path / "data")
    assert done.returncode == 2 and "all have expired or are revoked" in done.stderr


def test_with_a_key_every_address_is_listened_to(tmp_path: Path) -> None:
    key = create(tmp_path / "data", "query")
    with Server(tmp_path / "data", "--host", "0.0.0.0") as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/line-items", timeout=30).status_code == 401
        assert httpx.get(f"{url}/v1/line-items", headers=bearer(key), timeout=30).status_code == 200
        assert httpx.get(f"{url}/health/live", timeout=30).status_code == 200


def test_a_server_that_asks_nobody_says_so_loudly(tmp_path: Path) -> None:
    create(tmp_path / "data", "query")
    with Server(tmp_path / "data", "--host", "0.0.0.0", "--insecure-no-keys") as server:
        assert httpx.get(server.url.replace("0.0.0.0", "127.0.0.1") + "/v1/line-items", timeout=30).status_code == 200
        assert "WARNING: --insecure-no-keys" in server.complaints()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tls-cert", "pyproject.toml"], "--tls-key: found nothing"),
        (["--tls-cert", "pyproject.toml", "--tls-key", "pyproject.toml"], "found no PEM"),
        (["--tenant-rate", "many"], "--tenant-rate: found 'many'"),
        (["--tenant-rate", "a b=5"], "--tenant-rate: found 'a b=5'"),
        (["--tenant-rate", "0"], "--tenant-rate: found '0'"),
    ],
)
def test_a_wrong_option_is_said(words: list[str], said: str, tmp_path: Path) -> None:
    done = taximeter("serve", "--port", "0", "--data", tmp_path / "data", *words, cwd=Path(__file__).parents[2])
    assert done.returncode == 2 and said in done.stderr, done.stderr


@pytest.mark.kafka
def test_no_process_on_kafka_listens_to_others_without_a_key(kafka_bootstrap: str, tmp_path: Path) -> None:
    kafka = ("--bootstrap", kafka_bootstrap, "--prefix", f"{tmp_path.name}-none.", "--partitions", "1")
    for words in (
        ("ingest", "--port", "0", "--host", "0.0.0.0"),
        ("spend", "--port", "0", "--host", "0.0.0.0", "--data", tmp_path / "spend"),
        ("rate", "--snapshots", tmp_path / "snapshots", "--health-port", "0", "--health-host", "0.0.0.0"),
    ):
        done = taximeter(*words, *kafka, timeout=120)
        assert done.returncode == 2 and "found no API key" in done.stderr, done.stderr
        assert f"taximeter keys create --bootstrap {kafka_bootstrap} --prefix {kafka[3]}" in done.stderr


# A server and its keys --------------------------------------------------------------------------------------------


def test_keys_are_made_rotated_and_revoked_beside_a_running_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Server(data) as server:
        assert server.client.get("/v1/line-items").status_code == 200, "loopback, and no key yet"
        assert server.client.post("/v1/keys", json={}).status_code == 403
        key = create(data, "query")
        until_status(server.client, "none", 401)
        assert server.client.get("/v1/line-items", headers=bearer(key)).status_code == 200
        new = in_process("keys", "rotate", key, "--data", data, "--grace", "1s").stdout.strip()
        assert until_status(server.client, new, 200) < NOTICED_S
        until_status(server.client, key, 401)
        assert "expired" in server.client.get("/v1/line-items", headers=bearer(key)).json()["detail"]
        in_process("keys", "revoke", new.split("_")[1], "--data", data)
        assert until_status(server.client, new, 401) < NOTICED_S
        assert server.client.get("/v1/line-items").status_code == 401, "the last one gone does not open the door"
        files = [path for path in data.rglob("*") if path.is_file()]
        assert any(path.name == "keys.sqlite" for path in files)
        for path in files:
            assert not any(one.split("_")[2].encode() in path.read_bytes() for one in (key, new)), path
        assert key.split("_")[2] not in server.complaints()


def test_a_tenants_keys_over_http(tmp_path: Path) -> None:
    data = tmp_path / "data"
    ours, theirs = create(data, "admin", tenant="ours"), create(data, "admin", tenant="theirs")
    with Server(data) as server:
        http = server.client
        made = http.post("/v1/keys", json={"name": "gateway", "scopes": ["ingest"]}, headers=bearer(ours))
        assert made.status_code == 201 and made.headers["cache-control"] == "no-store"
        key, id = made.json()["key"], made.json()["id"]
        for _ in range(2):  # of nobody else, before and after its rotation
            for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
                answer = http.request(method, f"/v1/keys/{id}{path}", headers=bearer(theirs), content=b"{}")
                assert answer.status_code in (404, 415), answer.text
            assert [one["name"] for one in http.get("/v1/keys", headers=bearer(theirs)).json()["keys"]] == ["test"]
            assert {one["id"] for one in http.get("/v1/keys", headers=bearer(ours)).json()["keys"]} == {
                id, ours.split("_")[1],
            }  # fmt: skip
            rotated = http.post(f"/v1/keys/{id}/rotate", json={"grace_seconds": 0}, headers=bearer(ours)).json()["key"]
            assert http.get("/v1/keys", headers=bearer(key)).status_code == 401
            key = rotated
        sent = http.post("/v1/events", content=event("e1"), headers=bearer(key) | _JSON)
        assert sent.status_code == 200
        assert http.get("/v1/line-items", headers=bearer(key)).json()["scope"] == "query"
        gone = http.delete(f"/v1/keys/{id}", headers=bearer(ours))
        assert gone.status_code == 200 and gone.json()["state"] == "revoked" and gone.json()["secrets"] == []
        assert http.post("/v1/events", content=event("e2"), headers=bearer(key) | _JSON).status_code == 401, "at once"
        again = http.post(f"/v1/keys/{id}/rotate", json={}, headers=bearer(ours))
        assert again.status_code == 422 and "is revoked" in again.json()["detail"]
        for body, field in (
            ({"name": "", "scopes": ["query"]}, "name"),
            ({"name": "x", "scopes": []}, "scopes"),
            ({"name": "x", "scopes": ["root"]}, "scopes"),
            ({"name": "x", "scopes": ["query"], "expires": "tomorrow"}, "expires"),
            ({"name": "x", "scopes": ["query"], "expires": "2020-01-01T00:00:00Z"}, "expires"),
        ):
            refused = http.post("/v1/keys", json=body, headers=bearer(ours))
            assert refused.status_code == 422 and refused.json()["detail"].startswith(f"{field}: found"), refused.text
        assert http.post("/v1/keys", json={"tenant": "theirs"}, headers=bearer(ours)).status_code == 400


def test_the_operator_alone_sets_the_clock_and_watches(tmp_path: Path) -> None:
    data = tmp_path / "data"
    operator, tenant = create(data, "admin"), create(data, "admin", tenant="acme")
    with Server(data) as server:
        for method, path in (("POST", "/v1/ticks"), ("GET", "/metrics"), ("GET", "/v1/status")):
            for key, status in ((tenant, 403), (operator, 200), ("", 401)):
                answer = server.client.request(method, path, headers=bearer(key) | _JSON, content=b"{}")
                assert answer.status_code == status, (path, answer.text)
        done = taximeter("status", "--url", server.url)
        assert done.returncode == 1 and "401" in done.stderr


def test_commands_take_the_key_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = create(tmp_path / "data", "admin", "ingest")
    (tmp_path / "events.ndjson").write_text(event("e1") + "\n")
    with Server(tmp_path / "data") as server:
        assert in_process("load", tmp_path / "events.ndjson", "--url", server.url).returncode == 1
        monkeypatch.setenv("TAXIMETER_KEY", key)
        assert in_process("load", tmp_path / "events.ndjson", "--url", server.url).returncode == 0
        assert in_process("status", "--url", server.url).returncode == 0


def test_the_rate_of_a_tenant(tmp_path: Path) -> None:
    data = tmp_path / "data"
    keys = {tenant: create(data, "ingest", tenant=tenant) for tenant in ("small", "large")}
    options = ("--tenant-rate", "2", "--tenant-rate", "large=100000", "--tenant-burst", "5s")
    with Server(data, *options) as server:

        def send(tenant: str, count: int, name: str) -> httpx.Response:
            lines = "\n".join(event(f"{name}-{n}") for n in range(count))
            return server.post(lines, **bearer(keys[tenant]))

        assert send("small", 60, "a").status_code == 200
        refused = send("small", 1, "b")
        assert refused.status_code == 429 and 20 <= int(refused.headers["retry-after"]) <= 26
        assert refused.headers["x-ratelimit-limit"] == "10"
        assert send("large", 1000, "a").status_code == 200


# Kafka ------------------------------------------------------------------------------------------------------------


@pytest.mark.kafka
def test_a_deployment_shares_its_keys(kafka_bootstrap: str, tmp_path: Path) -> None:
    prefix = f"{tmp_path.name}-keys."
    kafka = ("--bootstrap", kafka_bootstrap, "--prefix", prefix)

    def keys(*words: str) -> str:
        done = in_process("keys", *words, *kafka)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    operator = keys("create", "--name", "o", "--scope", "admin")
    sender = keys("create", "--name", "s", "--scope", "ingest", "--tenant", "acme")
    reader = keys("create", "--name", "r", "--scope", "query", "--tenant", "acme")
    assert [line.split()[1] for line in keys("list").splitlines()[1:]] == ["default", "acme", "acme"]
    with Processes(tmp_path) as processes:
        parts = ("--partitions", 1, *kafka)
        doors = [processes.start("ingest", "ingest", "--port", 0, "--max-ahead", 0, *parts) for _ in range(2)]
        spend = processes.start("spend", "spend", "--port", 0, "--host", "0.0.0.0", "--data", "spend", *parts)
        port = _free_port()
        rate = processes.start("rate", "rate", "--snapshots", "snapshots", "--tick", 0, "--health-port", port, *parts)
        first, second = (httpx.Client(base_url=processes.ready(door), timeout=30) for door in doors)
        queries = httpx.Client(base_url=processes.ready(spend).replace("0.0.0.0", "127.0.0.1"), timeout=30)
        processes.until(lambda: rate.partitions() == [0] or not rate.running, "ownership", READY_S)
        for client, path, key, status in (
            (queries, "/v1/line-items", reader, 200),
            (queries, "/v1/line-items", sender, 403),
            (queries, "/v1/line-items", "", 401),
            (queries, "/metrics", reader, 403),
            (queries, "/metrics", operator, 200),
            (first, "/v1/meters", reader, 200),
            (first, "/v1/meters", "", 401),
        ):
            assert client.get(path, headers=bearer(key)).status_code == status, (path, status)
        for door in (first, second):
            sent = door.post("/v1/events", content=event("e1"), headers=bearer(sender) | _JSON)
            assert sent.status_code == 200, sent.text
        health = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        assert health.get("/health/live").status_code == 200
        refused = health.get("/metrics")
        assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Bearer")
        assert health.get("/metrics", headers=bearer(reader)).status_code == 403
        assert health.get("/metrics", headers=bearer(operator)).status_code == 200
        # Made at one door, known at the other one and to the queries; revoked by the command, known to all.
        admin = keys("create", "--name", "a", "--scope", "admin", "--tenant", "acme")
        until_status(first, admin, 200, "/v1/keys")
        made = first.post("/v1/keys", json={"name": "n", "scopes": ["query"]}, headers=bearer(admin))
        assert made.status_code == 201, made.text
        assert until_status(queries, made.json()["key"], 200) < NOTICED_S
        assert until_status(second, made.json()["key"], 200, "/v1/meters") < NOTICED_S
        keys("revoke", made.json()["id"])
        assert until_status(queries, made.json()["key"], 401) < NOTICED_S
        assert until_status(second, made.json()["key"], 401, "/v1/meters") < NOTICED_S


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def handshake(port: int, authority: Authority, **options: Any) -> bytes:
    """The server's certificate."""
    context = ssl.create_default_context(cafile=authority.pair.cert)
    if "version" in options:
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, options["version"]
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        found = secure.getpeercert(binary_form=True)
        assert found is not None
        return found


@contextlib.contextmanager
def serving(tmp_path: Path, *words: object) -> Iterator[tuple[Process, int]]:
    """`serve` with these options, and its port."""
    with Processes(tmp_path) as processes:
        port = _free_port()
        process = processes.start("serve", "serve", "--port", port, "--tick", 0, "--data", tmp_path / "data", *words)
        processes.until(lambda: "ready at https://" in process.said or not process.running, "ready", READY_S)
        assert process.running, process.tail()
        yield process, port


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_https_and_a_certificate_that_is_renewed_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("first")
    with serving(tmp_path, "--tls-cert", pair.cert, "--tls-key", pair.key) as (process, port):
        context = ssl.create_default_context(cafile=authority.pair.cert)
        client = httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context, timeout=30)
        answer = client.post("/v1/events", content=event("e1"), headers=_JSON)
        assert answer.status_code == 200 and answer.json()["accepted"] == 1
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://127.0.0.1:{port}/health/live", timeout=30)  # an authority that nobody knows
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=30)
        with pytest.raises(ssl.SSLError):
            handshake(port, authority, version=ssl.TLSVersion.TLSv1_1)
        before = handshake(port, authority)
        second = authority.issue("second")
        pair.cert.write_bytes(second.cert.read_bytes())  # half of it: the pair does not fit
        time.sleep(3)
        assert handshake(port, authority) == before
        pair.key.write_bytes(second.key.read_bytes())
        deadline = time.monotonic() + 10
        while handshake(port, authority) == before:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert handshake(port, authority) == ssl.PEM_cert_to_DER_cert(second.cert.read_text())
        assert client.get("/health/live").status_code == 200, "the connection that stood goes on"
        process.stop()


def test_clients_that_keep_their_connections_do_not_hold_the_end_up(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("kept")
    with serving(tmp_path, "--tls-cert", pair.cert, "--tls-key", pair.key) as (process, port):
        context = ssl.create_default_context(cafile=authority.pair.cert)
        with contextlib.ExitStack() as kept:
            for _ in range(3):
                client = kept.enter_context(
                    httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context, timeout=30)
                )
                assert client.post("/v1/events", content=event("e1"), headers=_JSON).status_code == 200
            began = time.monotonic()
            process.stop()
            assert time.monotonic() - began < CLOSED_S


def test_mutual_tls(authority: Authority, tmp_path: Path) -> None:
    server, client, stranger = authority.issue("server"), authority.issue("client"), Authority(tmp_path, "stranger")
    options = ("--tls-cert", server.cert, "--tls-key", server.key, "--tls-client-ca", authority.pair.cert)
    with serving(tmp_path, *options) as (_, port):

        def ask(cert: Path | None, key: Path | None) -> int:
            context = ssl.create_default_context(cafile=authority.pair.cert)
            if cert is not None:
                context.load_cert_chain(cert, key)
            return httpx.get(f"https://127.0.0.1:{port}/health/live", verify=context, timeout=30).status_code

        assert ask(client.cert, client.key) == 200
        strange = stranger.issue("other")
        for cert, key in ((None, None), (strange.cert, strange.key)):
            with pytest.raises(httpx.TransportError):
                ask(cert, key)


def test_a_client_that_never_shakes_hands_holds_nobody_up(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("patient")
    with serving(tmp_path, "--tls-cert", pair.cert, "--tls-key", pair.key) as (process, port):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
        assert handshake(port, authority)
        for one in silent:
            one.close()
        process.stop()


def test_the_health_port_of_a_worker_has_tls_and_keys(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("health")
    key = create(tmp_path, "admin")
    front = HealthFront(Gate(SqliteKeys(tmp_path).ring), Tls(TlsSettings(pair.cert, pair.key)))
    health = WorkerHealth(EngineTotals(), "127.0.0.1", 0, front)
    try:
        context = ssl.create_default_context(cafile=authority.pair.cert)
        silent = socket.create_connection(("127.0.0.1", health.port or 0))
        with httpx.Client(base_url=f"https://127.0.0.1:{health.port}", verify=context, timeout=30) as client:
            assert client.get("/health/live").status_code == 200
            assert client.get("/metrics?x=1").status_code == 401
            assert client.get("/metrics", headers=bearer(key)).status_code == 200
            assert client.get("/v1/status", headers=bearer(key)).json()["host"] == "kafka worker"
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{health.port}/health/live", timeout=30)
        silent.close()
    finally:
        health.stop()


def test_shown_as_json(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = json.loads(
        in_process(
            "keys", "create", "--data", data, "--name", "n", "--scope", "query", "--expires-in", "90d", "--json"
        ).stdout
    )
    listed = json.loads(in_process("keys", "list", "--data", data, "--json").stdout)
    assert [made["id"]] == [one["id"] for one in listed] and "key" not in listed[0]
    assert made["expires"] > made["created"] and made["state"] == "valid"
    assert in_process("keys", "show", "nothing", "--data", data).returncode == 2
    assert in_process("keys", "list").returncode == 2
