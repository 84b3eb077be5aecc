"""What the Alibaba trace costs under `book.yaml`, in SQL straight over the CSV: no rating code, no Python arithmetic.

Prices are written here again on purpose. Every price is rising in its quantity, so spend never falls; the sum of
money after each event is the running sum of what each event adds to the lines that it touches.
"""

from pathlib import Path
from typing import Any

import duckdb

AS_OF = "2024-12-09T00:00:00Z"
"""November has ended by then, December has not."""

PRICES = """
create macro tier(q, above, upto, unit, flat) as
    case when q > above then (least(q, upto) - above) * unit + flat else 0.000000 end;
create macro txt_images(q) as
    tier(q, 0, 50, 0.040000, 0.000000) + tier(q, 50, 500, 0.031000, 1.000000)
    + tier(q, 500, 1000000000, 0.022500, 0.000000);
create macro img_images(q) as ((q + 9) // 10) * 0.350000;
create macro other_images(q) as q * 0.055000;
create macro asked(q) as (q // 25) * 0.015000;
create macro gpu_after_free(q) as
    tier(q, 0, 600, 0.000777, 0.000000) + tier(q, 600, 3600, 0.000555, 0.125000)
    + tier(q, 3600, 1000000000, 0.000333, 0.000000);
create macro gpu(q) as gpu_after_free(greatest(q - 100, 0));
create macro requests(q) as q * 0.003500;
create macro price(charge, cell, q) as cast(case
    when charge = 'images' and cell = 'TXT_2_IMG' then txt_images(q)
    when charge = 'images' and cell = 'IMG_2_IMG' then img_images(q)
    when charge = 'images' then other_images(q)
    when charge = 'asked' then asked(q)
    when charge = 'gpu' then gpu(q)
    when charge = 'requests' then requests(q) end as decimal(38, 12));
"""

EVENTS = """
create table rows as
    select row_number() over () as place, * from read_csv(?, all_varchar = true, nullstr = '');
create table different as select min(place) as place, * exclude (place) from rows group by all;
create table events as
    select place, groupId as customer, cast(gmt_create as timestamp) as time, predict_status as status,
        predict_type as type, checkpoint_model_version_id as model,
        cast(cast(num_images_per_prompt as decimal(18, 6)) as bigint) as images,
        cast(cast(exec_time_seconds as decimal(18, 6)) as bigint) as seconds,
        cast(date_trunc('month', cast(gmt_create as timestamp)) as date) as month
    from different;
"""
"""Exact duplicates of a row are one event, in the place of the first. All numbers of the trace are whole."""

USES = """
create table uses as
    select place, customer, month, time, 'images' as charge, '' as dimensions, type as cell, images as used
        from events where status = 'SUCCEED' and images is not null
    union all select place, customer, month, time, 'asked', '', '', images from events where images is not null
    union all select place, customer, month, time, 'gpu', 'type=' || type, '', seconds from events
    union all select place, customer, month, time, 'requests', 'model=' || coalesce(model, 'null'), '', 1 from events;
create table totals as
    select *, sum(used) over (partition by customer, month, charge, dimensions, cell order by place) as after from uses;
create table steps as
    select *, price(charge, cell, after) - price(charge, cell, after - used) as added from totals;
create table amounts as
    select *, sum(added) over (partition by customer, month, charge, dimensions order by place) as amount from steps;
"""

LINE_ITEMS = """
select customer, cast(month as varchar) as month, charge, dimensions, cast(sum(used) as bigint) as quantity,
    cast(sum(added) as decimal(38, 12)) as amount, count(*) as events,
    strftime(min(time), '%Y-%m-%dT%H:%M:%SZ') as first_event, strftime(max(time), '%Y-%m-%dT%H:%M:%SZ') as last_event
from steps group by all having sum(used) <> 0 or sum(added) <> 0
"""

SPEND = """
create table spends as
    select customer, month, place, sum(added) as added, sum(round(amount, 2) - round(amount - added, 2)) as cents
    from amounts group by all;
create table running as
    select customer, month, place, sum(added) over w as spend, sum(added) over w - added as spend_before,
        sum(cents) over w as billed
    from spends window w as (partition by customer, month order by place);
create table levels as
    select r.*, 5 as level, 5 as threshold from running r where spend >= 5 and spend_before < 5
    union all
    select r.*, 20 * n, 20 from running r, generate_series(1, 1000) as g(n)
    where spend >= 20 * n and spend_before < 20 * n;
create table threshold_invoices as
    select customer, month, place, max(level) as level, arg_max(threshold, level) as threshold,
        any_value(billed) as billed
    from levels group by all;
"""

ALERTS = """
select customer, cast(month as varchar) as month, place, level, threshold, cast(spend as decimal(38, 12)) as spend
from levels order by customer, month, place, level
"""

INVOICES = """
with ended as (
    select customer, month, max(billed) as billed from running where month = date '2024-11-01' group by all
), earlier as (
    select customer, month, max(billed) as billed from threshold_invoices group by all
)
select customer, cast(month as varchar) as month, place, 'threshold' as kind, level, threshold,
    cast(billed - coalesce(lag(billed) over (partition by customer, month order by place), 0)
        as decimal(38, 2)) as total,
    cast(0 as decimal(38, 2)) as minimum
from threshold_invoices
union all
select customer, cast(month as varchar), 1000000000, 'period', null, null,
    cast(e.billed - coalesce(t.billed, 0) + greatest(2 - e.billed, 0) as decimal(38, 2)) as total,
    cast(greatest(2 - e.billed, 0) as decimal(38, 2))
from ended e left join earlier t using (customer, month)
where e.billed - coalesce(t.billed, 0) + greatest(2 - e.billed, 0) <> 0
order by customer, month, place
"""


def expected(trace: Path) -> dict[str, list[dict[str, Any]]]:
    """Line items, invoices, alerts and rejections; decimals are texts with all their digits.

    `place` is the number of the row of the event that crossed a level (from 1)."""
    database = duckdb.connect()
    database.execute(PRICES)
    create, *more = EVENTS.strip().split(";\n")
    database.execute(create, [str(trace)])
    database.execute(";".join(more))
    database.execute(USES)
    database.execute(SPEND)
    rejections = "select place, 'missing_value' as code, 'images_asked' as meter from events where images is null"
    return {
        "line_items": _rows(database, LINE_ITEMS),
        "invoices": _rows(database, INVOICES),
        "alerts": _rows(database, ALERTS),
        "rejections": _rows(database, rejections + " order by place"),
    }


def _rows(database: Any, query: str) -> list[dict[str, Any]]:
    found = database.execute(query)
    names = [column[0] for column in found.description]
    return [dict(zip(names, map(_text, row), strict=True)) for row in found.fetchall()]


def _text(value: Any) -> Any:
    """A decimal in its shortest plain form."""
    if type(value).__name__ != "Decimal":
        return value
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
