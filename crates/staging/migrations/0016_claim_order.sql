-- Batches are claimed in the order of their ids. Whoever lands for a source holds a lock, or has read the progress of the batch
-- before, so its ids grow as it lands; landed_at is the clock of one host or another, and may be set back.
create index batches_to_claim on staging.batches (batch_id)
    where consolidated_at is null and abandoned_at is null;
drop index staging.batches_claimable;
