"""Lago's customers: each one is a customer of the same name. Kept are the name, the time zone and the currency.

Addresses, e-mail and the like have no use here and are personal: they are not kept, and not given back.
"""

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ingest.compat.answering import json_response
from ingest.compat.lago.answers import Errors, changed_seconds, lago_id, page_of, unknown
from ingest.compat.lago.documents import CUSTOMER, Documents, Fields, Members, read_root
from schemas.access import tenant_of
from schemas.catalogue import Catalogue, Customer
from schemas.currency import MINOR_DIGITS

CURRENCY: Final = "lago.currency"
_REFUSED: Final = {"tax_codes": "taxes are written over /v1"}


class Customers:
    """The routes of customers."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def create(self, request: Request) -> Response:
        """`POST /customers`: makes a customer, or changes what is named of one."""
        tenant, members = tenant_of(request.scope), await read_root(request, "customer")
        errors: Errors = {}
        fields = Fields(members, errors)
        id = fields.text("external_id", mandatory=True) or ""
        zone, name = fields.text("timezone"), fields.text("name")
        currency = fields.choice("currency", tuple(MINOR_DIGITS), "")
        fields.refuse(_REFUSED)
        fields.finish()
        async with self._documents.changing:
            customers = (await self._documents.backend.catalogue(tenant)).customers
            before = customers.get(id, Customer())
            customer = msgspec.structs.replace(
                before,
                name=before.name if name is None else name,
                timezone=before.timezone if zone is None else zone,
                metadata=before.metadata | ({CURRENCY: currency} if currency else {}),
            )
            await self._documents.apply(tenant, Catalogue(customers={id: customer}), f"customers.{id}")
        return json_response({"customer": self._shown(tenant, id, customer)})

    async def find(self, request: Request) -> Response:
        """`GET /customers/{external_id}`."""
        tenant, id = tenant_of(request.scope), request.path_params["id"]
        customer = (await self._documents.backend.catalogue(tenant)).customers.get(id)
        if customer is None:
            raise unknown("customer")
        return json_response({"customer": self._shown(tenant, id, customer)})

    async def find_all(self, request: Request) -> Response:
        """`GET /customers`: all but the accounts that further subscriptions have (see `subscriptions`)."""
        tenant = tenant_of(request.scope)
        customers = sorted((await self._documents.backend.catalogue(tenant)).customers.items())
        rows, meta = page_of([row for row in customers if CUSTOMER not in row[1].metadata], request.query_params)
        return json_response({"customers": [self._shown(tenant, *row) for row in rows], "meta": meta})

    def _shown(self, tenant: str, id: str, customer: Customer) -> Members:
        return {
            "lago_id": lago_id("customer", tenant, id),
            "external_id": id,
            "name": customer.name or None,
            "currency": customer.metadata.get(CURRENCY),
            "timezone": customer.timezone,
            "applicable_timezone": customer.timezone or "UTC",
            "created_at": changed_seconds(self._documents.created(tenant, "customers", id)),
            "updated_at": changed_seconds(self._documents.changed(tenant, "customers", id)),
            "metadata": [],
            "taxes": [],
        }
