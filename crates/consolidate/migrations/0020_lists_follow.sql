-- Lists follow redirects, as notes do. Invariants held here:
--   * whoever is on a list is there under the customer to whom redirects lead from whom it was put on it, so that a list, and a
--     row filter by one, shows the same person after a merge or under another email; and leads back when that is undone.

alter table customer360.list_members
    -- On whom it was put, where that is not this customer alone.
    add column put_on uuid[];
create index list_members_put_on on customer360.list_members using gin (put_on) where put_on is not null;

-- Moves the members of lists from whom redirects have changed, or who has somebody again, or nobody any more.
create function customer360.follow_lists(changed uuid[]) returns void
language plpgsql as $$
declare
    led uuid[];
    member record;
begin
    -- Under the lock, because two folds may each change a part of the way from one customer.
    if not exists (select from customer360.list_members) or not customer360.hold_moves() then
        return;
    end if;
    select array_agg(distinct k) into led from unnest(changed) as c, unnest(customer360.once_known_as(c)) as k;
    for member in
        delete from customer360.list_members m where m.customer_id = any (led) or m.put_on && led returning m.*
    loop
        insert into customer360.list_members as m (customer_id, list, added_at, put_on)
        select l.customer_id, member.list, member.added_at, nullif(array_agg(l.put_on), array[l.customer_id])
        from (select customer360.resolved(p) as customer_id, p as put_on
              from unnest(coalesce(member.put_on, array[member.customer_id])) as p) l
        group by l.customer_id
        on conflict on constraint list_members_pkey do update set
            added_at = least(m.added_at, excluded.added_at),
            put_on = array(select distinct p
                           from unnest(coalesce(m.put_on, array[m.customer_id])
                                       || coalesce(excluded.put_on, array[excluded.customer_id])) as p
                           order by p);
    end loop;
end
$$;

select customer360.follow_lists(array(select customer_id from customer360.list_members));
