-- The spend store's tables in ClickHouse. Amounts and quantities are Decimal(38, 12), times microseconds since the
-- epoch. An insert is not a transaction over tables: every table keeps the highest revision of each row, so whatever
-- is written again after a crash converges. What a row's partition is made of never changes for its key, so that all of
-- its revisions meet in one. `{database}` is filled in by rating.spend.clickhouse_schema.

CREATE TABLE IF NOT EXISTS {database}.positions (id String, revision UInt64)
ENGINE = ReplacingMergeTree(revision) ORDER BY id;

CREATE TABLE IF NOT EXISTS {database}.progress (id String, revision UInt64, body String)
ENGINE = ReplacingMergeTree(revision) ORDER BY id;

CREATE TABLE IF NOT EXISTS {database}.clocks (id String, revision UInt64)
ENGINE = ReplacingMergeTree(revision) ORDER BY id;

CREATE TABLE IF NOT EXISTS {database}.catalogues (id String, revision UInt64, body String)
ENGINE = ReplacingMergeTree(revision) ORDER BY id;

CREATE TABLE IF NOT EXISTS {database}.line_items (
    id String, revision UInt64, sort_key LowCardinality(String), body String CODEC(ZSTD),
    tenant LowCardinality(String), customer String, subscription String, currency LowCardinality(String),
    period_start Int64, period_end Int64,
    charge LowCardinality(String), dimensions String,
    quantity Decimal(38, 12), amount Decimal(38, 12),
    events Int64, last_event Nullable(Int64)
) ENGINE = ReplacingMergeTree(revision) PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(period_start, 'UTC'))
ORDER BY (tenant, customer, id);

CREATE TABLE IF NOT EXISTS {database}.invoices (
    id String, revision UInt64, sort_key String, body String CODEC(ZSTD),
    tenant LowCardinality(String), customer String, subscription String, currency LowCardinality(String),
    period_start Int64, period_end Int64,
    kind LowCardinality(String), status LowCardinality(String),
    subtotal Decimal(38, 12), total Decimal(38, 12),
    INDEX by_id id TYPE bloom_filter GRANULARITY 4
) ENGINE = ReplacingMergeTree(revision) PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(period_start, 'UTC'))
ORDER BY (tenant, customer, id);

CREATE TABLE IF NOT EXISTS {database}.alerts (
    id String, revision UInt64, sort_key String, body String CODEC(ZSTD),
    tenant LowCardinality(String), customer String, subscription String, currency LowCardinality(String),
    period_start Int64, period_end Int64
) ENGINE = ReplacingMergeTree(revision) PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(period_start, 'UTC'))
ORDER BY (tenant, customer, id);

CREATE TABLE IF NOT EXISTS {database}.rejections (
    id String, revision UInt64, sort_key String, body String CODEC(ZSTD),
    tenant LowCardinality(String), code LowCardinality(String)
) ENGINE = ReplacingMergeTree(revision) ORDER BY (tenant, id);

CREATE TABLE IF NOT EXISTS {database}.mends (id String, revision UInt64, body String CODEC(ZSTD))
ENGINE = ReplacingMergeTree(revision) ORDER BY id;

CREATE TABLE IF NOT EXISTS {database}.events (
    log_partition Int64, log_offset Int64, log_index Int64,
    tenant LowCardinality(String), customer String, identity FixedString(16),
    type LowCardinality(String), time Int64, data String CODEC(ZSTD),
    subject String, source LowCardinality(String), id String, arrived Int64, extensions Nullable(String)
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(time, 'UTC'))
ORDER BY (tenant, customer, log_partition, log_offset, log_index);

CREATE TABLE IF NOT EXISTS {database}.controls (
    log_partition Int64, log_offset Int64, kind Int64, time Int64 CODEC(DoubleDelta, ZSTD), body String CODEC(ZSTD)
) ENGINE = ReplacingMergeTree ORDER BY (log_partition, log_offset);
