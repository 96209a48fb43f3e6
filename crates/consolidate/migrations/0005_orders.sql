-- What became of orders. Invariant held here: an order that is cancelled, or whose numbers do not agree, is an order all the same.

alter table customer360.orders
    -- The source's word for its state, of the newest record.
    add column status text,
    -- Whether that word is one of those that the mapping calls cancelled.
    add column cancelled boolean not null default false,
    -- The sum of the lines; null if one lacks a number or there are none. Of orders from before this column was there, null
    -- until their next record with lines.
    add column lines_total numeric;

-- Counted every few seconds.
create index orders_total_differs on customer360.orders (system)
    where given_total <> lines_total and deleted_at is null;
