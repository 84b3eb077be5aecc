"""The catalogue over HTTP: documents with versions, preconditions, dry runs and simulations, on a running server."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.face.running import BOOK, Server, event, in_process

PRICE = {"model": "unit", "unit_amount": "0.01"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that tests share; each writes documents of its own."""
    with Server(tmp_path_factory.mktemp("catalogue") / "data") as running:
        yield running


def put(server: Server, path: str, document: Any, status: int = 200, **headers: str) -> Any:
    """The answer to a document sent as JSON."""
    answer = server.client.put(
        f"/v1/{path}", json=document, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    assert answer.status_code == status, answer.text
    if status < 300 and "dry_run" not in path and not path.startswith("catalogue"):
        assert answer.headers["etag"] == f'"{answer.json()["version"]}"'
    return answer.json()


def book(price: Any = PRICE, **more: Any) -> dict[str, Any]:
    return {"currency": "USD", "charges": {"tokens": {"meter": "tokens", "price": price}}, **more}


def faults(answer: Any) -> dict[str, str]:
    assert (answer["status"], answer["code"]) == (422, "invalid_catalogue")
    return {fault.get("document", "") + "|" + fault["path"]: fault["message"] for fault in answer["faults"]}


# One document ---------------------------------------------------------------------------------------------------------

DOCUMENTS: list[tuple[str, str, Any, Any]] = [
    ("meters", "kind/one", {"event": "x", "aggregate": "count"}, {"event": "y", "aggregate": "count"}),
    ("price-books", "list:2026", book(), book({"model": "unit", "unit_amount": "0.02"})),
    ("customers", "who@example", {"subjects": ["w1"]}, {"subjects": ["w1", "w2"]}),
    ("subscriptions", "sub-1", {"customer": "acme-1", "price_book": "launch", "start": "2026-11-01T00:00:00Z"},
     {"customer": "acme-1", "price_book": "launch", "start": "2026-11-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "id", "first", "second"), DOCUMENTS, ids=[one[0] for one in DOCUMENTS])
def test_a_document_is_created_changed_and_read_with_its_versions(
    server: Server, kind: str, id: str, first: Any, second: Any
) -> None:
    path = f"{kind}/" + id.replace("/", "%2F").replace("@", "%40")
    assert server.client.get(f"/v1/{path}").status_code == 404
    created = put(server, path, first, 201)
    assert (created["id"], created["version"], created["change"]) == (id, 1, "created")
    assert put(server, path, first)["change"] == "unchanged"
    changed = put(server, path, second)
    assert (changed["version"], changed["change"], len(changed["changes"])) == (2, "changed", 1)
    assert put(server, path, second)["version"] == 2
    found = server.client.get(f"/v1/{path}")
    assert found.json()["document"] == second and found.headers["etag"] == '"2"'
    assert server.get(f"/v1/{path}", version="1")["document"] == first
    versions = server.get(f"/v1/{path}/versions")["versions"]
    assert [one["version"] for one in versions] == [2, 1]
    assert versions[0]["changes"] == changed["changes"] and versions[0]["changed"] > versions[1]["changed"]
    assert server.client.get(f"/v1/{path}", params={"version": "3"}).json()["code"] == "unknown_version"
    listed = server.get(f"/v1/{kind}", limit="1000")[kind.replace("-", "_")]
    assert {"id": id, "version": 2, "document": second}.items() <= next(d for d in listed if d["id"] == id).items()


def test_the_default_subscription_is_a_document_of_its_own(tmp_path: Path) -> None:
    with Server(tmp_path / "data", catalogue=BOOK.replace("default_subscription", "#")) as server:
        assert server.client.get("/v1/default-subscription").status_code == 404
        put(server, "default-subscription", {"price_book": "launch"}, 201)
        assert put(server, "default-subscription", {"price_book": "launch", "period": "day"})["version"] == 2
        assert server.get("/v1/default-subscription")["document"] == {"price_book": "launch", "period": "day"}
        assert len(server.get("/v1/default-subscription/versions")["versions"]) == 2
        assert faults(put(server, "default-subscription", {"price_book": "lunch"}, 422)).keys() == {"|price_book"}
        assert put(server, "default-subscription", None, 422)["faults"][0]["message"].startswith("found nothing")


def test_ids_hold_slashes_plain_or_percent_encoded_and_what_ends_like_a_query_too(server: Server) -> None:
    for raw, id in (("a%2Fb", "a/b"), ("plain/c", "plain/c"), ("x%2Fversions", "x/versions"), ("y%2Fspend", "y/spend")):
        assert put(server, f"customers/{raw}", {"name": id}, 201)["id"] == id
        assert server.get(f"/v1/customers/{raw}")["id"] == id
    assert server.get("/v1/customers/a/b")["id"] == "a/b"
    assert server.get("/v1/customers/y/spend")["customer"] == "y"
    assert server.get("/v1/customers/x%2Fversions/versions")["id"] == "x/versions"
    for wrong in ("b%20c", "%C3%A9", "a" * 129):
        assert put(server, f"customers/{wrong}", {}, 400)["parameter"] == "id"


def test_yaml_is_read_and_numbers_stay_exact(server: Server) -> None:
    text = "{currency: USD, charges: {fee: {price: {model: flat, amount: 12345678901234567890.000000000001}}}}"
    answer = server.client.put("/v1/price-books/exact", content=text, headers={"content-type": "application/yaml"})
    assert answer.status_code == 201
    found = server.client.get("/v1/price-books/exact").text
    assert '"amount":12345678901234567890.000000000001}' in found
    again = json.dumps(yaml.safe_load(text.replace("12345678901234567890.000000000001", "0"))).replace(
        '"amount": 0', '"amount": 12345678901234567890.000000000001'
    )
    answer = server.client.put("/v1/price-books/exact", content=again, headers={"content-type": "application/json"})
    assert answer.json()["change"] == "unchanged"


def test_every_fault_is_listed_with_its_path_inside_the_document(server: Server) -> None:
    wrong = book({"model": "unti"}, minimums="5")
    wrong["charges"]["tokens"]["meter"] = 7
    assert faults(put(server, "price-books/wrong", wrong, 422)).keys() == {"|minimums", "|charges.tokens.meter"}
    wrong = book({"model": "unti"}, currency="XXY")
    wrong["charges"]["calls"] = {"meter": "cals", "price": PRICE}
    found = faults(put(server, "price-books/wrong", wrong, 422))
    assert found.keys() == {"|currency", "|charges.tokens.price.model", "|charges.calls.meter"}
    assert "did you mean 'unit'?" in found["|charges.tokens.price.model"]
    for other in ("[]", '"text"', "3", "null"):
        answer = server.client.put("/v1/meters/m", content=other, headers={"content-type": "application/json"})
        assert faults(answer.json()).keys() == {"|"}


def test_a_fault_in_another_document_names_that_one(server: Server) -> None:
    put(server, "price-books/parent", book(), 201)
    sub = {"customer": "child", "price_book": "parent", "start": "2026-11-01T00:00:00Z",
           "overrides": {"charges": {"tokens": {"free_units": "5"}}}}  # fmt: skip
    put(server, "subscriptions/child.of.it", sub, 201)
    without = {"currency": "USD", "charges": {"other": {"meter": "calls", "price": PRICE}}}
    found = faults(put(server, "price-books/parent", without, 422))
    assert found.keys() == {"subscriptions/child.of.it|overrides.charges.tokens"}
    assert server.get("/v1/price-books/parent")["version"] == 1


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", '{"event": "x",', 400, "invalid_document"),
        ("application/json", '{"event": "x", "event": "y", "aggregate": "count"}', 400, "invalid_document"),
        ("application/yaml", "a: [b", 400, "invalid_document"),
        ("application/yaml", 'name: "\\ud800"', 400, "invalid_document"),
        ("application/json", b"{\xff", 400, "invalid_document"),
        ("application/json", "[" * 100_000, 400, "invalid_document"),
        ("text/csv", "a,b", 415, "unsupported_media_type"),
        ("application/json", "{a: b}", 400, "invalid_document"),
        ("application/json", " " * (1024 * 1024 + 1), 413, "too_large"),
    ],
)
def test_a_body_that_cannot_be_read(server: Server, content_type: str, body: Any, status: int, code: str) -> None:
    answer = server.client.put("/v1/customers/body", content=body, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_aliases_that_multiply_are_refused(server: Server) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    answer = server.client.put(
        "/v1/customers/bomb", content="\n".join(lines), headers={"content-type": "application/yaml"}
    )
    assert answer.status_code == 400 and "values, expected at most" in answer.json()["detail"]


# Preconditions --------------------------------------------------------------------------------------------------------


def test_what_another_has_changed_meanwhile_is_not_overwritten(server: Server) -> None:
    put(server, "customers/etag", {"name": "one"}, 412, if_match="*")
    put(server, "customers/etag", {"name": "one"}, 201, if_none_match="*")
    assert put(server, "customers/etag", {"name": "two"}, 412, if_none_match="*")["code"] == "version_mismatch"
    put(server, "customers/etag", {"name": "two"}, if_match='"1"')
    put(server, "customers/etag", {"name": "three"}, 412, if_match='"1"')
    put(server, "customers/etag", {"name": "three"}, if_match='"7", "2"')
    put(server, "customers/etag", {"name": "four"}, if_match="*")
    assert server.get("/v1/customers/etag")["version"] == 4
    assert server.client.get("/v1/customers/etag", headers={"if-none-match": '"4"'}).status_code == 304
    assert server.client.get("/v1/customers/etag", headers={"if-none-match": '"3"'}).status_code == 200


def test_of_many_at_once_with_the_same_precondition_one_wins(server: Server) -> None:
    put(server, "customers/race", {"name": "0"}, 201)
    statuses: list[int] = []

    def change(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            document = {"name": f"by {number}"}
            statuses.append(client.put("/v1/customers/race", json=document, headers={"if-match": '"1"'}).status_code)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [412] * 7
    assert server.get("/v1/customers/race")["version"] == 2


def test_documents_are_not_deleted(server: Server) -> None:
    for path in ("customers/acme", "default-subscription", "catalogue", "price-books/launch"):
        answer = server.client.delete(f"/v1/{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT")
        assert "stay in force" in answer.json()["detail"]
    assert server.client.post("/v1/customers/acme", json={}).status_code == 405
    assert server.client.put("/v1/customers", json={}).status_code == 405
    assert server.client.put("/v1/customers/acme/versions", json={}).status_code == 405


# Many -----------------------------------------------------------------------------------------------------------------


def test_pages_follow_each_other_in_order_of_ids(tmp_path: Path) -> None:
    ids = [f"c{number:02d}" for number in range(7)]
    with Server(tmp_path / "data", catalogue=None) as server:
        assert server.get("/v1/customers") == {"customers": [], "next_after": None}
        put(server, "catalogue", {"customers": {id: {"name": id} for id in reversed(ids)}})
        found, after = [], ""
        while after is not None:
            page = server.get("/v1/customers", limit="3", **({"after": after} if after else {}))
            found.append([one["id"] for one in page["customers"]])
            after = page["next_after"]
    assert found == [ids[:3], ids[3:6], ids[6:]]


def test_a_catalogue_is_applied_whole_or_not_at_all(tmp_path: Path) -> None:
    with Server(tmp_path / "data", catalogue=None) as server:
        empty = server.client.get("/v1/catalogue")
        assert empty.json() == {"catalogue": {}, "versions": {}}
        answer = server.client.put("/v1/catalogue", content=BOOK, headers={"content-type": "application/yaml"})
        assert [(one["kind"], one["id"], one["change"]) for one in answer.json()["documents"]] == [
            ("meters", "tokens", "created"), ("meters", "calls", "created"), ("price_books", "launch", "created"),
            ("customers", "acme", "created"), ("default_subscription", "default", "created"),
        ]  # fmt: skip
        whole = server.client.get("/v1/catalogue")
        assert whole.headers["etag"] == answer.headers["etag"] != empty.headers["etag"]
        assert whole.json()["versions"]["meters"] == {"tokens": 1, "calls": 1}
        again = put(server, "catalogue", whole.json()["catalogue"], if_match=whole.headers["etag"])
        assert (again["documents"], again["unchanged"], again["position"]) == ([], 5, "")
        half = {"customers": {"acme": {"name": "changed"}}, "price_books": {"launch": book({"model": "unti"})}}
        assert faults(put(server, "catalogue", half, 422)).keys() == {"|price_books.launch.charges.tokens.price.model"}
        put(server, "catalogue", {"customers": {"acme": {}}}, 412, if_match=empty.headers["etag"])
        assert server.get("/v1/catalogue") == whole.json()
        two = put(server, "catalogue", {"customers": {"acme": {"name": "Acme"}, "beta": {}}})
        assert {one["id"]: one["version"] for one in two["documents"]} == {"acme": 2, "beta": 1}
        assert faults(put(server, "catalogue", {"costumers": {}}, 422)).keys() == {"|costumers"}


def test_new_prices_hold_from_the_position_that_the_answer_names(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        server.send([event("a")])
        dearer = yaml.safe_load(BOOK)["price_books"]["launch"]
        dearer["charges"]["tokens"]["price"]["unit_amount"] = "5"
        position = put(server, "price-books/launch", dearer)["position"]
        assert server.get("/v1/customers/acme/spend", position)["currencies"][0]["total"] == "6"


def test_versions_are_the_same_after_kill_9(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        for number in range(5):
            put(server, "customers/acme", {"name": str(number)})
        before = server.get("/v1/customers/acme/versions"), server.get("/v1/catalogue")
        server.kill()
    with Server(tmp_path / "data", catalogue=None) as server:
        assert (server.get("/v1/customers/acme/versions"), server.get("/v1/catalogue")) == before
        assert server.get("/v1/customers/acme", version="3")["document"] == {"name": "1"}
        assert put(server, "customers/acme", {"name": "last"})["version"] == 7


# Dry runs and simulations ---------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_change_and_changes_nothing(server: Server) -> None:
    before = server.client.get("/v1/catalogue").headers["etag"]
    said = put(server, "price-books/dry?dry_run=true", book())
    assert (said["change"], said["version"], said["dry_run"]) == ("created", 1, True) and "position" not in said
    said = put(server, "customers/acme?dry_run=true", {"subjects": ["team-a", "team-c"], "name": "Acme"})
    assert said["changes"] == [
        {"path": "subjects[1]", "from": "team-b", "to": "team-c"}, {"path": "name", "to": "Acme"},
    ]  # fmt: skip
    assert faults(put(server, "price-books/dry?dry_run=true", book({"model": "unti"}), 422))
    many = put(server, "catalogue?dry_run=true", {"customers": {"acme": {}, "nobody": {}}})
    assert [one["change"] for one in many["documents"]] == ["changed", "created"]
    assert put(server, "customers/acme?dry_run=perhaps", {}, 400)["parameter"] == "dry_run"
    assert server.client.get("/v1/catalogue").headers["etag"] == before


def simulate(server: Server, status: int = 200, **asked: Any) -> Any:
    body = '{"events": [' + ",".join(asked.pop("events", [])) + "]" + "".join(
        f', "{name}": {json.dumps(value)}' for name, value in asked.items()
    )  # fmt: skip
    answer = server.client.post("/v1/simulate", content=body + "}", headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_simulation_prices_events_with_documents_laid_over_and_writes_nothing(server: Server) -> None:
    before = server.get("/v1/customers/sim/spend")["through"], server.client.get("/v1/catalogue").headers["etag"]
    events = [
        event("s1", subject="sim"),
        event("s1", subject="sim"),
        event("s2", subject="sim", data='{"tokens": "x"}'),
    ]
    plain = simulate(server, events=events)
    assert (plain["accepted"], plain["duplicates"], plain["rejected"]) == (2, 1, 1)
    assert {item["charge"]: item["amount"] for item in plain["line_items"]} == {"tokens": "0.01", "calls": "1"}
    assert plain["invoices"] == [] and plain["rejections"][0]["where"] == {"line": 3}
    dearer = yaml.safe_load(BOOK)["price_books"]["launch"]
    dearer["charges"]["tokens"]["price"]["unit_amount"] = "600"
    found = simulate(
        server, events=events, catalogue={"price_books": {"launch": dearer}}, as_of="2026-12-02T00:00:00Z", compare=True
    )
    assert [(one["kind"], one["total"]) for one in found["invoices"]] == [("threshold", "601")]
    assert [alert["because"]["level"] for alert in found["alerts"]] == ["500"]
    assert [one["total"] for one in found["in_force"]["invoices"]] == ["1.01"]
    assert [(one["charge"], one["before"], one["after"], one["difference"]) for one in found["differences"]] == [
        ("calls", "1", "1", "0"), ("tokens", "0.01", "600", "599.99"), (None, "1.01", "601", "599.99"),
    ]  # fmt: skip
    document = {"kind": "price_books", "id": "launch", "document": dearer}
    assert simulate(server, events=events, documents=[document])["line_items"] == found["line_items"]
    text = yaml.safe_dump({"price_books": {"launch": dearer}})
    assert simulate(server, events=events, catalogue=text)["line_items"] == found["line_items"]
    assert simulate(server, events=events, catalogue=BOOK, base="nothing") == plain
    assert (
        server.get("/v1/customers/sim/spend")["through"],
        server.client.get("/v1/catalogue").headers["etag"],
    ) == before


def test_a_simulation_shows_only_customers_of_its_events_and_from_their_time_on(tmp_path: Path) -> None:
    fee = {"currency": "USD", "charges": {"fee": {"price": {"model": "flat", "amount": "10"}}}}
    since = {"price_book": "fee", "start": "2026-01-01T00:00:00Z"}
    subscriptions = {"one": {"customer": "c1", **since}, "two": {"customer": "c2", **since}}
    with Server(tmp_path / "data") as server:
        put(server, "catalogue", {"price_books": {"fee": fee}, "subscriptions": subscriptions})
        send = dict(events=[event("s", subject="c1", type="other")], as_of="2026-12-01T00:00:00Z")
        assert {one["customer"] for one in simulate(server, **send)["invoices"]} == {"c1"}
        usage = yaml.safe_load(BOOK)["price_books"]["launch"]
        usage["charges"]["fee"] = fee["charges"]["fee"]
        send["events"] = [event("s", subject="c1")]
        found = simulate(server, **send, catalogue={"price_books": {"fee": usage}}, customers=["c2"])
        assert {(one["customer"], one["period"]["start"]) for one in found["invoices"]} == {
            ("c1", "2026-11-01T00:00:00Z"), ("c2", "2026-11-01T00:00:00Z"),
        }  # fmt: skip


def test_a_simulation_that_cannot_be(server: Server) -> None:
    assert faults(simulate(server, 422, catalogue={"price_books": {"launch": book({"model": "unti"})}})).keys() == {
        "|price_books.launch.charges.tokens.price.model"
    }
    assert faults(simulate(server, 422, catalogue="a: [b")).keys() == {"|line 1, column 6"}
    assert faults(simulate(server, 422, catalogue=[])).keys() == {"|catalogue"}
    assert faults(simulate(server, 422, as_of="tomorrow")).keys() == {"|as_of"}
    assert faults(simulate(server, 422, as_of="2999-01-01T00:00:00Z")).keys() == {"|as_of"}
    documents = [{"kind": "prices", "id": "x", "document": {}}]
    assert faults(simulate(server, 422, documents=documents)).keys() == {"|documents[0].kind"}
    assert simulate(server, 400, event=[])["code"] == "invalid_request"
    assert simulate(server, 413, events=["{}"] * 10_001)["code"] == "too_large"
    assert server.client.get("/v1/simulate").status_code == 405


def test_the_server_answers_while_it_simulates(server: Server) -> None:
    events = [event(f"e{i}", f"2026-11-{1 + i % 28:02d}T00:00:00Z", subject=f"c{i % 500}") for i in range(10_000)]
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(simulate_with_own_client(server, events)))
    thread.start()
    slowest = 0.0
    while not done:
        began = time.monotonic()
        assert server.client.get("/health/live").status_code == 200
        slowest = max(slowest, time.monotonic() - began)
    thread.join()
    assert done[0]["accepted"] == 10_000
    assert slowest < 1.0


def simulate_with_own_client(server: Server, events: list[str]) -> Any:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        body = '{"events": [' + ",".join(events) + "]}"
        return client.post("/v1/simulate", content=body, headers={"content-type": "application/json"}).json()


def test_the_catalogue_as_json_is_a_catalogue_for_the_commands(server: Server, tmp_path: Path) -> None:
    (tmp_path / "book.json").write_text(json.dumps(server.get("/v1/catalogue")["catalogue"]))
    assert in_process("check", tmp_path / "book.json").returncode == 0
