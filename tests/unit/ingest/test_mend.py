"""Which events make good for a rejection: their ids, what they take back, and that no number changes on the way."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mend import Change, MendRefused, Rejected, mend, merge_patch
from ingest.parse import parse_texts
from schemas.rejection import CODES, EXPLAINED
from tests.unit.ingest.doors import event

RAW = msgspec.Raw


def rejected(code: Any = "missing_value", text: str | None = None, **changes: Any) -> Rejected:
    shown = json.dumps(event(**changes)) if text is None else text
    return Rejected(id="rej_0:7", code=code, event=RAW(shown.encode()))


def sent(of: Rejected, **change: Any) -> list[dict[str, Any]]:
    raws = {name: RAW(json.dumps(change[name]).encode()) for name in ("event", "merge") if name in change}
    made = mend(of, Change(**{**change, **raws}))
    events = [json.loads(text) for text in made.events]
    assert (made.source, made.id) == (events[-1]["source"], events[-1]["id"])
    assert not parse_texts(made.events).refused, "the door can read them"
    return events


def test_every_code_is_explained() -> None:
    assert set(EXPLAINED) == set(CODES)
    assert all(one.meaning.endswith(".") and one.what_to_do.endswith(".") for one in EXPLAINED.values())


def test_what_is_in_the_log_is_taken_back_and_comes_under_another_id() -> None:
    void, new = sent(rejected(), merge={"data": {"tokens": 7}}, reason="typo")
    assert void == {
        "specversion": "1.0", "id": "e1+void.1", "source": "gateway", "type": "taximeter.void", "subject": "acme",
        "mends": "rej_0:7",
        "data": {"source": "gateway", "id": "e1", "reason": "typo", "by": {"source": "gateway", "id": "e1+mend.1"}},
    }  # fmt: skip
    assert new == event(id="e1+mend.1", mends="rej_0:7", data={"tokens": 7, "model": "large"})


def test_a_mended_event_that_is_mended_again_counts_on() -> None:
    void, new = sent(rejected(id="e1+mend.9"))
    assert (void["id"], void["data"]["id"], new["id"]) == ("e1+void.10", "e1+mend.9", "e1+mend.10")


@pytest.mark.parametrize("code", [code for code in CODES if not EXPLAINED[code].used_up and code != "rerate_refused"])
def test_what_never_went_in_keeps_its_id(code: str) -> None:
    [new] = sent(rejected(code, source=...), merge={"source": "gate"})
    assert new == event(source="gate", mends="rej_0:7")


def test_a_conflict_is_another_event_or_takes_the_place_of_the_first() -> None:
    [new] = sent(rejected("conflict"))
    assert new["id"] == "e1+mend.1"
    void, new = sent(rejected("conflict"), replace=True)
    assert void["data"]["id"] == "e1" and new["id"] == "e1+mend.1"


def test_a_whole_event_may_be_given() -> None:
    [new] = sent(rejected("too_large", '"{\\"id\\": … (300000 bytes)"'), event=event(id="small"))
    assert new == event(id="small", mends="rej_0:7")
    void, new = sent(rejected(), event=event(id="whatever", subject="team-a", data={"tokens": 1}))
    assert void["subject"] == "acme", "the void goes where the old one went"
    assert (new["id"], new["subject"]) == ("e1+mend.1", "team-a")


@pytest.mark.parametrize(
    ("of", "change", "code", "said"),
    [
        (rejected("rerate_refused"), {}, "no_event", "expected the rejection of a usage event"),
        (rejected("invalid_json", '"{broken"'), {}, "mend_required", "give the mended event whole"),
        (rejected("invalid_event", id=...), {}, "mend_required", "id: found no text"),
        (rejected(), {"event": [1]}, "invalid_mend", "event: found no JSON object"),
        (rejected(), {"merge": 5}, "invalid_mend", "merge: found no JSON object"),
        (rejected(), {"replace": True}, "invalid_mend", "only where the code is conflict"),
    ],
)
def test_what_cannot_be_made_good_is_said(of: Rejected, change: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(MendRefused, match=said) as refused:
        sent(of, **change)
    assert refused.value.code == code


def test_no_number_passes_through_a_float() -> None:
    data = '{"tokens":0.10000000000000000001,"big":123456789012345678901234567890,"e":1e-9,"model":"x"}'
    of = rejected(text=json.dumps(event(data=...))[:-1] + f', "data": {data}}}')
    for change in (Change(), Change(merge=RAW(b'{"data":{"model":"y","more":0.30000000000000000004}}'))):
        text = mend(of, change).events[-1].decode()
        for number in ("0.10000000000000000001", "123456789012345678901234567890", "1e-9"):
            assert number in text
    assert "0.30000000000000000004" in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def plain_merge(target: Any, patch: Any) -> Any:
    """The pseudocode of RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = plain_merge(found.get(name), value)
    return found


@given(JSON, JSON)
def test_a_merge_is_that_of_the_rfc(target: Any, patch: Any) -> None:
    found = merge_patch(RAW(json.dumps(target).encode()), RAW(json.dumps(patch).encode()))
    assert json.loads(bytes(found)) == plain_merge(target, patch)
