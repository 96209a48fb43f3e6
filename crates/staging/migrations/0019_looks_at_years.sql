-- `status` and the gauges look every few seconds, so at what is open, and not at what years have left.

-- The file that each source took up last, and those that were refused.
create index csv_imports_latest on staging.csv_imports (source, import_id);
create index csv_imports_refused on staging.csv_imports (source, as_of) where state = 'refused';

-- Who was ever written to, and what of it is open.
create index outbox_source on staging.outbox (source);
create index outbox_open on staging.outbox (source) where state <> 'settled';

-- How many are parked, and how many of them came lately.
create index dead_letters_parked on staging.dead_letters (source, reason, landed_at) where state = 'parked';
drop index staging.dead_letters_source;

-- As of customers: `run --once` looks whether another process holds what was never answered.
create index polled_products_never_asked on staging.polled_products (source, next_at)
    where checked_at is null and failures = 0;
