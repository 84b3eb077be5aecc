"""Customers and subjects of this dialect, as our customer documents: the key is the document's id.

What their customer has and ours has not (an e-mail address, a currency, a postal address) is kept in the document's
metadata under `openmeter:NAME`, and shown again.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from ingest.compat.backend import Backend
from ingest.compat.openmeter.answers import (
    Refusal,
    as_json,
    bad,
    map_of_texts,
    read_json,
    read_object,
    required_text,
    show,
    tenant,
    text_of,
    times_of,
    unknown_thing,
    whole,
)
from ingest.compat.openmeter.indexes import customers_by_id, id_of, id_of_customer, owners_of
from schemas.catalogue import Catalogue, Customer
from schemas.identity import IDENTIFIER
from schemas.limits import ID_LENGTH_MAX

_KEPT: Final = ("description", "primaryEmail", "currency", "billingAddress")
_PREFIX: Final = "openmeter:"
_MANY: Final = 1000


async def create_customer(backend: Backend, request: Request) -> Response:
    """`POST /api/v1/customers`: 201."""
    body = await read_object(request)
    name = required_text(body, "name", 256)
    subjects = _subjects(body) or []
    key = text_of(body, "key", 256) or id_of("customer", name, *subjects)
    catalogue = await backend.catalogue(tenant(request))
    _check_key(key)
    if key in catalogue.customers:
        raise Refusal(409, "customer_exists", f"key: found the customer {key!r}, expected another key")
    _check_subjects(catalogue, key, subjects)
    fresh = Customer(name=name, subjects=subjects, metadata=_metadata(body))
    await backend.apply(tenant(request), Catalogue(customers={key: fresh}))
    return await _answer(backend, request, key, 201)


async def update_customer(backend: Backend, request: Request) -> Response:
    """`PUT /api/v1/customers/{idOrKey}`: name, subjects, metadata; its key stays."""
    key, known = await find_customer(backend, request)
    body = await read_object(request)
    asked = text_of(body, "key", 256)
    if asked is not None and asked != key:
        raise bad("key", f"found {asked!r}, expected {key!r}: what was counted belongs to it")
    subjects = _subjects(body)
    _check_subjects(await backend.catalogue(tenant(request)), key, subjects or [])
    fresh = replace(
        known,
        name=required_text(body, "name", 256),
        metadata=_metadata(body),
        subjects=known.subjects if subjects is None else subjects,
    )
    await backend.apply(tenant(request), Catalogue(customers={key: fresh}))
    return await _answer(backend, request, key, 200)


async def list_customers(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/customers`: a page with `items`, `page`, `pageSize`, `totalCount`."""
    asked = request.query_params
    catalogue = await backend.catalogue(tenant(request))
    keys = [key for key, one in sorted(catalogue.customers.items()) if _matches(key, one, asked)]
    page, size = whole(request, "page", 1, 1_000_000), whole(request, "pageSize", 100, _MANY)
    shown = keys[(page - 1) * size : page * size]
    items = [show_customer(backend, tenant(request), key, catalogue.customers[key]) for key in shown]
    return as_json({"items": items, "page": page, "pageSize": size, "totalCount": len(keys)})


def _matches(key: str, customer: Customer, asked: Mapping[str, str]) -> bool:
    """Whether what the filters name stands in the customer, without case."""
    texts = {"key": [key], "name": [customer.name], "subject": customer.subjects or [key]}
    email = customer.metadata.get(_PREFIX + "primaryEmail", "")
    wanted = {name: asked.get(name, "").lower() for name in (*texts, "primaryEmail")}
    return wanted["primaryEmail"] in email.lower() and all(
        any(wanted[name] in text.lower() for text in found) for name, found in texts.items()
    )


async def get_customer(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/customers/{idOrKey}`."""
    key, customer = await find_customer(backend, request)
    return as_json(show_customer(backend, tenant(request), key, customer))


async def find_customer(backend: Backend, request: Request) -> tuple[str, Customer]:
    """The customer of a path, by key or id. Raises: Refusal (404)."""
    asked = request.path_params["customer"]
    catalogue = await backend.catalogue(tenant(request))
    key = asked if asked in catalogue.customers else customers_by_id(catalogue).get(asked)
    if key is None:
        raise unknown_thing("customer", asked)
    return key, catalogue.customers[key]


def show_customer(backend: Backend, tenant: str, key: str, customer: Customer) -> dict[str, Any]:
    """A customer as this dialect shows it."""
    kept = {name: customer.metadata.get(_PREFIX + name) for name in _KEPT}
    shown: dict[str, Any] = {
        "id": id_of_customer(key),
        "key": key,
        "name": customer.name or key,
        "usageAttribution": {"subjectKeys": list(customer.subjects) or [key]},
        **times_of(backend.filed(tenant, "customers", key)),
    }
    shown |= {name: text for name, text in kept.items() if text is not None}
    if kept["billingAddress"] is not None:
        shown["billingAddress"] = msgspec.Raw(kept["billingAddress"].encode())
    metadata = {name: text for name, text in customer.metadata.items() if not name.startswith(_PREFIX)}
    return shown | ({"metadata": metadata} if metadata else {})


# Subjects -----------------------------------------------------------------------------------------


async def upsert_subjects(backend: Backend, request: Request) -> Response:
    """`POST /api/v1/subjects`: 200 with the subjects. One that no customer claims gets a customer of its own."""
    body = await read_json(request)
    asked = body if isinstance(body, list) else [body]
    catalogue = await backend.catalogue(tenant(request))
    owners = owners_of(catalogue)
    fresh: dict[str, Customer] = {}
    keys: list[str] = []
    for one in asked[: _MANY + 1]:
        if not isinstance(one, dict):
            raise bad("key", f"found {show(one)}, expected an object with a key")
        key = required_text(one, "key", ID_LENGTH_MAX)
        owner = owners.get(key, key)
        known = catalogue.customers.get(owner)
        keys.append(key)
        if known is None:
            _check_key(key)
            fresh[key] = _of_subject(Customer(subjects=[key]), one)
        elif owner == key:
            fresh[key] = _of_subject(fresh.get(key, known), one)
    if len(keys) > _MANY:
        raise bad("key", f"found more than {_MANY} subjects, expected at most as many")
    if fresh:
        await backend.apply(tenant(request), Catalogue(customers=fresh))
    return as_json(await _show_subjects(backend, request, list(dict.fromkeys(keys))))


async def list_subjects(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/subjects`: of every customer."""
    catalogue = await backend.catalogue(tenant(request))
    return as_json(await _show_subjects(backend, request, sorted(owners_of(catalogue))))


async def get_subject(backend: Backend, request: Request) -> Response:
    """`GET /api/v1/subjects/{idOrKey}`."""
    asked = request.path_params["subject"]
    owners = owners_of(await backend.catalogue(tenant(request)))
    key = asked if asked in owners else next((key for key in owners if id_of("subject", key) == asked), None)
    if key is None:
        raise unknown_thing("subject", asked)
    return as_json((await _show_subjects(backend, request, [key]))[0])


def _of_subject(customer: Customer, asked: dict[str, Any]) -> Customer:
    name = text_of(asked, "displayName", 256)
    if asked.get("metadata") is not None:
        if not isinstance(asked["metadata"], dict):
            raise bad("metadata", f"found {show(asked['metadata'])}, expected a map")
        plain = {key: value if isinstance(value, str) else show(value) for key, value in asked["metadata"].items()}
        customer = replace(customer, metadata={**customer.metadata, **plain})
    return customer if name is None else replace(customer, name=name)


async def _show_subjects(backend: Backend, request: Request, keys: list[str]) -> list[dict[str, Any]]:
    catalogue = await backend.catalogue(tenant(request))
    owners = owners_of(catalogue)
    shown = []
    for key in keys:
        owner = owners.get(key, key)
        customer = catalogue.customers[owner]
        times = times_of(backend.filed(tenant(request), "customers", owner))
        one: dict[str, Any] = {"id": id_of("subject", key), "key": key, **times}
        if owner == key:
            one["displayName"] = customer.name or key
            metadata = {name: text for name, text in customer.metadata.items() if not name.startswith(_PREFIX)}
            one |= {"metadata": metadata} if metadata else {}
        shown.append(one)
    return shown


# Bodies -------------------------------------------------------------------------------------------


async def _answer(backend: Backend, request: Request, key: str, status: int) -> Response:
    customer = (await backend.catalogue(tenant(request))).customers[key]
    return as_json(show_customer(backend, tenant(request), key, customer), status)


def _subjects(body: Mapping[str, Any]) -> list[str] | None:
    attribution = body.get("usageAttribution")
    if attribution is None:
        return None
    keys = attribution.get("subjectKeys") if isinstance(attribution, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, str) and key for key in keys):
        raise bad("usageAttribution", f'found {show(attribution)}, expected {{"subjectKeys": […]}} with texts')
    return list(dict.fromkeys(keys))


def _check_key(key: str) -> None:
    if not IDENTIFIER.match(key):
        raise bad("key", f"found {key[:128]!r}, expected 1 to {ID_LENGTH_MAX} letters, digits and . _ - : @ /")


def _check_subjects(catalogue: Catalogue, key: str, subjects: list[str]) -> None:
    """Raises: Refusal where another customer has one of the subjects."""
    owners = owners_of(catalogue)
    for subject in subjects:
        if owners.get(subject, key) != key:
            detail = (
                f"usageAttribution.subjectKeys: found {subject!r}, which belongs to the customer {owners[subject]!r}"
            )
            raise Refusal(409, "subject_taken", detail)


def _metadata(body: Mapping[str, Any]) -> dict[str, str]:
    found = map_of_texts(body, "metadata")
    for name in _KEPT[:-1]:
        text = text_of(body, name)
        if text is not None:
            found[_PREFIX + name] = text
    if body.get("billingAddress") is not None:
        address = body["billingAddress"]
        plain = {name: text for name, text in address.items() if text is not None} if isinstance(address, dict) else ""
        kept = map_of_texts({"billingAddress": plain}, "billingAddress")
        found[_PREFIX + "billingAddress"] = msgspec.json.encode(kept).decode()
    return found
