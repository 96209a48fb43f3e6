-- Pages of unmatched cross-references.
create index xrefs_unmatched_in_order on customer360.xrefs (system, external_id)
    where unmatched_reason is not null and deleted_at is null;
