CREATE DATABASE IF NOT EXISTS taximeter;

CREATE TABLE IF NOT EXISTS taximeter.schema_versions (version UInt32) ENGINE = MergeTree ORDER BY version;

CREATE TABLE IF NOT EXISTS taximeter.positions (id String, revision UInt64)
ENGINE = ReplacingMergeTree(revision) ORDER BY id;

CREATE TABLE IF NOT EXISTS taximeter.progress (id String, revision UInt64, body String)
ENGINE = ReplacingMergeTree(revision) ORDER BY id;

CREATE TABLE IF NOT EXISTS taximeter.clocks (id String, revision UInt64)
ENGINE = ReplacingMergeTree(revision) ORDER BY id;

CREATE TABLE IF NOT EXISTS taximeter.catalogues (id String, revision UInt64, body String)
ENGINE = ReplacingMergeTree(revision) ORDER BY id;

CREATE TABLE IF NOT EXISTS taximeter.line_items (
    id String, revision UInt64, sort_key LowCardinality(String), body String CODEC(ZSTD),
    tenant LowCardinality(String), customer String, subscription String, currency LowCardinality(String),
    period_start Int64, period_end Int64,
    charge LowCardinality(String), dimensions String,
    quantity Decimal(38, 12), amount Decimal(38, 12),
    events Int64, last_event Nullable(Int64)
) ENGINE = ReplacingMergeTree(revision) PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(period_start, 'UTC'))
ORDER BY (tenant, customer, id);

CREATE TABLE IF NOT EXISTS taximeter.invoices (
    id String, revision UInt64, sort_key String, body String CODEC(ZSTD),
    tenant LowCardinality(String), customer String, subscription String, currency LowCardinality(String),
    period_start Int64, period_end Int64,
    kind LowCardinality(String), status LowCardinality(String),
    subtotal Decimal(38, 12), total Decimal(38, 12),
    INDEX by_id id TYPE bloom_filter GRANULARITY 4
) ENGINE = ReplacingMergeTree(revision) PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(period_start, 'UTC'))
ORDER BY (tenant, customer, id);

CREATE TABLE IF NOT EXISTS taximeter.alerts (
    id String, revision UInt64, sort_key String, body String CODEC(ZSTD),
    tenant LowCardinality(String), customer String, subscription String, currency LowCardinality(String),
    period_start Int64, period_end Int64
) ENGINE = ReplacingMergeTree(revision) PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(period_start, 'UTC'))
ORDER BY (tenant, customer, id);

CREATE TABLE IF NOT EXISTS taximeter.rejections (
    id String, revision UInt64, sort_key String, body String CODEC(ZSTD),
    tenant LowCardinality(String), code LowCardinality(String)
) ENGINE = ReplacingMergeTree(revision) ORDER BY (tenant, id);

CREATE TABLE IF NOT EXISTS taximeter.mends (id String, revision UInt64, body String CODEC(ZSTD))
ENGINE = ReplacingMergeTree(revision) ORDER BY id;

CREATE TABLE IF NOT EXISTS taximeter.events (
    log_partition Int64, log_offset Int64, log_index Int64,
    tenant LowCardinality(String), customer String, identity FixedString(16),
    type LowCardinality(String), time Int64, data String CODEC(ZSTD),
    subject String, source LowCardinality(String), id String, arrived Int64, extensions Nullable(String)
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(time, 'UTC'))
ORDER BY (tenant, customer, log_partition, log_offset, log_index);

CREATE TABLE IF NOT EXISTS taximeter.controls (
    log_partition Int64, log_offset Int64, kind Int64, time Int64 CODEC(DoubleDelta, ZSTD), body String CODEC(ZSTD)
) ENGINE = ReplacingMergeTree ORDER BY (log_partition, log_offset);

INSERT INTO taximeter.schema_versions (version) VALUES (1);
