-- For whoever writes about a customer without reading cross-references: whether that one lives, and stays so until the end of
-- the transaction; null for nobody. An erasure or a fold of the same customer is waited for, and then seen. It says nothing
-- but that, so it may look past the row filter.
create function customer360.lives(who uuid) returns boolean
language sql volatile security definer set search_path = pg_catalog as $$
    select c.deleted_at is null from customer360.customers c where c.customer_id = who for share
$$;
