-- For whoever writes about a customer without reading cross-references: whether that one is there, and stays until the end of
-- the transaction. An erasure that has begun is waited for, and then seen, because a function's statements see what others have
-- committed meanwhile. It says nothing but that, so it may look past the row filter.
create function customer360.stays(who uuid) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog as $$
begin
    perform pg_advisory_xact_lock_shared(hashtext('c360.erasures'));
    return exists (select from customer360.customers c where c.customer_id = who);
end
$$;
