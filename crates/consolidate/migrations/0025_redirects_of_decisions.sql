-- Where a merge leads is where its match key leads, whoever had it. A redirect followed the last cross-reference only: to a third one
-- when that had another email, and nowhere when nobody was there to be moved. Invariants held here:
--   * where no match key is marked, whoever has nobody, and whose match key a merge that stands leads elsewhere, leads there,
--     whatever becomes of the cross-references that it had.

alter table customer360.redirects
    -- Where a merge leads that stands; it comes before where the last cross-reference is.
    add column decided_to uuid;

create index redirects_decided_to on customer360.redirects (decided_to) where decided_to is not null;

-- Where a customer's redirects lead: itself while it lives or has none. A circle ends at 64 steps. It says nothing but ids,
-- so it may look past the row filter.
create or replace function customer360.resolved(named uuid) returns uuid
language plpgsql stable security definer set search_path = pg_catalog as $$
declare
    next uuid;
begin
    for step in 1..64 loop
        select coalesce(r.decided_to, r.to_customer_id) into next
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
        where (r.decided_to = any (added) or r.decided_to is null and r.to_customer_id = any (added))
          and r.customer_id <> all (known) and c.deleted_at is not null;
        known := known || added;
    end loop;
    return known;
end
$$;

-- The fold writes where merges lead.
insert into customer360.dirty_marks (match_keys, cause, marked_at)
select array_agg(distinct subject[1]), 'decision', now()
from customer360.decisions
where kind = 'merge' and undone_at is null
having count(*) > 0;
