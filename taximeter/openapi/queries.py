"""The queries' operations. What a parameter may be is taken from the code that reads it."""

from typing import Any, Final

from rating.spend.answers import Spend
from rating.spend.app import INVOICE_KINDS
from rating.spend.costs import Cost
from rating.spend.live import INTERVAL_MS_DEFAULT, INTERVAL_MS_MAX
from rating.spend.parameters import LIMIT_DEFAULT, LIMIT_MAX, WAIT_MS_DEFAULT, WAIT_MS_MAX
from rating.spend.ranking import ORDERS, Ranked
from rating.spend.rejections import ListedRejection
from rating.spend.tables import FORMATS, MEDIA_TYPES
from rating.spend.usage import TOTAL, UsageWindow
from rating.spend.windows import UNITS
from schemas.output import Alert, Invoice, LineItem
from schemas.rejection import CODES
from taximeter.openapi.operation import (
    MAYBE_TEXT,
    TENANT,
    TEXT,
    TIME,
    WHOLE,
    Answer,
    Content,
    Operation,
    Parameter,
    Schema,
    json_answer,
    listed,
    members,
    one_of,
    whole,
)

CUSTOMER: Final = Parameter("customer", TEXT, "The customer. A slash in it may be percent-encoded.", "path")
_WAITING: Final = (
    Parameter("position", TEXT, "Wait until the answer includes this position."),
    Parameter("wait_ms", whole(0, WAIT_MS_MAX, WAIT_MS_DEFAULT), "How long at most."),
)
_FORMAT: Final = Parameter("format", one_of(*FORMATS), "The form of the answer; `Accept` says it too.")
PAST: Final = (
    Parameter("as_of", TIME, "Only usage whose own time is before it; the clock stands at it."),
    Parameter("as_known_at", TIME, "Only what had arrived by then, and the catalogue as it was then."),
)
COMMON: Final = (TENANT, *_WAITING, _FORMAT)
_PAGE: Final = (
    Parameter("limit", whole(1, LIMIT_MAX, LIMIT_DEFAULT), "Rows of a page."),
    Parameter("cursor", TEXT, "The `next_cursor` of the page before."),
)
THROUGH: Final = {
    "type": "object",
    "additionalProperties": WHOLE,
    "description": "For each partition the position that the answer includes at least.",
}
_TAG: Final = "Spend and usage"
_PROBLEMS: Final = (400, 404, 405, 500, 504)
_PERIOD: Final = Parameter("period", TEXT, "`current` (by default), `all`, or the start of a period.")


def _of(name: str, what: str = "") -> Parameter:
    return Parameter(name, TEXT, what or f"Only of this {name}.")


def _some(name: str, what: str) -> Parameter:
    return Parameter(name, TEXT, what, repeated=True)


def _at(name: str, what: str) -> Parameter:
    return Parameter(name, TIME, what)


def table_answer(schema: Schema, what: str) -> Answer:
    tables: dict[str, Schema] = {media: {"type": "string", "format": "binary"} for media in MEDIA_TYPES.values()}
    return Answer(what, Content({"application/json": schema, **tables}))


def _listing(name: str, kind: Schema) -> Answer:
    return table_answer(members(**{name: listed(kind)}, next_cursor=MAYBE_TEXT, through=THROUGH), "A page of them.")


def _operation(path: str, id: str, summary: str, answer: Answer, *parameters: Parameter, **more: Any) -> Operation:
    told: dict[str, Any] = {"problems": _PROBLEMS, "parameters": (*parameters, *COMMON), **more}
    return Operation(
        method="get", path=path, id=id, summary=summary, tag=_TAG, scope="query", answers={200: answer}, **told
    )


_USAGE: Final = (
    Parameter("meter", TEXT, "The name of the meter.", required=True),
    Parameter("window", one_of(*UNITS, TOTAL), "How long a window is; `total` is one over all. `day` by default."),
    _of("timezone", "IANA name of the zone in which windows are cut; UTC by default."),
    _at("from", "The first time."),
    _at("to", "The time behind the last."),
    _some("group_by", "Dimensions, `customer` or `subject`; with commas or repeated."),
    _some("filter", "`DIMENSION:VALUE`, or `DIMENSION` for events without it; several of one: any of them."),
    _some("subject", "Only of these subjects."),
)
_USAGE_MEMBERS: Final = {
    "meter": TEXT,
    "aggregate": TEXT,
    "window": TEXT,
    "timezone": TEXT,
    "windows": listed(UsageWindow),
    "rejected": WHOLE,
    "through": THROUGH,
}
_SPEND: Final = {"allOf": [Spend, members(through=THROUGH)]}

QUERIES: Final = (
    _operation(
        "/v1/customers/{customer}/spend",
        "getSpend",
        "What a customer has spent",
        json_answer("Exact sums, by currency, subscription, charge and dimension.", _SPEND),
        CUSTOMER,
        _PERIOD,
        *PAST,
    ),
    _operation(
        "/v1/customers/{customer}/costs",
        "getCosts",
        "What each subject, or value of a dimension, has cost",
        table_answer(
            members(customer=TEXT, by=TEXT, method=TEXT, costs=listed(Cost), through=THROUGH),
            "Line items shared out by usage; the shares sum to them.",
        ),
        CUSTOMER,
        _of("by", "`subject` (by default), or a dimension of a meter."),
        _PERIOD,
        problems=(*_PROBLEMS, 422),
    ),
    _operation(
        "/v1/customers/{customer}/usage",
        "getUsage",
        "A customer's usage of a meter, by windows",
        table_answer(members(customer=TEXT, **_USAGE_MEMBERS), "Windows that hold any usage."),
        CUSTOMER,
        *_USAGE,
        *PAST,
        problems=_PROBLEMS,
    ),
    _operation(
        "/v1/usage",
        "getUsageOfAll",
        "All customers' usage of a meter, by windows",
        table_answer(members(**_USAGE_MEMBERS), "Windows that hold any usage."),
        *_USAGE,
        _some("customer", "Only of these customers."),
        problems=_PROBLEMS,
    ),
    _operation(
        "/v1/spend",
        "rankSpend",
        "Who has spent what, and more than when",
        table_answer(
            members(
                by=TEXT,
                at=MAYBE_TEXT,
                compare_at=MAYBE_TEXT,
                spend=listed(Ranked),
                next_cursor=MAYBE_TEXT,
                through=THROUGH,
            ),
            "The greatest first.",
        ),
        _of("by", "`customer` (by default), `subscription`, `charge` or `dimension:NAME`."),
        _at("at", "Line items whose period holds this moment; the newest time known by default."),
        _at("compare_at", "Another moment, to compare with."),
        Parameter("order", one_of(*ORDERS), "By what; `difference` and `growth` with `compare_at`."),
        *(_of(name) for name in ("customer", "subscription", "charge", "currency")),
        *_PAGE,
    ),
    _operation(
        "/v1/line-items",
        "listLineItems",
        "Line items, the latest period first",
        _listing("line_items", LineItem),
        *(_of(name) for name in ("customer", "subscription", "charge")),
        _at("period", "The start of their period."),
        *_PAGE,
    ),
    _operation(
        "/v1/invoices",
        "listInvoices",
        "Invoices, the latest period first",
        _listing("invoices", Invoice),
        _of("customer"),
        Parameter("kind", one_of(*INVOICE_KINDS), "Only of this kind."),
        *_PAGE,
    ),
    _operation(
        "/v1/invoices/{id}",
        "getInvoice",
        "One invoice",
        json_answer("The invoice.", members(invoice=Invoice, through=THROUGH)),
        Parameter("id", TEXT, "Its id.", "path"),
        problems=_PROBLEMS,
    ),
    _operation("/v1/alerts", "listAlerts", "Alerts", _listing("alerts", Alert), _of("customer"), *_PAGE),
    _operation(
        "/v1/rejections",
        "listRejections",
        "What was rejected, and why; the last one first",
        _listing("rejections", ListedRejection),
        Parameter("code", one_of(*CODES), "Only with this code."),
        _of("meter"),
        Parameter("mended", one_of("true", "false"), "Only those that an event stands for, or none does."),
        *_PAGE,
    ),
    _operation(
        "/v1/rejections/{id}",
        "getRejection",
        "One rejection, what it means and what to do",
        json_answer(
            "The rejection.", members(rejection=ListedRejection, meaning=TEXT, what_to_do=TEXT, through=THROUGH)
        ),
        Parameter("id", TEXT, "Its id.", "path"),
        problems=_PROBLEMS,
    ),
    _operation(
        "/v1/events",
        "listEvents",
        "Events as they came, the last one first",
        json_answer(
            "A page of them.",
            members(
                events=listed(members(event={"type": "object"}, customer=TEXT, arrived=TIME)),
                next_cursor=MAYBE_TEXT,
                through=THROUGH,
            ),
        ),
        *(_some(name, f"Only of these {name}s.") for name in ("customer", "subject")),
        *(_of(name) for name in ("type", "source", "id")),
        _at("from", "The first time."),
        _at("to", "The time behind the last."),
        _at("arrived_from", "The first arrival."),
        _at("arrived_to", "The arrival behind the last."),
        *_PAGE,
    ),
    *(
        Operation(
            method="get",
            path=path,
            id=id,
            summary=summary,
            description="Server-sent events `spend` and `alert`. Comes back where it was with `Last-Event-ID`.",
            tag="Live",
            scope="query",
            parameters=(
                *own,
                TENANT,
                Parameter("interval_ms", whole(10, INTERVAL_MS_MAX, INTERVAL_MS_DEFAULT), "Time between looks."),
                Parameter("last_event_id", TEXT, "In place of the header, for the first connection of a browser."),
                Parameter("Last-Event-ID", TEXT, "The id of the last event that the client has.", "header"),
            ),
            answers={200: Answer("A stream without an end.", Content({"text/event-stream": {"type": "string"}}))},
            problems=(400, 405, 503),
        )
        for path, id, summary, own in (
            (
                "/v1/customers/{customer}/live",
                "watchCustomer",
                "A customer's spend and alerts, live",
                (CUSTOMER,),
            ),
            ("/v1/live", "watchAlerts", "All customers' alerts, as they come", ()),
        )
    ),
)
"""What `taximeter serve` and `taximeter spend` serve."""
