-- Under which other emails a source last gave a customer that it now gives under this one: what is remembered of those
-- answers is not used again. By hash, for an id may be of any length.
create index polls_answered on staging.polls using hash (external_id);
