-- The spend store's tables in DuckDB. Amounts and quantities are DECIMAL(38,12), times microseconds since the epoch.
-- No table has a primary key: records come in batches, and one hash join per batch costs less than an index. Line
-- items, which change all the time, are appended without a look and read through `line_items_latest`: an update in
-- place rewrites whole columns (benchmarks.spend_store). The other tables hold one row per id by `MERGE`.

CREATE TABLE IF NOT EXISTS positions (id VARCHAR NOT NULL, revision BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS progress (id VARCHAR NOT NULL, revision BIGINT NOT NULL, body VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS clocks (id VARCHAR NOT NULL, revision BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS catalogues (id VARCHAR NOT NULL, revision BIGINT NOT NULL, body VARCHAR NOT NULL);

CREATE TABLE IF NOT EXISTS line_items (
    id VARCHAR NOT NULL, revision BIGINT NOT NULL, sort_key VARCHAR NOT NULL, body VARCHAR NOT NULL USING COMPRESSION zstd,
    tenant VARCHAR NOT NULL, customer VARCHAR NOT NULL, subscription VARCHAR NOT NULL, currency VARCHAR NOT NULL,
    period_start BIGINT NOT NULL, period_end BIGINT NOT NULL,
    charge VARCHAR NOT NULL, dimensions VARCHAR NOT NULL,
    quantity DECIMAL(38, 12) NOT NULL, amount DECIMAL(38, 12) NOT NULL,
    events BIGINT NOT NULL, last_event BIGINT
);

-- The newest revision of each id. What an id stands for never changes, and stands here beside it so that a filter on
-- it reaches the table itself.
CREATE OR REPLACE VIEW line_items_latest AS SELECT * FROM line_items QUALIFY row_number() OVER (
    PARTITION BY tenant, customer, subscription, charge, period_start, sort_key, id ORDER BY revision DESC
) = 1;

CREATE TABLE IF NOT EXISTS invoices (
    id VARCHAR NOT NULL, revision BIGINT NOT NULL, sort_key VARCHAR NOT NULL, body VARCHAR NOT NULL,
    tenant VARCHAR NOT NULL, customer VARCHAR NOT NULL, subscription VARCHAR NOT NULL, currency VARCHAR NOT NULL,
    period_start BIGINT NOT NULL, period_end BIGINT NOT NULL,
    kind VARCHAR NOT NULL, status VARCHAR NOT NULL,
    subtotal DECIMAL(38, 12) NOT NULL, total DECIMAL(38, 12) NOT NULL
);

CREATE TABLE IF NOT EXISTS alerts (
    id VARCHAR NOT NULL, revision BIGINT NOT NULL, sort_key VARCHAR NOT NULL, body VARCHAR NOT NULL,
    tenant VARCHAR NOT NULL, customer VARCHAR NOT NULL, subscription VARCHAR NOT NULL, currency VARCHAR NOT NULL,
    period_start BIGINT NOT NULL, period_end BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS rejections (
    id VARCHAR NOT NULL, revision BIGINT NOT NULL, sort_key VARCHAR NOT NULL, body VARCHAR NOT NULL,
    tenant VARCHAR NOT NULL, code VARCHAR NOT NULL
);

-- Events that stand for rejected ones: `id` is the tenant's and the rejection's.
CREATE TABLE IF NOT EXISTS mends (id VARCHAR NOT NULL, revision BIGINT NOT NULL, body VARCHAR NOT NULL);

CREATE TABLE IF NOT EXISTS events (
    log_partition BIGINT NOT NULL, log_offset BIGINT NOT NULL, log_index BIGINT NOT NULL,
    tenant VARCHAR NOT NULL, customer VARCHAR NOT NULL, identity BLOB NOT NULL,
    type VARCHAR NOT NULL, time BIGINT NOT NULL, data BLOB NOT NULL,
    subject VARCHAR NOT NULL, source VARCHAR NOT NULL, id VARCHAR NOT NULL, arrived BIGINT NOT NULL, extensions VARCHAR
);

CREATE TABLE IF NOT EXISTS controls (
    log_partition BIGINT NOT NULL, log_offset BIGINT NOT NULL, kind BIGINT NOT NULL,
    time BIGINT NOT NULL, body VARCHAR NOT NULL
);
