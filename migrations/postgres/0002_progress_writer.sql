-- Who wrote a row of progress: of two rows of one era the gaps are those of the later writer, so that a gap that was closed
-- leaves the row. What stands here was written by nobody in particular, who is earlier than everybody.
ALTER TABLE progress
    ADD COLUMN term    int8           NOT NULL DEFAULT 0,
    ADD COLUMN attempt uuid           NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- The part of the gaps that this store was never told.
    ADD COLUMN missed  int8multirange NOT NULL DEFAULT '{}';
