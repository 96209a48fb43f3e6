-- What systems disagree about already. Apart from the column, so that nobody who reads waits for it; whoever folds does, because
-- rows are written in no order that two agree on. Over distributed tables there is no such join: a rebuild finds it there.
do $$
begin
    if (select relkind from pg_class where oid = 'customer360.counts'::regclass) <> 'r' then
        return;
    end if;
    lock table customer360.customer_search in share row exclusive mode;
    update customer360.customer_search s
    set disagreeing = d.attributes
    from (
        select x.customer_id, array_agg(distinct said.key collate "C" order by said.key collate "C") as attributes
        from customer360.xrefs x
        join customer360.customers c on c.customer_id = x.customer_id
        cross join lateral jsonb_each(x.attributes) as said
        where x.deleted_at is null and said.value not in ('null', '""') and said.value is distinct from c.profile -> said.key
        group by x.customer_id
    ) d
    where d.customer_id = s.customer_id;
end
$$;
