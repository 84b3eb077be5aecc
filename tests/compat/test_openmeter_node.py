"""OpenMeter's SDK for Node, as it is, against a running server."""

import json
from pathlib import Path

import pytest

from tests.compat.foreign import run_node
from tests.compat.openmeter_door import door


@pytest.mark.slow
def test_the_node_sdk(tmp_path: Path) -> None:
    with door(tmp_path) as server:
        seen = json.loads(run_node("openmeter.mjs", f"{server.url}/openmeter"))
    meter = seen["created"]
    assert (meter["slug"], meter["aggregation"], meter["groupBy"]) == ("node_tokens", "SUM", {"model": "$.model"})
    assert seen["got"] == meter["id"] and seen["listed"] == ["node_tokens"]
    assert seen["ingested"] is None
    assert [(row["value"], row["subject"], row["groupBy"]) for row in seen["queried"]["data"]] == [
        (0.2, "acme", {"model": "large"}),
        (5, "bob", {"model": "small"}),
    ]
    assert seen["queried"]["data"][0]["windowStart"] == "2026-11-05T00:00:00.000Z"
    assert [row["value"] for row in seen["filtered"]] == [5]
    assert sorted(seen["subjects"]) == ["acme", "bob"]
    assert [row["value"] for row in seen["posted"]["data"]] == [0.2]
    assert seen["values"] == ["large", "small"]
    assert seen["events"] == ["n2", "n2"], "a duplicate is kept, and counted once"
    assert seen["second"] == 2
    assert (seen["customer"], seen["customers"], seen["features"]) == ("node-customer", 1, ["node_feature"])
    assert seen["entitlement"] == 10
    value = {"hasAccess": True, "balance": 6, "usage": 4, "overage": 0, "totalAvailableGrantAmount": 10}
    assert seen["value"] == seen["valueV1"] == seen["ofSubject"] == value
    assert seen["access"] == {"entitlements": {"node_feature": value}}
    assert (seen["upserted"], seen["subject"], seen["updated"]) == ("Node", "node-subject", "Renamed")
    assert seen["deleted"] is None
    statuses = {name: seen[name]["status"] for name in ("exists", "wrong", "unknown", "notThere", "grouped", "inUse")}
    assert statuses == {"exists": 409, "wrong": 400, "unknown": 404, "notThere": 404, "grouped": 400, "inUse": 409}
    assert (seen["wrong"]["kind"], seen["wrong"]["title"]) == ("HTTPError", "Bad Request")
    assert seen["wrong"]["detail"].startswith('event 1: subject: found "", expected a text that is not empty')
    assert seen["notThere"]["detail"] == "no such resource: /openmeter/api/v1/plans"
