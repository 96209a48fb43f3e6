-- redirects.to_customer_id is where a redirect leads, again. What it is made from has columns of its own: where the last
-- cross-reference is, and where a merge that stands leads, which comes first.

alter table customer360.redirects
    add column followed_to uuid;

update customer360.redirects
set followed_to = to_customer_id, to_customer_id = coalesce(decided_to, to_customer_id);

drop index customer360.redirects_decided_to;

-- Where a customer's redirects lead: itself while it lives or has none. A circle ends at 64 steps. It says nothing but ids,
-- so it may look past the row filter.
create or replace function customer360.resolved(named uuid) returns uuid
language plpgsql stable security definer set search_path = pg_catalog as $$
declare
    next uuid;
begin
    for step in 1..64 loop
        select r.to_customer_id into next
        from customer360.redirects r
        join customer360.customers c on c.customer_id = r.customer_id
        where r.customer_id = named and c.deleted_at is not null;
        exit when next is null;
        named := next;
    end loop;
    return named;
end
$$;

-- A customer and everybody whose redirects end there.
create or replace function customer360.once_known_as(named uuid) returns uuid[]
language plpgsql stable security definer set search_path = pg_catalog as $$
declare
    known uuid[] := array[named];
    added uuid[] := known;
begin
    while added is not null loop
        select array_agg(r.customer_id) into added
        from customer360.redirects r
        join customer360.customers c on c.customer_id = r.customer_id
        where r.to_customer_id = any (added) and r.customer_id <> all (known) and c.deleted_at is not null;
        known := known || added;
    end loop;
    return known;
end
$$;
