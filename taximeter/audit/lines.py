"""Lines: what every charge comes to, at many places in the log at once, in SQL.

A *look* is one billing period of one subscription as it stood at some place in the log. For each different charge there
is one query over all looks that have it: from uses to totals, from totals to amounts. Fees for the period itself, which
read no usage, are shares of an amount, and are worked out beside it.

`own` are the uses of a segment, `before` those of earlier segments that stay used in it, `all` both: a later segment
comes to the price of all units less the price of the earlier ones.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import duckdb

from schemas.numbers import ONE
from schemas.period import Calendar
from schemas.times import DAY, HOUR, SECOND
from taximeter.audit.agreements import (
    PERIODIC,
    Agreement,
    Document,
    Period,
    bills_nought,
    bounded_fee,
)
from taximeter.audit.conditions import converted, scaled
from taximeter.audit.exact import Unreadable, literal, text
from taximeter.audit.prices import Cost, bounded, cost_of, is_per_event, percentage_of, read_tree

UNITS = {"second": SECOND, "hour": HOUR, "day": DAY}
Group = tuple[str | None, ...]


@dataclass(frozen=True)
class Look:
    """A billing period as it stood before the place `at` of a partition's log (`seq`, exclusive).

    `horizon`: up to when gauges are integrated. `opened`, `closed`: whether fees are due. `first`: when the
    subscription began."""

    number: int
    book: int
    partition: int
    customer: str
    subscription: str
    agreement: int
    period: Period
    at: int
    horizon: int
    opened: bool
    closed: bool
    first: int


class LineKey(NamedTuple):
    """What a line is known by within its period."""

    segment: int
    charge: str
    group: Group


@dataclass
class Line:
    """One line item as it should be."""

    quantity: int
    amount: int
    events: int = 0
    first: int | None = None
    last: int | None = None


@dataclass
class Lines:
    """What the looks come to. `unread`: (look, segment, charge) -> why it could not be worked out."""

    found: dict[int, dict[LineKey, Line]] = field(default_factory=dict)
    unread: dict[tuple[int, int, str], str] = field(default_factory=dict)


class Definition(NamedTuple):
    """A charge of usage with the meter that it reads: looks that share one share a query."""

    text: str
    charge: Document
    meter_name: str
    meter: Document


def define(name: str, charge: Document, meter: Document, zone: str, trial: bool) -> Definition:
    """`zone`: of the subscription; it shows in gauges that are aligned to days."""
    if trial:
        charge = {key: charge[key] for key in ("meter", "group_by") if key in charge} | {"price": {"model": "nothing"}}
    kept = ("price", "group_by", "free_units", "discount", "minimum", "maximum", "bill_zero_usage", "meter")
    charge = {key: charge[key] for key in kept if key in charge}
    zone = zone if meter.get("align") else ""
    return Definition(json.dumps([name, charge, meter, zone], sort_keys=True), charge, charge["meter"], meter)


class Ledger:
    """Works out lines. `connection` holds the tables of `tape`, `metering` and `placing`."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        agreements: Mapping[int, Agreement],
        meters: Mapping[int, Mapping[str, Document]],
        span: tuple[int, int],
        epochs: Any,
        unread_meters: Mapping[str, str],
    ) -> None:
        """`agreements`: by number. `meters`: book -> its meters. `span`: the times of all events. `epochs`: (price
        book, charge, meter) -> the catalogues under which the charge counted, None for all."""
        self._connection, self._agreements, self._meters, self._span = connection, agreements, meters, span
        self._epochs, self._unread_meters = epochs, unread_meters

    def work_out(self, looks: Iterable[Look]) -> Lines:
        """Every line of every look that is not nought."""
        looks = list(looks)
        result = Lines({look.number: {} for look in looks})
        if looks:
            self._fees(looks, result)
            definitions = self._target(looks, result)
            used: dict[tuple[int, str], set[int]] = {}
            for number, (definition, trial) in enumerate(definitions):
                self._usage(number, definition, trial, result, used)
            self._unused(looks, definitions, used, result)
        for lines in result.found.values():
            for key in [key for key, line in lines.items() if not line.quantity and not line.amount]:
                del lines[key]
        return result

    # Fees ---------------------------------------------------------------------------------------

    def _fees(self, looks: list[Look], result: Lines) -> None:
        for look in looks:
            agreement = self._agreements[look.agreement]
            for at, segment in enumerate(agreement.segments(look.period)):
                if segment.plan.trial:
                    continue
                for name, charge in segment.plan.charges.items():
                    due = look.opened if charge.get("when") == "in_advance" else look.closed
                    if charge["price"]["model"] in PERIODIC and due:
                        asked = bounded_fee(charge, scaled(charge["price"]["amount"]))
                        amount = agreement.fee(look.period, at, charge, asked, look.first)
                        if amount is not None:
                            result.found[look.number][LineKey(segment.start, name, ())] = Line(ONE, amount)

    # What is asked ------------------------------------------------------------------------------

    def _target(self, looks: list[Look], result: Lines) -> list[tuple[Definition, bool]]:
        """Makes the tables `looks` and `targets`; returns the definitions that `targets` name by number."""
        rows = [
            (
                look.number,
                look.partition,
                look.customer,
                look.subscription,
                look.book,
                look.agreement,
                look.period.start,
                look.period.whole,
                look.at,
                look.horizon,
            )
            for look in looks
        ]
        self._make(
            "looks",
            """look INTEGER, partition INTEGER, customer VARCHAR, subscription VARCHAR, book INTEGER, agreement INTEGER,
            period BIGINT, whole BIGINT, upto BIGINT, horizon BIGINT""",
            rows,
        )
        numbers: dict[tuple[str, bool], int] = {}
        definitions: list[tuple[Definition, bool]] = []
        targets: list[tuple[Any, ...]] = []
        seen: set[tuple[int, int, int]] = set()
        for look in looks:
            key = (look.book, look.agreement, look.period.start)
            if key in seen:
                continue
            seen.add(key)
            for row in self._charges_of(look, looks, result):
                definition, trial, rest = row
                number = numbers.setdefault((definition.text, trial), len(definitions))
                if number == len(definitions):
                    definitions.append((definition, trial))
                targets += [(look.book, look.agreement, look.period.start, number, *one) for one in rest]
        self._make(
            "targets",
            """book INTEGER, agreement INTEGER, period BIGINT, def INTEGER, seg BIGINT, charge VARCHAR, kind VARCHAR,
            in_seg BIGINT, span_start BIGINT, span_end BIGINT, epochs INTEGER[]""",
            targets,
        )
        return definitions

    def _charges_of(
        self, look: Look, looks: list[Look], result: Lines
    ) -> Iterator[tuple[Definition, bool, list[tuple[Any, ...]]]]:
        agreement, meters = self._agreements[look.agreement], self._meters[look.book]
        segments = agreement.segments(look.period)
        for at, segment in enumerate(segments):
            for name, charge in segment.plan.charges.items():
                if charge["price"]["model"] in PERIODIC:
                    continue
                carried = [] if segment.plan.trial else agreement.carried(segments, at, name)
                why = self._unread_meters.get(charge["meter"])
                if meters[charge["meter"]]["aggregate"] == "unique_count" and carried:
                    why = "values that go on from an earlier segment count there alone"
                if why is not None:
                    alike = (look.book, look.agreement, look.period)
                    for one in looks:
                        if (one.book, one.agreement, one.period) == alike:
                            result.unread[one.number, segment.start, name] = why
                    continue
                epochs = self._epochs(segment.plan.book, name, charge["meter"])
                kinds = [("own", at)]
                if carried:
                    kinds += [("all", at), *(("all", c) for c in carried), *(("before", c) for c in carried)]
                rows = [
                    (segment.start, name, kind, segments[c].start, segments[c].start, segments[c].end, epochs)
                    for kind, c in kinds
                ]
                definition = define(name, charge, meters[charge["meter"]], agreement.zone, segment.plan.trial)
                yield definition, segment.plan.trial, rows

    def _make(self, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
        import pyarrow as pa

        self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} ({columns})")
        if not rows:
            return
        names = [column.split()[0] for column in columns.split(",")]
        data = pa.table(
            {name: pa.array(list(column)) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
        )
        self._connection.register("made_rows", data)
        self._connection.execute(f"INSERT INTO {table} SELECT * FROM made_rows")
        self._connection.unregister("made_rows")

    # Usage --------------------------------------------------------------------------------------

    def _usage(
        self, number: int, definition: Definition, trial: bool, result: Lines, used: dict[tuple[int, str], set[int]]
    ) -> None:
        try:
            rows = self._connection.execute(self.query(number, definition)).fetchall()
        except (Unreadable, duckdb.OutOfRangeException, duckdb.ConversionException) as error:
            why = str(error) if isinstance(error, Unreadable) else "a number is too large for 38 digits"
            asked = self._connection.execute(
                """SELECT DISTINCT l.look, t.seg, t.charge FROM looks l JOIN targets t USING (book, agreement, period)
                WHERE t.def = ?""",
                [number],
            ).fetchall()
            result.unread.update({(look, seg, charge): why for look, seg, charge in asked})
            return
        found: dict[tuple[int, int, str, Group], dict[str, Any]] = {}
        for look, seg, charge, kind, group, quantity, amount, events, first, last in rows:
            found.setdefault((look, seg, charge, tuple(group)), {})[kind] = (quantity, amount, events, first, last)
        for (look, seg, charge, group), kinds in found.items():
            quantity, amount, events, first, last = kinds.get("own", (0, 0, 0, None, None))
            if "all" in kinds:
                amount = kinds["all"][1] - kinds.get("before", (0, 0))[1]
            if trial:
                amount = 0
            elif "own" in kinds:
                used.setdefault((look, charge), set()).add(seg)
            result.found[look][LineKey(seg, charge, group)] = Line(quantity, amount, events, first, last)

    def query(self, number: int, definition: Definition) -> str:
        """The SQL of a charge: rows of look, seg, charge, kind, group, quantity, amount, events, first, last."""
        charge, meter = definition.charge, definition.meter
        dimensions = list(meter.get("dimensions") or {})
        tree = read_tree(charge["price"], dimensions, self._span)
        group = ", ".join(f"dims[{dimensions.index(name) + 1}]" for name in charge.get("group_by") or [])
        keys = "look, seg, charge, kind, grp"
        parts = [f"shown AS (SELECT *, [{group}]::VARCHAR[] AS grp, {tree.leaf} AS leaf FROM scoped)"]
        if meter["aggregate"] == "time_weighted":
            parts = [*self._gauges(number, definition, group, tree.leaf), *self._counts(keys)]
        else:
            parts = [self._scoped(number, definition), *parts, self._totals(meter, keys), *self._counts(keys)]
        parts += self._priced(charge, tree.leaves, keys)
        return (
            "WITH "
            + ",\n".join(parts)
            + f"""
            SELECT l.look, l.seg, l.charge, l.kind, l.grp, l.quantity, {bounded(charge, Cost("l.hi", "l.lo"))},
                coalesce(c.events, 0), c.first, c.last
            FROM line_totals l LEFT JOIN counts c USING ({keys})"""
        )

    def _scoped(self, number: int, definition: Definition) -> str:
        return f"""scoped AS (
            SELECT l.look, t.seg, t.charge, t.kind, u.seq, u.time, u.value, u.name, u.dims, u.amounts
            FROM looks l
            JOIN targets t ON t.book = l.book AND t.agreement = l.agreement AND t.period = l.period AND t.def = {number}
            JOIN placed u ON u.book = l.book AND u.customer = l.customer AND u.subscription = l.subscription
                AND u.period = l.period AND u.seg = t.in_seg AND u.meter = {text(definition.meter_name)}
            WHERE u.seq < l.upto AND u.partition = l.partition AND (u.void_seq IS NULL OR u.void_seq >= l.upto)
                AND (t.epochs IS NULL OR list_contains(t.epochs, u.epoch)))"""

    def _totals(self, meter: Document, keys: str) -> str:
        how = meter["aggregate"]
        latest = "arg_max(value, time::HUGEINT * 9223372036854775808::HUGEINT + seq)"
        numerator = {
            "count": "sum(value)",
            "sum": "sum(value)",
            "avg": "sum(value)",
            "min": "min(value)",
            "max": "max(value)",
            "latest": latest,
            "unique_count": f"count(DISTINCT name) * {literal(ONE)}",
        }.get(how)
        if how == "percentile":
            share, whole = scaled(meter["percentile"]), 100 * ONE
            rank = f"greatest((count(*) * {literal(share)} + {literal(whole - 1)}) // {literal(whole)}, 1)::BIGINT"
            numerator = f"list_extract(list_sort(list(value)), {rank})"
        if numerator is None:
            raise Unreadable(f"the aggregation {how}")
        below = "count(*)::HUGEINT" if how == "avg" else "1::HUGEINT"
        convert = meter.get("convert") or {}
        total = convert if convert.get("per", "total") == "total" else None
        return f"""totals AS (
            SELECT {keys}, leaf, {converted(total, "n", "d")} AS q FROM (
                SELECT {keys}, leaf, ({numerator})::HUGEINT AS n, {below} AS d FROM shown GROUP BY {keys}, leaf))"""

    def _counts(self, keys: str) -> list[str]:
        return [
            f"""counts AS (SELECT {keys}, count(*) AS events, min(time) AS first, max(time) AS last
            FROM shown WHERE kind = 'own' GROUP BY {keys})"""
        ]

    def _priced(self, charge: Document, leaves: list[Document], keys: str) -> list[str]:
        """From totals to `line_totals`: free units, each leaf's model, the sum of the leaves."""
        free = scaled(charge.get("free_units") or "0") + scaled((charge.get("discount") or {}).get("units") or "0")
        zero = bool(charge.get("bill_zero_usage"))
        before = f"(PARTITION BY {keys} ORDER BY leaf ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        earlier = f"coalesce(sum(greatest(q, 0)) OVER {before}, 0)::HUGEINT"
        taken = f"least(greatest({literal(free)} - {earlier}, 0), greatest(q, 0))"
        billed = f"q - {taken}" if free else "q"
        costs = {at: cost_of(leaf, "billed", zero) for at, leaf in enumerate(leaves) if not is_per_event(leaf)}
        parts = [f"billed AS (SELECT {keys}, leaf, q, ({billed})::HUGEINT AS billed FROM totals)"]
        hi = " ".join(f"WHEN {at} THEN {cost.hi}" for at, cost in costs.items())
        lo = " ".join(f"WHEN {at} THEN {cost.lo}" for at, cost in costs.items())
        nought = "0::HUGEINT"
        parts.append(
            f"""costs AS (SELECT {keys}, leaf, q, {f"CASE leaf {hi} ELSE {nought} END" if hi else nought} AS hi,
            {f"CASE leaf {lo} ELSE {nought} END" if lo else nought} AS lo FROM billed)"""
        )
        each = [at for at, leaf in enumerate(leaves) if is_per_event(leaf)]
        sources = [f"SELECT {keys}, q, hi, lo FROM costs"]
        if each:
            parts += self._each_event(leaves, each, keys)
            sources.append(f"SELECT {keys}, {nought} AS q, hi, lo FROM paid")
        parts.append(
            f"""line_totals AS (SELECT {keys}, sum(q)::HUGEINT AS quantity, sum(hi)::HUGEINT AS hi,
                sum(lo)::HUGEINT AS lo
            FROM ({" UNION ALL ".join(sources)}) GROUP BY {keys})"""
        )
        return parts

    def _each_event(self, leaves: list[Document], each: list[int], keys: str) -> list[str]:
        """What leaves come to that price single events: `paid`, one row for each leaf, nought where it is below."""
        his, los = [], []
        for at in each:
            price = leaves[at]
            if price["model"] == "dynamic":
                own = f"coalesce(map_extract_value(amounts, {text(price['amount'])}), 0)"
                by = literal(scaled(price.get("multiplier") or "1"))
                cost = Cost(f"product_hi({own}, {by})", f"product_lo({own}, {by})")
            else:
                cost = percentage_of(price)
            his.append(f"WHEN {at} THEN {cost.hi}")
            los.append(f"WHEN {at} THEN {cost.lo}")
        before = f"OVER (PARTITION BY {keys}, leaf ORDER BY time, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        chosen, whole = ", ".join(map(str, each)), f"hi + lo // {literal(ONE)}"
        return [
            f"""queued AS (SELECT {keys}, leaf, value, amounts,
                count(*) FILTER (value >= 0) {before} AS earlier_events,
                coalesce(sum(value) FILTER (value >= 0) {before}, 0)::HUGEINT AS earlier_sum
                FROM shown WHERE leaf IN ({chosen}))""",
            f"""paid AS (SELECT {keys}, CASE WHEN below THEN 0 ELSE hi END AS hi,
                    CASE WHEN below THEN 0 ELSE lo END AS lo
                FROM (SELECT *, {whole} < 0 OR ({whole} = 0 AND lo % {literal(ONE)} < 0) AS below
                    FROM (SELECT {keys}, leaf, sum(CASE leaf {" ".join(his)} END)::HUGEINT AS hi,
                            sum(CASE leaf {" ".join(los)} END)::HUGEINT AS lo FROM queued GROUP BY {keys}, leaf)))""",
        ]

    # Gauges -------------------------------------------------------------------------------------

    def _gauges(self, number: int, definition: Definition, group: str, leaf: str) -> list[str]:
        meter = definition.meter
        moment = "u.time"
        days = ""
        if meter.get("align") == "day":
            self._days(json.loads(definition.text)[3])
            moment, days = "d.start", "ASOF JOIN day_starts d ON u.time >= d.start"
        whole = "l.whole" if meter.get("unit") == "period" else literal(UNITS[meter.get("unit") or "hour"])
        order = "(PARTITION BY look, dims, gauge ORDER BY moment, time, seq)"
        level = f"sum(value) OVER {order}" if meter.get("reads") == "change" else "value"
        convert = meter.get("convert") or {}
        total = convert if convert.get("per", "total") == "total" else None
        return [
            f"""asked AS (SELECT l.look, l.partition, l.customer, l.subscription, l.book, l.upto, l.horizon,
                {whole}::HUGEINT AS unit,
                t.seg, t.charge, t.kind, t.in_seg, t.span_start, t.span_end
                FROM looks l JOIN targets t ON t.book = l.book AND t.agreement = l.agreement AND t.period = l.period
                    AND t.def = {number})""",
            f"""spoken AS (SELECT k.look, u.dims, u.gauge, u.seq, u.time, u.value, {moment} AS moment
                FROM (SELECT DISTINCT look, partition, customer, upto FROM asked) k
                JOIN covered u ON u.customer = k.customer AND u.partition = k.partition
                    AND u.meter = {text(definition.meter_name)} {days}
                WHERE u.seq < k.upto AND (u.void_seq IS NULL OR u.void_seq >= k.upto))""",
            f"""steps AS (SELECT *, ({level})::HUGEINT AS level,
                coalesce(lead(moment) OVER {order}, {2**62}) AS until FROM spoken)""",
            f"""shown AS (SELECT a.look, a.seg, a.charge, a.kind, s.seq, s.time, [{group}]::VARCHAR[] AS grp,
                {leaf.replace("dims", "s.dims")} AS leaf, s.dims
                FROM asked a JOIN spoken s ON s.look = a.look AND s.time >= a.span_start AND s.time < a.span_end)""",
            f"""integrals AS (SELECT a.look, a.seg, a.charge, a.kind,
                [{group.replace("dims", "s.dims")}]::VARCHAR[] AS grp,
                {leaf.replace("dims", "s.dims")} AS leaf, any_value(a.unit) AS unit,
                sum(s.level * greatest(least(a.span_end, a.horizon, s.until) - greatest(a.span_start, s.moment), 0))
                    AS n,
                bool_or(s.level <> 0 AND s.moment <= a.span_start AND s.until > a.span_start
                    AND a.span_start <= a.horizon) AS held
                FROM asked a JOIN steps s ON s.look = a.look GROUP BY ALL)""",
            f"""totals AS (SELECT i.look, i.seg, i.charge, i.kind, i.grp, i.leaf,
                {converted(total, "i.n::HUGEINT", "i.unit")} AS q
                FROM integrals i
                WHERE i.n <> 0 OR i.held OR EXISTS (SELECT 1 FROM shown w WHERE w.look = i.look AND w.seg = i.seg
                    AND w.charge = i.charge AND w.kind = i.kind AND w.grp = i.grp AND w.leaf = i.leaf))""",
        ]

    def _days(self, zone: str) -> None:
        starts = Calendar("day", zone, 1, 1).starts(self._span[0], self._span[1])
        self._make("day_starts", "start BIGINT", [(start,) for start in starts])

    # Without usage ------------------------------------------------------------------------------

    def _unused(
        self,
        looks: list[Look],
        definitions: list[tuple[Definition, bool]],
        used: dict[tuple[int, str], set[int]],
        result: Lines,
    ) -> None:
        """What charges ask for a period without any usage of theirs, in the first segment that bills nought."""
        amounts: dict[str, int] = {}
        for look in looks:
            if not look.closed:
                continue
            agreement = self._agreements[look.agreement]
            told: set[str] = set()
            for segment in agreement.segments(look.period):
                for name, charge in segment.plan.charges.items():
                    if segment.plan.trial or name in told or charge["price"]["model"] in PERIODIC:
                        continue
                    if not bills_nought(charge):
                        continue
                    told.add(name)
                    if used.get((look.number, name)) or (look.number, segment.start, name) in result.unread:
                        continue
                    meter = self._meters[look.book][charge["meter"]]
                    definition = define(name, charge, meter, agreement.zone, False)
                    if definition.text not in amounts:
                        amounts[definition.text] = self._of_nought(definition)
                    group: Group = tuple(None for _ in charge.get("group_by") or [])
                    line = Line(0, amounts[definition.text])
                    result.found[look.number][LineKey(segment.start, name, group)] = line

    def _of_nought(self, definition: Definition) -> int:
        tree = read_tree(definition.charge["price"], list(definition.meter.get("dimensions") or {}), self._span)
        leaf = tree.leaves[tree.unused]
        cost = Cost("0::HUGEINT", "0::HUGEINT")
        if not is_per_event(leaf):
            cost = cost_of(leaf, "billed", bool(definition.charge.get("bill_zero_usage")))
        row = self._connection.execute(
            f"SELECT {bounded(definition.charge, Cost('hi', 'lo'))} FROM (SELECT {cost.hi} AS hi, {cost.lo} AS lo "
            "FROM (SELECT 0::HUGEINT AS billed))"
        ).fetchone()
        assert row is not None
        return int(row[0])
