-- Forgetting dead letters that are settled. Invariant held here: a letter that is parked is never forgotten by time.

-- Letters that were settled before handled_at was there count from when they came.
create index dead_letters_settled on staging.dead_letters ((coalesce(handled_at, landed_at))) where state <> 'parked';
