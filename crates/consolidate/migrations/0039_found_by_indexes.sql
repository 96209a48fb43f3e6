-- Whoever looks for a person looks among those that are held back, which have an email and no match key.
create index xrefs_held_back on customer360.xrefs (system, external_id) where match_key is null and email is not null;

-- Those whom a system knows that knows few: without it all are read by name until enough are found.
create index customer_search_systems on customer360.customer_search using gin (systems);
