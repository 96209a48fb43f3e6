-- What systems disagree about. Invariants held here:
--   * where no match key is marked, customer_search.disagreeing are the attributes of a customer of which a living
--     cross-reference says something else than the profile. Whoever folds a profile writes them with it.

alter table customer360.customer_search add column disagreeing text[] not null default '{}';

create function customer360.measures_of_disagreement(disagreeing text[])
returns table (measure text, key text, count bigint, value numeric)
language sql immutable parallel safe rows 1 as $$
    select 'disagreeing', null::text, 1::bigint, 0::numeric where cardinality(disagreeing) > 0
    union all
    select 'disagreement', attribute, 1, 0 from unnest(disagreeing) as attribute
$$;

create or replace view customer360.measured with (security_invoker) as
select c.customer_id, m.*
from customer360.customers c, customer360.measures_of_customer(c.profile, c.created_at, c.deleted_at) m
union all
select s.customer_id, m.*
from customer360.customer_search s, customer360.measures_of_systems(s.systems) m
union all
select s.customer_id, m.*
from customer360.customer_search s, customer360.measures_of_disagreement(s.disagreeing) m
union all
select o.customer_id, m.*
from customer360.orders o,
     customer360.measures_of_order(o.customer_id, o.purchased_at, o.total, o.cancelled, o.deleted_at) m
union all
select b.customer_id, m.*
from customer360.buyers b, customer360.measures_of_buyer(b.orders, b.first_month, b.months) m;

-- Where counts is a view, the tables are distributed and have no triggers: deploy/citus/distribute.sql.
do $$
declare
    operation text;
begin
    if (select relkind from pg_class where oid = 'customer360.counts'::regclass) <> 'r' then
        return;
    end if;
    foreach operation in array array['insert', 'update', 'delete'] loop
        execute format(
            'create trigger keep_disagreements_%s after %1$s on customer360.customer_search referencing %s
             for each statement execute function
                 customer360.keep_counts(''customer360.measures_of_disagreement(r.disagreeing)'')',
            operation,
            concat_ws(' ', case when operation <> 'insert' then 'old table as departed' end,
                           case when operation <> 'delete' then 'new table as arrived' end));
    end loop;
end
$$;
