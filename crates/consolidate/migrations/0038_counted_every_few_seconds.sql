-- How many match nobody, for the gauges: of the living alone, so that the index answers.
create index xrefs_unmatched_living on customer360.xrefs (unmatched_reason)
    where unmatched_reason is not null and deleted_at is null;
drop index customer360.xrefs_unmatched;
