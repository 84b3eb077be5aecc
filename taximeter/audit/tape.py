"""The tape: everything of one tenant that an archive holds before some position, as tables in DuckDB, in the order of
the log.

`events` are usage events and voids, duplicates included; `entries` ticks, catalogues and re-ratings, of all tenants as
they stand in the log (`placing.History` chooses). Both carry `seq`,
a whole number that rises along a partition's log. `fresh` says of an event that it is the first of its identity.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import pyarrow.parquet as pq

from rating.archive.ranges import ENTRIES, EVENTS, Coverage, Part
from rating.archive.store import ROWS, Archive, ArchiveError
from schemas.access import DEFAULT_TENANT
from schemas.entry import TENANT_CATALOGUE, decode_catalogue
from schemas.event import VOID_TYPE
from schemas.times import DAY
from taximeter.audit import exact

STEP: Final = 1 << 20
"""How far apart the `seq` of two offsets are: more than a pack has events."""
_BUCKET: Final = 7 * DAY


class Loaded(NamedTuple):
    """What was read. `through`: partition -> the offset before which everything counts. `gaps`: what is missing."""

    through: dict[int, int]
    gaps: list[tuple[int, int, int]]
    events: int
    duplicates: int
    tenants: tuple[str, ...]
    """Everybody who has events or documents there, `default` first."""


def load(
    connection: duckdb.DuckDBPyConnection,
    archive: Archive,
    through: Mapping[int, int],
    window_days: int | None,
    customers: Sequence[str] = (),
    tenant: str = DEFAULT_TENANT,
) -> Loaded:
    """Reads what is a tenant's in the archive, up to `through` (partition -> offset). `customers`: only their events;
    by default all.

    `window_days`: for how long the engine knows an identity; None: for ever. Raises: ArchiveError.
    """
    exact.install(connection)
    held = archive.coverage()
    cut = {partition: min(through.get(partition, 0), cover.end) for partition, cover in held.items()}
    with tempfile.TemporaryDirectory(prefix="taximeter-audit-") as copies:
        reader = _Reader(connection, archive, Path(copies))
        parts = [part for partition, cover in held.items() for part in cover.parts if part.first < cut[partition]]
        reader.read(
            ENTRIES, parts, cut, "entries_read", 'partition INTEGER, "offset" BIGINT, kind VARCHAR, payload VARCHAR'
        )
        reader.read(EVENTS, parts, cut, "events_read", _EVENT_COLUMNS, customers)
    connection.execute(
        f'CREATE TABLE entries AS SELECT partition, "offset" * {STEP} AS seq, kind, payload FROM entries_read '
        "ORDER BY 1, 2"
    )
    connection.execute("DROP TABLE entries_read")
    _mark_duplicates(connection, window_days)
    tenants = _tenants(connection)
    connection.execute("DELETE FROM events WHERE tenant <> ?", [tenant])  # the others' arrivals have moved the window
    _find_voids(connection)
    count, fresh = _one(connection, "SELECT count(*), count(*) FILTER (fresh) FROM events")
    return Loaded(cut, _gaps(held, cut), count, count - fresh, tenants)


_EVENT_COLUMNS: Final = """partition INTEGER, "offset" BIGINT, index INTEGER, tenant VARCHAR, customer VARCHAR,
    source VARCHAR, id VARCHAR, type VARCHAR, subject VARCHAR, time TIMESTAMPTZ, arrived TIMESTAMPTZ, data VARCHAR"""


def _gaps(held: Mapping[int, Coverage], cut: Mapping[int, int]) -> list[tuple[int, int, int]]:
    found = []
    for partition, cover in held.items():
        before = [(0, cover.begin)] if cover.begin else []
        found += [(partition, *gap) for gap in [*before, *cover.gaps] if gap[0] < cut[partition]]
    return found


class _Reader:
    """Reads an archive's files into tables, each offset once."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, archive: Archive, copies: Path) -> None:
        self._connection, self._archive, self._copies = connection, archive, copies

    def read(
        self,
        kind: str,
        parts: Sequence[Part],
        cut: Mapping[int, int],
        table: str,
        columns: str,
        customers: Sequence[str] = (),
    ) -> None:
        self._connection.execute(f"CREATE TABLE {table} ({columns})")
        names = ", ".join(_names(columns))
        files = self._archive.files(kind)
        whole: list[str] = []
        for part in parts:
            paths = [self._local(path) for path in files.get(part.cut, [])]
            if kind == EVENTS:
                self._check(part, paths)
            if (part.first, part.end) == (part.cut.first, part.cut.end) and part.end <= cut[part.cut.partition]:
                whole += paths
                continue
            end = min(part.end, cut[part.cut.partition])
            bounds = f'"offset" >= {part.first} AND "offset" < {end}'
            for path in paths:
                self._insert(table, names, [path], bounds, customers)
        if whole:
            self._insert(table, names, whole, "true", customers)

    def _insert(self, table: str, names: str, paths: list[str], where: str, customers: Sequence[str]) -> None:
        if customers:
            where += f" AND customer IN ({', '.join(map(exact.text, customers))})"
        listed = "[" + ", ".join(map(exact.text, paths)) + "]"
        source = f"read_parquet({listed}, hive_partitioning = false)"
        self._connection.execute(f"INSERT INTO {table} SELECT {names} FROM {source} WHERE {where}")

    def _local(self, path: str) -> str:
        if self._archive.folder is not None:
            return str(self._archive.folder / path)
        copy = self._copies / path.replace("/", "_")
        if not copy.exists():
            copy.write_bytes(self._archive.read(path))
        return str(copy)

    def _check(self, part: Part, paths: Sequence[str]) -> None:
        """The cut's files hold as many events as its last file says. Raises: ArchiveError."""
        marker = self._local(f"{ENTRIES}/{part.cut.name}")
        said = sum(json.loads((pq.read_metadata(marker).metadata or {}).get(ROWS, b"{}")).values())
        found = sum(pq.read_metadata(path).num_rows for path in paths)
        if said != found:
            raise ArchiveError(f"{part.cut.name} in {self._archive.url}: found {found} events, expected {said}")


def _names(columns: str) -> list[str]:
    return [column.split()[0] for column in columns.split(",")]


def _mark_duplicates(connection: duckdb.DuckDBPyConnection, window_days: int | None) -> None:
    """The first event of an identity is fresh, and so is one that comes when the identity has been let go: the window,
    in whole weeks of the partition's greatest arrival so far."""
    connection.execute(f"""
        CREATE TABLE events AS
        SELECT partition, "offset" * {STEP} + index AS seq, "offset", index, tenant, customer, source, id, type,
            subject, epoch_us(time) AS time, epoch_us(arrived) AS arrived, data, false AS fresh,
            max(epoch_us(arrived)) OVER (PARTITION BY partition ORDER BY "offset", index) // {_BUCKET} AS week
        FROM events_read ORDER BY partition, seq""")
    connection.execute("DROP TABLE events_read")
    key = "tenant, customer, source, id"
    connection.execute(f"CREATE TEMP TABLE known AS SELECT {key}, min(seq) AS seq FROM events GROUP BY ALL")
    while _one(connection, "SELECT count(*) FROM known")[0]:
        connection.execute("UPDATE events SET fresh = true FROM known k WHERE events.seq = k.seq AND " + _same("k"))
        if window_days is None:
            break
        gone = f"(e.week - f.week - 1) * {_BUCKET} >= {window_days * DAY}"
        connection.execute(f"""
            CREATE OR REPLACE TEMP TABLE known AS
            SELECT {", ".join("e." + name for name in key.split(", "))}, min(e.seq) AS seq
            FROM events e JOIN known k USING ({key})
            JOIN events f ON f.seq = k.seq AND f.tenant = k.tenant AND f.customer = k.customer AND f.source = k.source
                AND f.id = k.id
            WHERE e.seq > k.seq AND {gone} GROUP BY ALL""")
    connection.execute("DROP TABLE known")


def _tenants(connection: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    found = {tenant for (tenant,) in connection.execute("SELECT DISTINCT tenant FROM events").fetchall()}
    brought = connection.execute("SELECT payload FROM entries WHERE kind = 'tenant_catalogue'").fetchall()
    found |= {decode_catalogue(TENANT_CATALOGUE, payload.encode()).tenant for (payload,) in brought}
    return (DEFAULT_TENANT, *sorted(found - {DEFAULT_TENANT}))


def _find_voids(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"""
        CREATE TABLE voids AS
        SELECT customer, json_extract_string(data, '$.source') AS source, json_extract_string(data, '$.id') AS id,
            min(seq) AS void_seq, arg_min(source, seq) AS void_source, arg_min(id, seq) AS void_id
        FROM events WHERE type = '{VOID_TYPE}' AND fresh GROUP BY 1, 2, 3""")


def _same(other: str) -> str:
    return " AND ".join(f"events.{name} = {other}.{name}" for name in ("tenant", "customer", "source", "id"))


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row
