-- What retrying a dead letter takes. Invariant held here: a letter is parked until one transaction makes it retried together
-- with the records that it gives, or discards it; both wipe what it holds.
alter table staging.dead_letters
    -- What its ingester needs beside the payload to read it again (key, headers and log position of a message, the form of
    -- a file, the time of an answer, a whole record that could not be consolidated), sealed as the payload is. Null in
    -- letters that were parked before this column was there: they cannot be retried.
    add column context bytea,
    -- When it was last retried, with success or without, or discarded.
    add column handled_at timestamptz,
    -- The batch that its records landed in when it was retried, and the ordinal of the first of them.
    add column landed_batch_id bigint,
    add column landed_ordinal integer;

-- Whose record is it, when consolidation excludes one that was landed by a retry?
create index dead_letters_landed on staging.dead_letters (landed_batch_id, landed_ordinal)
    where landed_batch_id is not null;
