"""Catalogue documents: what is written is read back, taken apart and joined, and merged without loss."""

import pytest
from hypothesis import HealthCheck, given, settings

from rating.catalogue import load_catalogue
from schemas.catalogue import Catalogue, CatalogueError, join_documents, merge, read_catalogue, split_documents
from schemas.faults import encode_document
from tests.oracle.generate import Thrown, cases

FEW = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
WHOLE = """
meters:
  tokens: {event: llm.request, aggregate: sum, value: $.tokens, dimensions: {model: $.model},
           where: {$.size: {gte: 2.50, lt: 1e3}, $.status: [ok, late, true, 7], $.tag: {exists: false}}}
price_books:
  launch: {currency: USD, effective_from: 2026-11-01T00:00:00Z, rounding: half_even,
           minimum: {amount: 50, prorate: true},
           thresholds: [{spend: 100}, {spend: "500.50", repeat: true}],
           charges: {tokens: {meter: tokens, group_by: [model], price: {model: unit, unit_amount: 0.000003}}}}
customers:
  acme: {subjects: [team-a, Team B!], timezone: Europe/Zurich, name: Acme}
subscriptions:
  acme-launch: {customer: acme, price_book: launch, start: 2026-11-01T00:00:00+01:00, end: 2027-11-01, anchor: 1}
default_subscription: {price_book: launch, period: year, anchor: 02-29}
""".replace("end: 2027-11-01,", "end: 2027-11-01T00:00:00.5Z,")


def read(text: str | bytes) -> Catalogue:
    catalogue, faults = read_catalogue(text)
    assert catalogue is not None and not faults, faults
    return catalogue


def test_a_catalogue_is_read_back_from_its_canonical_form() -> None:
    catalogue = read(WHOLE)
    text = encode_document(catalogue)
    assert encode_document(read(text)) == text
    assert b":2.5," in text and b":0.000003}" in text and b'"500.5"' in text


def test_yaml_and_json_of_the_same_documents_are_the_same() -> None:
    assert encode_document(read(encode_document(read(WHOLE)))) == encode_document(read(WHOLE))


@FEW
@given(cases())
def test_any_catalogue_compiles_to_the_same_from_its_canonical_form(case: Thrown) -> None:
    one = load_catalogue(case.catalogue)
    text = encode_document(one.documents)
    other = load_catalogue(text)
    assert encode_document(other.documents) == text
    assert set(other.rates) == set(load_catalogue(encode_document(other.documents)).rates)
    assert {plan.price_book for plan in one.plans} == {plan.price_book for plan in other.plans}


@FEW
@given(cases())
def test_documents_taken_apart_and_joined_are_the_catalogue(case: Thrown) -> None:
    catalogue = read(case.catalogue)
    filed = split_documents(catalogue)
    assert len({one.key for one in filed}) == len(filed)
    assert encode_document(join_documents(filed)) == encode_document(catalogue)


@FEW
@given(cases(), cases())
def test_a_merge_keeps_what_is_not_named_again(one: Thrown, other: Thrown) -> None:
    before, fresh = read(one.catalogue), read(other.catalogue)
    merged = merge(before, fresh)
    assert merged.meters == {**before.meters, **fresh.meters}
    assert merged.default_subscription == (fresh.default_subscription or before.default_subscription)
    assert encode_document(merge(merged, fresh)) == encode_document(merged)
    assert encode_document(merge(Catalogue(), before)) == encode_document(before)


@pytest.mark.parametrize("text", ["", "{}", "# only words", "---\n", "meters: {}"])
def test_nothing_is_an_empty_catalogue(text: str) -> None:
    assert encode_document(read(text)) == b"{}"


def test_numbers_are_read_from_their_text() -> None:
    catalogue = read(WHOLE.replace("0.000003", "0.100000000001").replace("spend: 100}", "spend: 9007199254740993}"))
    text = encode_document(catalogue)
    assert b":0.100000000001}" in text and b'"9007199254740993"' in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not YAML"),
        ("a: {b: 1", "not YAML"),
        ("meters: {a: {}, a: {}}", "the key 'a' stands twice"),
        ("meters: {}\nmeters: {}", "the key 'meters' stands twice"),
        ("a: *b", "not YAML"),
        ("a: !!python/object:os.system {}", "not YAML"),
        ("\x00", "not YAML"),
        ("a: 1\n--- \nb: 2", "not YAML"),
        ("? [a, b]\n: 1", "not YAML"),
        ("a: !!bool maybe", "not YAML"),
        ("[" * 3000, "not YAML"),
        (b"\xff\xfe\xfa", "not YAML"),
    ],
)
def test_what_is_no_yaml_is_one_fault(text: str | bytes, message: str) -> None:
    catalogue, faults = read_catalogue(text)
    assert catalogue is None
    assert len(faults) == 1
    assert message in str(faults[0])


def test_all_faults_are_in_the_error() -> None:
    with pytest.raises(CatalogueError) as refused:
        load_catalogue("meters: {a: {}}\nprice_books: {b: {}}\nmetres: {}")
    assert {fault.path for fault in refused.value.faults} == {
        "metres", "meters.a.event", "meters.a.aggregate", "price_books.b.currency", "price_books.b.charges",
    }  # fmt: skip
    assert all(str(fault) in str(refused.value) for fault in refused.value.faults)
