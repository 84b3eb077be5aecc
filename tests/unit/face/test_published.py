"""The published schemas are those of the code, and what people write and the engine says is valid by them."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

from benchmarks.workload import CATALOGUE, events
from schemas.times import parse_time
from taximeter.publish import FOLDER, published
from taximeter.rate_file import rate_events
from tests.golden.golden import read_case


def test_published_schemas_have_not_drifted() -> None:
    on_disk = {path.name: path.read_bytes() for path in Path(FOLDER).iterdir() if path.is_file()}
    assert on_disk == published(), "run `python -m taximeter.publish`, and see whether the change breaks a reader"


@pytest.fixture(scope="module")
def rated() -> Any:
    texts = [*events(2000, customers=20), b'{"broken":', next(events(1))]
    return rate_events(CATALOGUE, texts, as_of=1_800_000_000_000_000)


@pytest.mark.parametrize("name", ["line-item", "invoice", "rejection"])
def test_what_the_engine_says_is_valid(name: str, rated: Any) -> None:
    validator = Draft202012Validator(json.loads(published()[f"{name}.v1.json"]))
    documents = getattr(rated, name.replace("-", "_") + "s")
    assert documents
    for document in documents:
        validator.validate(json.loads(msgspec.json.encode(document)))


@pytest.mark.parametrize("name", ["in_order", "prorated_true_up", "alerts"])
def test_what_settles_an_invoice_is_valid(name: str) -> None:
    case = read_case(Path(__file__).parents[2] / "golden" / "invoices" / f"{name}.txt")
    events = [one.encode() for one in case.events if isinstance(one, str)]
    rated = rate_events(case.catalogue, events, parse_time(case.as_of or ""))
    for kind, documents in (("invoice", rated.invoices), ("alert", rated.alerts)):
        validator = Draft202012Validator(json.loads(published()[f"{kind}.v1.json"]))
        for document in documents:
            validator.validate(json.loads(msgspec.json.encode(document)))
            assert msgspec.json.decode(msgspec.json.encode(document), type=type(document)) == document


def test_a_catalogue_is_valid_and_a_wrong_one_is_not() -> None:
    validator = Draft202012Validator(json.loads(published()["catalogue.v1.json"]))
    book = yaml.safe_load(CATALOGUE)
    validator.validate(book)
    book["price_books"]["default"]["charges"]["gpu"]["price"]["package_sise"] = 3
    assert not validator.is_valid(book)
