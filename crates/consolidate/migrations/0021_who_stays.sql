-- For whoever writes about a customer without reading cross-references. Both say nothing but what they are asked, so they may
-- look past the row filter.

-- Whether a customer is there, and stays until the end of the transaction: an erasure that has begun is waited for, and then
-- seen. Nobody waits for a fold.
create function customer360.stays(who uuid) returns boolean
language sql volatile security definer set search_path = pg_catalog as $$
    select exists (select from customer360.customers c where c.customer_id = who for key share)
$$;

-- Whether a customer lives, and does so until the end of the transaction: a fold of the same customer is waited for, too.
create function customer360.lives(who uuid) returns boolean
language sql volatile security definer set search_path = pg_catalog as $$
    select exists (select from customer360.customers c where c.customer_id = who and c.deleted_at is null for share)
$$;
