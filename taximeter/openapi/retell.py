"""The operations that rate a customer again. What a parameter may be is taken from the code that reads it."""

from typing import Any, Final

from rating.retell.bill import CLOSINGS, Bill
from rating.retell.compare import Comparison
from rating.retell.forecast import METHODS, Forecast
from rating.retell.remaining import Remaining
from rating.retell.series import SpendWindow
from rating.spend.windows import UNITS
from taximeter.openapi.operation import TEXT, TIME, Operation, Parameter, Schema, json_answer, listed, members, one_of
from taximeter.openapi.queries import COMMON, CUSTOMER, PAST, THROUGH, table_answer


def _operation(name: str, id: str, summary: str, what: str, schema: Schema, *parameters: Parameter) -> Operation:
    whole = {"allOf": [schema, members(through=THROUGH)]}
    return Operation(
        method="get",
        path=f"/v1/customers/{{customer}}/{name}",
        id=id,
        summary=summary,
        tag="Bills and past moments",
        scope="query",
        parameters=(CUSTOMER, *parameters, *PAST, *COMMON),
        answers={200: table_answer(whole, what) if schema is Bill or name == "series" else json_answer(what, whole)},
        problems=(400, 404, 405, 410, 422, 500, 503, 504),
    )


_COMPARISONS: Final[dict[str, Any]] = members(customer=TEXT, comparisons=listed(Comparison))

RETELL: Final = (
    _operation(
        "bill",
        "getBill",
        "The bill as it would be",
        "The drafts of the open periods' invoices.",
        Bill,
        Parameter("closing", one_of(*CLOSINGS), "At each period's `end` (by default), or `now`."),
    ),
    _operation(
        "remaining",
        "getRemaining",
        "Credits, budgets, allowances, commitments: what is left",
        "For the open periods.",
        Remaining,
    ),
    _operation(
        "forecast",
        "getForecast",
        "What open periods will come to",
        "An estimate, with a range.",
        Forecast,
        Parameter("method", one_of(*METHODS), "`auto` is `seasonal` where there is enough of the past."),
    ),
    _operation(
        "series",
        "getSpendSeries",
        "What a customer has spent by hour, day, week or month",
        "The windows sum to what the whole stretch has come to.",
        members(customer=TEXT, window=TEXT, timezone=TEXT, series=listed(SpendWindow)),
        Parameter("window", one_of(*UNITS), "How long a window is; `day` by default."),
        Parameter("timezone", TEXT, "IANA name of the zone in which windows are cut; UTC by default."),
        Parameter("from", TIME, "Where the first window begins; by default where the periods that run began."),
        Parameter("to", TIME, "Where the last window ends; now by default."),
    ),
    _operation(
        "compare",
        "comparePeriods",
        "Two periods of each subscription, side by side",
        "Whole, and up to the same share.",
        _COMPARISONS,
        Parameter("period", TEXT, "`current` (by default), `previous`, or the start of a period."),
        Parameter("with", TEXT, "`previous` (by default), `current`, or the start of a period."),
    ),
)
"""What `taximeter serve` and `taximeter spend` serve."""
