-- A key that nobody has any more is taken back from all sources, by the fold and by erasures.
create index polls_match_key on staging.polls (match_key);

-- What arrived is forgotten every minute; where customers were made is settled for good.
create index outbox_arrived on staging.outbox (settled_at) where state = 'settled' and kind = 'update';
