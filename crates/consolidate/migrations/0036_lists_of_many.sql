-- Members follow when thousands leave at once: each of those whose way has changed is looked up in the indexes of members, where
-- one condition for all of them read every member and compared it with each. The rest of the function is that of 0020.
create or replace function customer360.follow_lists(changed uuid[]) returns void
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
        with led_members as materialized (
            select m.customer_id, m.list
            from unnest(led) as k join customer360.list_members m on m.customer_id = k
            union
            select m.customer_id, m.list
            from unnest(led) as k join customer360.list_members m on m.put_on @> array[k]
        )
        delete from customer360.list_members m using led_members l
        where m.customer_id = l.customer_id and m.list = l.list
        returning m.*
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
