"""No tenant sees, changes or influences another's: every operation, asked with every id of another tenant.

Whatever a stranger asks about names that the other tenant has, it is answered as about names that nobody has: the same
status, the same body. And whatever it writes, the other tenant's answers stay what they were, to the letter.
"""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from schemas.access import SCOPES
from taximeter.openapi.operation import Operation
from taximeter.openapi.operations import OPERATIONS
from tests.access.test_processes import create
from tests.face.running import Server

BOOK: dict[str, Any] = {
    "meters": {"zebra-tokens": {"event": "zebra.used", "aggregate": "sum", "value": "$.n", "dimensions": {"m": "$.m"}}},
    "price_books": {
        "zebra-book": {
            "currency": "USD",
            "charges": {"zebra-charge": {"meter": "zebra-tokens", "price": {"model": "unit", "unit_amount": "0.37"}}},
            "thresholds": [{"spend": "10"}],
        }
    },
    "customers": {"zebra-inc": {"subjects": ["zebra-team"], "coupons": [{"id": "zebra-coupon"}]}},
    "subscriptions": {
        "zebra-sub": {"customer": "zebra-inc", "price_book": "zebra-book", "start": "2026-11-01T00:00:00Z"}
    },
    "coupons": {"zebra-coupon": {"percent": "1"}},
    "credit_grants": {"zebra-grant": {"customer": "zebra-inc", "amount": "5"}},
    "tax_rates": {"zebra-tax": {"rate": "0.1"}},
    "default_subscription": {"price_book": "zebra-book", "period": "month"},
}
IDS = {
    "meters": "zebra-tokens",
    "price-books": "zebra-book",
    "customers": "zebra-inc",
    "subscriptions": "zebra-sub",
    "coupons": "zebra-coupon",
    "credit-grants": "zebra-grant",
    "tax-rates": "zebra-tax",
}
PATHS = (
    "/v1/catalogue", "/v1/keys", "/v1/line-items", "/v1/invoices", "/v1/alerts", "/v1/rejections", "/v1/events",
    "/v1/spend", "/v1/usage?meter=zebra-tokens&window=total&group_by=subject", "/v1/customers/zebra-inc/spend",
    "/v1/customers/zebra-inc/usage?meter=zebra-tokens", "/v1/customers/zebra-inc/bill",
    "/v1/customers/zebra-inc/remaining", "/v1/customers/zebra-inc/costs", "/openmeter/api/v1/meters",
    "/openmeter/api/v1/events", "/openmeter/api/v1/customers", "/lago/api/v1/billable_metrics",
    "/stripe/v1/billing/meters",
)  # fmt: skip
"""What the owner sees."""


def used(id: str, n: Any, subject: str = "zebra-team") -> dict[str, Any]:
    head = {"specversion": "1.0", "id": id, "source": "zebra-source", "type": "zebra.used", "subject": subject}
    return {**head, "time": "2026-11-05T00:00:00Z", "data": {"n": n, "m": "zebra-model"}}


class Stage:
    """A server with keys, the owner's things on it, and two clients: the owner's and the stranger's."""

    def __init__(self, server: Server, owner: str, stranger: str) -> None:
        self.server = server
        self.owner, self.stranger = (
            httpx.Client(base_url=server.url, timeout=60, headers={"authorization": f"Bearer {key}"})
            for key in (owner, stranger)
        )
        self.ids: dict[str, str] = {}

    def fill(self) -> None:
        answer = self.owner.put("/v1/catalogue", json=BOOK)
        assert answer.status_code == 200, answer.text
        events = [used(f"zebra-{number}", 10) for number in range(5)] + [used("zebra-bad", "lots")]
        answer = self.owner.post(
            "/v1/events", content=json.dumps(events), headers={"content-type": "application/cloudevents-batch+json"}
        )
        assert answer.json()["accepted"] == 6, answer.text
        position = answer.json()["position"]
        (invoice, *_) = self.owner.get("/v1/invoices", params={"position": position}).json()["invoices"]
        (rejection, *_) = self.owner.get("/v1/rejections", params={"position": position}).json()["rejections"]
        (key, *_) = self.owner.get("/v1/keys").json()["keys"]
        self.ids = {"invoices": invoice["id"], "rejections": rejection["id"], "keys": key["id"], **IDS}

    def seen(self) -> dict[str, Any]:
        """All that the owner sees, but for how far the log has come."""
        found = {}
        for path in PATHS:
            answer = self.owner.get(path)
            assert answer.status_code == 200, (path, answer.text)
            found[path] = without_positions(answer.text)
        return found


def without_positions(text: str) -> str:
    return re.sub(r'"through":\{[^{}]*\}', '"through":{}', text)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    data = tmp_path_factory.mktemp("isolation") / "data"
    data.mkdir()
    owner, stranger = (create(data, *SCOPES, tenant=tenant) for tenant in ("zebra-tenant", "stranger"))
    with Server(data, catalogue=None) as server:
        found = Stage(server, owner, stranger)
        found.fill()
        yield found


def path_of(operation: Operation, ids: dict[str, str]) -> str:
    kind = operation.path.split("/")[2] if operation.path.startswith("/v1/") else ""
    return operation.path.replace("{customer}", ids["customers"]).replace("{id}", ids.get(kind, "zebra-thing"))


def parameters_of(operation: Operation) -> dict[str, str]:
    """Every parameter that can name something of the owner's."""
    values = {
        "customer": "zebra-inc",
        "subject": "zebra-team",
        "subscription": "zebra-sub",
        "charge": "zebra-charge",
        "meter": "zebra-tokens",
        "source": "zebra-source",
        "id": "zebra-1",
        "type": "zebra.used",
    }
    known = {parameter.name for parameter in operation.parameters if parameter.where == "query"}
    return {name: value for name, value in values.items() if name in known}


def disguised(text: str) -> str:
    """The same with names that nobody has: of the same length, and of the same form."""
    swapped = text.replace("zebra", "quagg").replace("inv_", "inv_0").replace("rej_", "rej_0")
    return swapped


ASKED = [one for one in OPERATIONS if one.method == "get" and one.tag not in ("Live", "Server")]


@pytest.mark.parametrize("operation", ASKED, ids=lambda operation: operation.id)
def test_what_is_anothers_is_answered_as_what_nobody_has(stage: Stage, operation: Operation) -> None:
    path, parameters = path_of(operation, stage.ids), parameters_of(operation)
    theirs = stage.stranger.get(path, params=parameters)
    nobodys_path = disguised(path) if "zebra" in path or "_" in path else path
    if "keys" in path and "{id}" in operation.path:
        nobodys_path = "/v1/keys/" + "0" * len(stage.ids["keys"])
    nobodys = stage.stranger.get(nobodys_path, params={name: disguised(value) for name, value in parameters.items()})
    assert theirs.status_code == nobodys.status_code, (theirs.text, nobodys.text)
    said = without_positions(theirs.text).replace(path.rpartition("/")[2], "ID")
    expected = without_positions(nobodys.text).replace(nobodys_path.rpartition("/")[2], "ID")
    assert disguised(said).replace("_00", "_0") == disguised(expected).replace("_00", "_0")
    own = stage.owner.get(path, params=parameters)
    assert own.status_code in (200, 422) or own.status_code == theirs.status_code


@pytest.mark.parametrize("operation", ASKED, ids=lambda operation: operation.id)
def test_a_key_cannot_choose_another_tenant(stage: Stage, operation: Operation) -> None:
    path, parameters = path_of(operation, stage.ids), parameters_of(operation)
    answer = stage.stranger.get(path, params={**parameters, "tenant": "zebra-tenant"})
    assert answer.status_code in (400, 403, 404), answer.text
    assert "0.37" not in answer.text and "zebra-model" not in answer.text
    header = stage.stranger.get(path, params=parameters, headers={"taximeter-tenant": "zebra-tenant"})
    assert without_positions(header.text) == without_positions(stage.stranger.get(path, params=parameters).text)


def test_nothing_that_a_stranger_writes_reaches_the_owner(stage: Stage) -> None:
    before = stage.seen()
    stranger, ids = stage.stranger, stage.ids
    cloud = {"content-type": "application/cloudevents-batch+json"}
    answers: dict[str, httpx.Response] = {}

    def ask(method: str, path: str, **more: Any) -> None:
        answers[f"{method} {path}"] = stranger.request(method, path, **more)

    # The same identities, the same names, another content; and a void of what is the owner's.
    ask("POST", "/v1/events", content=json.dumps([used(f"zebra-{n}", 1_000_000) for n in range(5)]), headers=cloud)
    void = {**used("v", 0), "type": "taximeter.void", "data": {"source": "zebra-source", "id": "zebra-1"}}
    ask("POST", "/v1/events?", content=json.dumps([void]), headers=cloud)
    for kind, id in IDS.items():
        document = dict(BOOK[kind.replace("-", "_")][id])
        ask("PUT", f"/v1/{kind}/{id}", json=document)
    dearer = json.loads(json.dumps(BOOK).replace("0.37", "99"))
    ask("PUT", "/v1/catalogue", json=dearer)
    ask("POST", "/v1/rerate", json={"customer": "zebra-inc", "from": "2026-11-01T00:00:00Z", "dry_run": False})
    ask("POST", "/v1/simulate", json={"events": [used("s", 1)], "customers": ["zebra-inc"]})
    ask("POST", f"/v1/rejections/{ids['rejections']}/resend", json={})
    ask("POST", "/v1/rejections/resend", json={"ids": [ids["rejections"]], "dry_run": False})
    ask("POST", f"/v1/keys/{ids['keys']}/rotate", json={})
    ask("DELETE", f"/v1/keys/{ids['keys']}")
    ask("POST", "/v1/ticks", json={"time": "2027-06-01T00:00:00Z"})
    ask("GET", "/metrics")
    ask("GET", "/v1/status")
    ask("POST", "/openmeter/api/v1/events", json=used("o", 1))
    ask("DELETE", "/openmeter/api/v1/meters/zebra-tokens")
    ask(
        "POST",
        "/lago/api/v1/events",
        json={"event": {"transaction_id": "zebra-1", "external_subscription_id": "zebra-sub", "code": "zebra-tokens"}},
    )
    ask(
        "POST",
        "/stripe/v1/billing/meter_event_adjustments",
        data={"event_name": "zebra.used", "type": "cancel", "cancel[identifier]": "zebra-1"},
    )
    statuses = {path: answer.status_code for path, answer in answers.items()}
    assert all(status < 500 for status in statuses.values()), statuses
    for forbidden in ("POST /v1/ticks", "GET /metrics", "GET /v1/status"):
        assert statuses[forbidden] == 403, answers[forbidden].text
    for unknown in (
        f"POST /v1/keys/{ids['keys']}/rotate",
        f"DELETE /v1/keys/{ids['keys']}",
        f"POST /v1/rejections/{ids['rejections']}/resend",
    ):
        assert statuses[unknown] == 404, answers[unknown].text
    # What the stranger simulates is priced by its own book, not by the owner's.
    assert "0.37" not in answers["POST /v1/simulate"].text
    time.sleep(0.5)
    last = answers["POST /v1/events"].json()["position"]
    stage.owner.get("/v1/line-items", params={"position": last, "wait_ms": "20000"}).raise_for_status()
    assert stage.seen() == before


def test_tenants_do_not_meet_on_live_streams(stage: Stage) -> None:
    """From the very beginning of the log: the owner gets its alerts, the stranger none of them."""
    assert b"zebra-tenant" in heard(stage, stage.owner)
    assert b"zebra-tenant" not in heard(stage, stage.stranger)


def heard(stage: Stage, who: httpx.Client) -> bytes:
    """What a live stream says until it has been silent for two seconds."""
    said, address = b"", "/v1/live?interval_ms=10&last_event_id=0:0/0:0"
    with (
        contextlib.suppress(httpx.ReadTimeout),
        httpx.Client(base_url=stage.server.url, timeout=2) as client,
        client.stream("GET", address, headers={"authorization": who.headers["authorization"]}) as answer,
    ):
        assert answer.status_code == 200
        for part in answer.iter_raw():
            said += part
    assert b"retry:" in said
    return said
