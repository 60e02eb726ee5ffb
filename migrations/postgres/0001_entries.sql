-- The tables of one tracker schema. Names here carry no schema: the search path names it.
--
-- Whole numbers without a sign (eras, terms, revisions, fingerprints, counts) are kept in two's complement, so a small one
-- reads as itself and one from 2^63 on is negative. Times are milliseconds since the Unix epoch, by the writers' clocks.
-- Text is escaped where it holds one of the characters U+0000 to U+0005, which PostgreSQL's text cannot all hold.

CREATE TABLE namespace (
    id      int4  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name    bytea NOT NULL,
    cluster text  COLLATE "C",
    pings   int8  NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- A name may be longer than an index holds.
CREATE UNIQUE INDEX namespace_name ON namespace (sha256(name));

CREATE TABLE entry (
    "offset"         int8 NOT NULL,
    era              int8 NOT NULL,
    term             int8 NOT NULL,
    at               int8 NOT NULL,
    first_failed_at  int8,
    fingerprint      int8,
    tries            int8,
    next_try         int8,
    revision         int8 NOT NULL DEFAULT 0,
    about_era        int8,
    about_term       int8,
    decided_at       int8,
    lease_until      int8,
    namespace        int4 NOT NULL,
    partition        int4 NOT NULL,
    -- 0 received, 1 failing, 2 failed, 3 succeeded
    outcome          int2 NOT NULL,
    about_outcome    int2,
    -- 0 retry, 1 skip, 2 replaying, 3 replayed, 4 discarded
    decision         int2,
    -- What a person sees: 0 received, 1 failing, 2 blocking, 3 open, 4 skipped, 5 replaying, 6 replayed, 7 discarded, 8 succeeded
    status           int2 NOT NULL GENERATED ALWAYS AS (
        CASE outcome
            WHEN 0 THEN 0
            WHEN 1 THEN CASE WHEN passes THEN 1 ELSE 2 END
            WHEN 2 THEN CASE
                WHEN decision = 1 AND about_era = era THEN 4
                WHEN decision BETWEEN 2 AND 4 AND about_era = era AND about_term = term
                     AND about_attempt = attempt AND about_outcome = outcome THEN decision + 3
                ELSE 3
            END
            WHEN 3 THEN 8
        END) STORED,
    passes           bool,
    bytes_refused    bool,
    attempt          uuid NOT NULL,
    about_attempt    uuid,
    replay           uuid,
    topic            text COLLATE "C" NOT NULL,
    class            text COLLATE "C",
    message          text COLLATE "C",
    -- Headers are there, if without content, where the record's bytes were captured.
    key              bytea,
    value            bytea,
    headers          bytea,
    actor            text COLLATE "C",
    reason           text COLLATE "C",
    transactional_id text COLLATE "C",
    PRIMARY KEY (namespace, topic, partition, "offset")
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- What has failed once, newest first: all of it, by status, by class.
CREATE INDEX entry_newest ON entry (namespace, first_failed_at, topic, partition, "offset") WHERE first_failed_at IS NOT NULL;
CREATE INDEX entry_status ON entry (namespace, status, first_failed_at, topic, partition, "offset") WHERE first_failed_at IS NOT NULL;
CREATE INDEX entry_class ON entry (namespace, class, first_failed_at, topic, partition, "offset") WHERE class IS NOT NULL;

-- Groups, counted without a look at the entries themselves; and one cause's entries.
CREATE INDEX entry_cause ON entry (namespace, fingerprint, topic, partition, "offset") INCLUDE (first_failed_at, status)
    WHERE fingerprint IS NOT NULL;

-- A key may be longer than an index holds, and one key may be a million records'.
CREATE INDEX entry_key ON entry (namespace, substring(sha256(key) FROM 1 FOR 8)) WHERE key IS NOT NULL;

-- What an owner settles, and what of older eras may go.
CREATE INDEX entry_unfinished ON entry (namespace, topic, partition, "offset") WHERE status IN (0, 1, 2);
CREATE INDEX entry_open ON entry (namespace, topic, partition, (era < 0), era, "offset") INCLUDE (at) WHERE status = 3;

-- What may go by age. A success costs this one and the primary key; nothing else of a record that never failed is indexed.
CREATE INDEX entry_age ON entry (namespace, status, at, topic, partition, "offset") WHERE status IN (4, 6, 7, 8);

CREATE TABLE progress (
    era       int8 NOT NULL,
    floor     int8 NOT NULL,
    received  int8 NOT NULL,
    committed int8 NOT NULL,
    failed    int8 NOT NULL,
    succeeded int8 NOT NULL,
    at        int8 NOT NULL,
    namespace int4 NOT NULL,
    partition int4 NOT NULL,
    topic     text COLLATE "C" NOT NULL,
    gaps      int8multirange NOT NULL,
    PRIMARY KEY (namespace, topic, partition)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1);
