"""The catalogue: meters, price books, customers and subscriptions, as documents that people write.

Here stands what a document may hold; `rating.catalogue` checks what documents say of each other and compiles
them, and each price model owns its own parameters (`rating.prices`), so a price is a plain mapping here.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from schemas.access import DEFAULT_TENANT
from schemas.faults import MISSING, Faults, encode_document, join, read
from schemas.limits import EVENT_TEXT_LENGTH_MAX, EXPRESSION_LENGTH_MAX, ID_LENGTH_MAX
from schemas.plain import read_plain

Identifier = Annotated[str, Meta(pattern=rf"^[A-Za-z0-9._\-:@/]{{1,{ID_LENGTH_MAX}}}$")]
Path = Annotated[str, Meta(pattern=r"^\$", max_length=ID_LENGTH_MAX)]
Expression = Annotated[str, Meta(min_length=1, max_length=EXPRESSION_LENGTH_MAX)]
EventText = Annotated[str, Meta(min_length=1, max_length=EVENT_TEXT_LENGTH_MAX)]
Text = Annotated[str, Meta(max_length=2000)]
Metadata = dict[Annotated[str, Meta(max_length=256)], Text]
"""What others keep at a document; nothing of it has a meaning here."""

Aggregate = Literal["count", "sum", "min", "max", "avg", "latest", "unique_count", "time_weighted", "percentile"]
PeriodUnit = Literal["hour", "day", "week", "month", "quarter", "year"]
When = Literal["in_arrears", "in_advance"]


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What all documents share: frozen, by keyword, and nothing unknown in it."""


class Convert(Document, frozen=True, kw_only=True):
    """Units into other units: divided or multiplied by a number, then rounded to `digits` after the point.

    `round: up` is away from nought, `half_up` half away from nought, `down` towards it; without `round` it is exact
    (to 12 digits). `digits` may be below nought. `per`: each event's value, or the total.
    """

    divide: Decimal | None = None
    multiply: Decimal | None = None
    round: Literal["up", "down", "half_up"] | None = None
    digits: Annotated[int, Meta(ge=-26, le=12)] = 0
    per: Literal["event", "total"] = "total"


class Meter(Document, frozen=True, kw_only=True):
    """What is counted: `aggregate` over the `value` of the events of one type that pass `where`.

    `value` is a path or an expression over paths. `where` holds a condition for each path: a value, a list of values,
    or a mapping of `not`, `gt`, `gte`, `lt`, `lte` and `exists`. `dimensions` names what the usage can be grouped by.

    For `time_weighted`: `key` names one gauge of several, `unit` the time by which its level is multiplied (`period`:
    the share of the whole billing period), `reads` whether a value is the gauge's new level or a change of it, and
    `align: day` lets a value count from the beginning of its local day. For `percentile`: which one (`"95"`).

    `archived` is said to people and to other systems' doors, which show the meter no more; it counts as before.
    """

    event: EventText
    aggregate: Aggregate
    value: Expression | None = None
    where: dict[Path, Any] = {}
    dimensions: dict[Identifier, Path] = {}
    convert: Convert | None = None
    key: Path | None = None
    unit: Literal["second", "hour", "day", "period"] | None = None
    reads: Literal["level", "change"] = "level"
    align: Literal["day"] | None = None
    percentile: Decimal | None = None
    description: Text = ""
    name: Text = ""
    metadata: Metadata = {}
    archived: bool = False


class Discount(Document, frozen=True, kw_only=True):
    """What is taken off a charge: a percentage or an amount of its price, or units of its usage. One of them."""

    percent: Decimal | None = None
    amount: Decimal | None = None
    units: Decimal | None = None


class Tax(Document, frozen=True, kw_only=True):
    """A tax on what is left after discounts and credits. `inclusive`: the prices hold it already.

    With `id` alone it names a document of `tax_rates`.
    """

    name: Text = ""
    rate: Decimal | None = None
    inclusive: bool = False
    id: Identifier | None = None


class Charge(Document, frozen=True, kw_only=True):
    """What a price book asks for a meter's usage (or, without a meter, for the period itself)."""

    price: dict[str, Any]
    meter: Identifier | None = None
    group_by: list[Identifier] = []
    free_units: Decimal = Decimal(0)
    discount: Discount | None = None
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    bill_zero_usage: bool = False
    when: When = "in_arrears"
    prorate: bool = False
    taxes: list[Tax] | None = None
    description: Text = ""


class Minimum(Document, frozen=True, kw_only=True):
    """A commitment per billing period: what the charges fall short of it is billed by its own line."""

    amount: Decimal
    prorate: bool = False
    true_up: bool = True


class Threshold(Document, frozen=True, kw_only=True):
    """A level of spend in a period at which an invoice is made at once; `repeat` is every multiple of it."""

    spend: Decimal
    repeat: bool = False


class Budget(Document, frozen=True, kw_only=True):
    """Spend that a period should not exceed: an alert, and no invoice, at each share of it (in percent)."""

    amount: Decimal
    alerts: list[Decimal] = msgspec.field(default_factory=lambda: [Decimal(80), Decimal(100)])


class Prices(Document, frozen=True, kw_only=True):
    """Prices in one currency, in force from `effective_from`: a price book's body, or one of its versions.

    `maximum` caps a period's charges; `overage_factor` multiplies what is above `minimum`. `carry_usage`: units of the
    period's earlier segments stay used when this version takes force. `corrections`: usage that comes after a
    period's close is billed on an invoice of its own at the next tick, or on the subscription's next one.
    """

    currency: str
    charges: dict[Identifier, Charge]
    effective_from: datetime | None = None
    rounding: Literal["half_up", "half_even"] = "half_up"
    tax_rounding: Literal["per_invoice", "per_line"] = "per_invoice"
    minimum: Decimal | Minimum | None = None
    overage_factor: Decimal | None = None
    maximum: Decimal | None = None
    thresholds: list[Threshold] = []
    budget: Budget | None = None
    carry_usage: bool = True
    corrections: Literal["invoice", "next"] = "invoice"
    description: Text = ""


class PriceBook(Document, frozen=True, kw_only=True):
    """One body of prices, or `versions` of it by their time of effect (rising; the first may have none).

    The fields beside `versions` and `description` are those of `Prices`.
    """

    currency: str | None = None
    charges: dict[Identifier, Charge] | None = None
    effective_from: datetime | None = None
    rounding: Literal["half_up", "half_even"] = "half_up"
    tax_rounding: Literal["per_invoice", "per_line"] = "per_invoice"
    minimum: Decimal | Minimum | None = None
    overage_factor: Decimal | None = None
    maximum: Decimal | None = None
    thresholds: list[Threshold] = []
    budget: Budget | None = None
    carry_usage: bool = True
    corrections: Literal["invoice", "next"] = "invoice"
    description: Text = ""
    versions: list[Prices] | None = None
    metadata: Metadata = {}

    @staticmethod
    def find_faults(value: dict[str, Any], path: str, faults: Faults) -> None:
        """Without versions there are a currency and charges."""
        for name in ("currency", "charges"):
            if "versions" not in value and name not in value:
                faults.add(join(path, name), "missing")

    def bodies(self) -> list[Prices]:
        """Every version, the first one first."""
        if self.versions is not None:
            return self.versions
        fields = {name: getattr(self, name) for name in Prices.__struct_fields__}
        return [Prices(**{**fields, "currency": self.currency or "", "charges": self.charges or {}})]


class Coupon(Document, frozen=True, kw_only=True):
    """What is taken off a customer's invoices: `percent` or `amount`, `once`, for so many periods, or for ever.

    With `id` alone, at a customer, it names a document of `coupons`.
    """

    id: Identifier | None = None
    percent: Decimal | None = None
    amount: Decimal | None = None
    duration: Annotated[int, Meta(ge=1, le=1200)] | Literal["once", "forever"] = "once"


class CreditGrant(Document, frozen=True, kw_only=True):
    """Money that a customer has paid or been given before. A lower `priority` is drawn first.

    `charges`: only what these ask. `low_balance`: an alert when the balance falls to it. `rollover`: what of the
    balance is left at the end of each billing period, at most; without it all of it.
    """

    amount: Decimal
    id: Identifier | None = None
    customer: Identifier | None = None
    currency: str | None = None
    priority: Annotated[int, Meta(ge=0, le=1_000_000)] = 100
    effective_from: datetime | None = None
    expires_at: datetime | None = None
    charges: list[Identifier] = []
    low_balance: Decimal | None = None
    rollover: Decimal | None = None


class Overrides(Document, frozen=True, kw_only=True):
    """What differs for one subscription or customer: each named charge's named keys are replaced whole."""

    charges: dict[Identifier, dict[str, Any]] = {}
    minimum: Decimal | Minimum | None = None
    maximum: Decimal | None = None
    overage_factor: Decimal | None = None
    thresholds: list[Threshold] | None = None
    budget: Budget | None = None


class Customer(Document, frozen=True, kw_only=True):
    """Who pays. A customer owns subjects; where no customer claims a subject, the subject itself is the customer.

    `overrides` stand for every price book that has the named charges; a subscription's own come after them.
    """

    subjects: list[EventText] = []
    timezone: str | None = None
    taxes: list[Tax] = []
    coupons: list[Coupon] = []
    credit_grants: list[CreditGrant] = []
    overrides: Overrides = Overrides()
    name: Text = ""
    metadata: Metadata = {}


class Terms(Document, frozen=True, kw_only=True):
    """How a subscription's billing periods are cut.

    `anchor`: a weekday (1 is Monday), a day of the month (31 is the last day of a shorter month) or `MM-DD`;
    by default that of `start` (the 1st, Monday or January 1st where there is no start).
    """

    price_book: Identifier
    period: PeriodUnit = "month"
    anchor: Annotated[int, Meta(ge=1, le=31)] | str | None = None
    timezone: str | None = None


class Phase(Document, frozen=True, kw_only=True):
    """From `start` on, a subscription has another price book, other overrides, or is free (`trial`)."""

    start: datetime
    price_book: Identifier | None = None
    overrides: Overrides = Overrides()
    trial: bool = False


class Pause(Document, frozen=True, kw_only=True):
    """A stretch `[start, end)` in which a subscription asks nothing and counts nothing."""

    start: datetime
    end: datetime | None = None


class Subscription(Terms, frozen=True, kw_only=True):
    """A customer's agreement to a price book from `start` to `end`; free until `trial_end`.

    `phases` rise by `start`; each one replaces price book and overrides until the next. Upgrades, downgrades and
    ramps are phases.
    """

    customer: Identifier
    start: datetime
    end: datetime | None = None
    trial_end: datetime | None = None
    overrides: Overrides = Overrides()
    phases: list[Phase] = []
    pauses: list[Pause] = []
    metadata: Metadata = {}


class Feature(Document, frozen=True, kw_only=True):
    """What customers may be entitled to; `meter` measures its use, of which only what passes `filters` counts.

    `filters`: for a dimension of the meter the values of which one must be there.
    """

    meter: Identifier | None = None
    filters: dict[Identifier, list[EventText]] = {}
    name: Text = ""
    metadata: Metadata = {}
    archived: bool = False

    @staticmethod
    def find_faults(value: dict[str, Any], path: str, faults: Faults) -> None:
        """Without a meter there is nothing to filter."""
        if value.get("filters") and value.get("meter") is None:
            faults.add(join(path, "filters"), "stands without a meter, expected none")


class Entitlement(Document, frozen=True, kw_only=True):
    """A customer's right to a feature from `start` to `end`. It is asked for and changes no bill.

    `metered`: `allowance` units of the feature's meter in each period; with `soft_limit` more may be used. Periods are
    a `period` long and begin at `anchor` (`start` without it), to the very moment, in UTC. Usage counts from `start`.
    `static`: `config`, a JSON text. `boolean`: a right and nothing else.
    """

    customer: Identifier
    feature: Identifier
    start: datetime
    kind: Literal["metered", "static", "boolean"] = "metered"
    allowance: Decimal = Decimal(0)
    period: Literal["day", "week", "month", "year"] = "month"
    anchor: datetime | None = None
    soft_limit: bool = False
    config: Annotated[str, Meta(max_length=65_536)] | None = None
    end: datetime | None = None
    metadata: Metadata = {}


class Catalogue(Document, frozen=True, kw_only=True):
    """All documents together. `default_subscription` serves customers that have no subscription of their own."""

    meters: dict[Identifier, Meter] = {}
    price_books: dict[Identifier, PriceBook] = {}
    customers: dict[Identifier, Customer] = {}
    subscriptions: dict[Identifier, Subscription] = {}
    coupons: dict[Identifier, Coupon] = {}
    credit_grants: dict[Identifier, CreditGrant] = {}
    tax_rates: dict[Identifier, Tax] = {}
    features: dict[Identifier, Feature] = {}
    entitlements: dict[Identifier, Entitlement] = {}
    default_subscription: Terms | None = None


def merge(before: Catalogue, fresh: Catalogue) -> Catalogue:
    """Documents are added and changed; one that is not named again stays in force (end a subscription by `end`)."""
    return msgspec.structs.replace(
        fresh,
        default_subscription=fresh.default_subscription or before.default_subscription,
        **{kind: {**getattr(before, kind), **getattr(fresh, kind)} for kind in KINDS},
    )


KINDS = (
    "meters", "price_books", "customers", "subscriptions", "coupons", "credit_grants", "tax_rates", "features",
    "entitlements",
)  # fmt: skip
"""The kinds of documents that have ids."""


class Filed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One document as the topic `taximeter.catalogue` holds it, under the key `kind/id`, or, of a tenant other than
    `default`, `tenant kind/id`.

    `version` counts the document's changes from 1, `changed` is when this one was made. Records that were written
    before there were versions have neither: whoever reads the topic counts them.
    """

    kind: str
    id: str
    document: msgspec.Raw
    version: int | None = None
    changed: str | None = None
    tenant: str = DEFAULT_TENANT

    @property
    def key(self) -> bytes:
        """The record's key. No tenant's name holds a space, so no two documents share one."""
        lead = "" if self.tenant == DEFAULT_TENANT else f"{self.tenant} "
        return f"{lead}{self.kind}/{self.id}".encode()


def split_documents(catalogue: Catalogue, tenant: str = DEFAULT_TENANT) -> list[Filed]:
    """Every document of a tenant's catalogue by itself."""
    found = [
        Filed(kind, id, msgspec.Raw(encode_document(document)), tenant=tenant)
        for kind in KINDS
        for id, document in getattr(catalogue, kind).items()
    ]
    if catalogue.default_subscription is not None:
        document = msgspec.Raw(encode_document(catalogue.default_subscription))
        found.append(Filed("default_subscription", "default", document, tenant=tenant))
    return found


def join_documents(filed: Iterable[Filed]) -> Catalogue:
    """The catalogue that `split_documents` took apart; of several documents under one key the last counts.

    Raises: CatalogueError.
    """
    parts: dict[str, Any] = {}
    for one in filed:
        if one.kind == "default_subscription":
            parts[one.kind] = one.document
        else:
            parts.setdefault(one.kind, {})[one.id] = one.document
    catalogue, faults = read_catalogue(msgspec.json.encode(parts))
    if catalogue is None:
        raise CatalogueError(faults)
    return catalogue


class CatalogueError(ValueError):
    """A catalogue that is refused whole: `faults` lists everything that is wrong with it, with its path."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        super().__init__(f"{len(faults)} fault(s) in the catalogue:\n" + "\n".join(f"  {fault}" for fault in faults))


def read_catalogue(text: str | bytes) -> tuple[Catalogue | None, Faults]:
    """The catalogue of a YAML (or JSON) text, and every fault in the form of its documents."""
    faults = Faults()
    value = read_plain(text, faults)
    if value is MISSING:
        return None, faults
    catalogue = read(Catalogue, {} if value is None else value, "", faults)
    return (None if catalogue is MISSING else catalogue), faults
