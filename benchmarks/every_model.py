"""The workload `every-model`: each aggregation and each price model at once, with discounts, versions and voids.

A tenth of the events are for meters that keep their events (gauges, percentiles, allowances). One event in a thousand
takes an earlier one back. No thresholds: what they cost is in `default`.
"""

import random
from collections import deque
from collections.abc import Iterator

from schemas.times import DAY, format_time, parse_time

CATALOGUE = """
meters:
  tokens:   {event: llm.request, aggregate: sum, value: "$.in + 3 * $.out", dimensions: {model: $.model, kind: $.kind}}
  requests: {event: llm.request, aggregate: count, dimensions: {model: $.model}}
  peak:     {event: llm.request, aggregate: max, value: $.in}
  least:    {event: llm.request, aggregate: min, value: $.in}
  mean:     {event: llm.request, aggregate: avg, value: $.out}
  last:     {event: llm.request, aggregate: latest, value: $.out}
  users:    {event: llm.request, aggregate: unique_count, value: $.user}
  kilo:     {event: llm.request, aggregate: sum, value: $.in, convert: {divide: 1000, round: up}}
  paid:     {event: payment, aggregate: sum, value: $.amount, dimensions: {country: $.country}}
  storage:  {event: volume.resized, aggregate: time_weighted, value: $.gib, key: $.volume, unit: hour}
  latency:  {event: probe, aggregate: percentile, value: $.ms, percentile: 95}
price_books:
  default:
    versions:
    - currency: USD
      minimum: 10
      maximum: 100000
      charges:
        platform:  {price: {model: flat, amount: "20"}, when: in_advance, prorate: true}
        setup:     {price: {model: one_time, amount: "5"}}
        tokens:    {meter: tokens, group_by: [model],
                    price: {model: matrix, by: [kind], cells: [
                      {match: {kind: output}, price: {model: unit, unit_amount: "0.000015"}}],
                      otherwise: {model: unit, unit_amount: "0.000003"}}}
        requests:  {meter: requests, free_units: 100,
                    price: {model: graduated, tiers: [{up_to: 1000, unit_amount: "0.01"}, {unit_amount: "0.005"}]}}
        nights:    {meter: requests, discount: {percent: 10},
                    price: {model: schedule, timezone: Europe/Zurich, windows: [
                      {hours: "08:00-20:00", price: {model: unit, unit_amount: "0.002"}}],
                      otherwise: {model: unit, unit_amount: "0.001"}}}
        peak:      {meter: peak, price: {model: stairstep, tiers: [{up_to: 1000, flat_amount: 1}, {flat_amount: 2}]}}
        least:     {meter: least, price: {model: unit, unit_amount: "0.01"}}
        mean:      {meter: mean, price: {model: unit, unit_amount: "0.001"}, maximum: 3}
        last:      {meter: last, price: {model: unit, unit_amount: "0.001"}}
        users:     {meter: users, price: {model: volume, tiers: [{up_to: 10, unit_amount: 1}, {unit_amount: "0.9"}]}}
        kilo:      {meter: kilo, price: {model: package, package_size: 10, package_amount: "0.01"}}
        paid:      {meter: paid, group_by: [country], price: {model: percentage, rate: "0.029", fixed_amount: "0.30",
                    min_amount: "0.50"}}
        transfers: {meter: paid, price: {model: percentage, rate: "0.01", free_events: 3, free_amount: 100}}
        share:     {meter: paid, price: {model: graduated_percentage,
                    tiers: [{up_to: 1000, rate: "0.01"}, {rate: "0.005"}]}}
        own:       {meter: paid, price: {model: dynamic, amount: $.fee, multiplier: "1.1"}}
        storage:   {meter: storage, price: {model: unit, unit_amount: "0.0001"}}
        latency:   {meter: latency, price: {model: unit, unit_amount: "0.01"}}
default_subscription: {price_book: default}
"""
START = parse_time("2026-11-01T00:00:00Z")
END = "2026-11-03T00:00:00Z"
"""No event is later: gauges are brought up to here."""
KINDS = ("llm.request", "payment", "volume.resized", "probe")


def events(count: int, seed: int = 7, customers: int = 20_000) -> Iterator[bytes]:
    """CloudEvents as JSON texts; event times rise through a day, a few come an hour late."""
    dice = random.Random(seed)
    weights = [1 / rank for rank in range(1, customers + 1)]
    owners = dice.choices(range(customers), weights, k=count)
    kinds = dice.choices(KINDS, (85, 9, 3, 3), k=count)
    recent: deque[tuple[str, int]] = deque(maxlen=10_000)
    for i, (owner, kind) in enumerate(zip(owners, kinds, strict=True)):
        id, what = f"{seed}-{i:012d}", kind
        late = 3_600_000_000 if dice.random() < 0.01 else 0
        time = format_time(START + (i * 86_400_000) % DAY + dice.randrange(1_000_000) + DAY - late)
        if recent and dice.random() < 0.001:
            named, owner = dice.choice(recent)  # noqa: PLW2901
            what, data = "taximeter.void", f'{{"source":"/bench/gateway","id":"{named}"}}'
        else:
            data = _data(kind, dice)
            recent.append((id, owner))
        yield (
            f'{{"specversion":"1.0","id":"{id}","source":"/bench/gateway","type":"{what}",'
            f'"subject":"customer-{owner:06d}","time":"{time}","data":{data}}}'
        ).encode()


def _data(kind: str, dice: random.Random) -> str:
    if kind == "llm.request":
        model, direction = dice.choice(("large", "small", "mini")), dice.choice(("input", "output"))
        brought, user = dice.randrange(1, 5000), dice.randrange(50)
        return f'{{"in":{brought},"out":{brought // 3},"model":"{model}","kind":"{direction}","user":"u{user}"}}'
    if kind == "payment":
        cents = dice.randrange(100, 50_000)
        country = dice.choice(("CH", "DE", "US"))
        return (
            f'{{"amount":"{cents // 100}.{cents % 100:02}","fee":"0.{dice.randrange(100):02}","country":"{country}"}}'
        )
    if kind == "volume.resized":
        return f'{{"gib":{dice.randrange(1, 500)},"volume":"v{dice.randrange(3)}"}}'
    return f'{{"ms":{dice.randrange(1, 900)}}}'
