-- What keeps counts, made so that a connection plans it once and not with every row that is written; and news of what customers
-- are found by goes into the index a little at a time: while four megabytes of it went in at once, everybody waited.

do $$
declare
    place text := (select c.oid::regclass from pg_class c
                   where c.relname = 'customer_search_text' and c.relnamespace = 'customer360'::regnamespace);
    kept record;
    operation text;
    more text;
    less text;
    difference text;
    rows text;
begin
    -- Where counts is a view, the tables are distributed and have no triggers: deploy/citus/distribute.sql.
    if (select relkind from pg_class where oid = 'customer360.counts'::regclass) = 'r' then
        -- In the order in which whoever folds writes them.
        lock table customer360.customers in share row exclusive mode;
        lock table customer360.customer_search in access exclusive mode;
        lock table customer360.orders, customer360.buyers in share row exclusive mode;
        for kept in
            select * from (values
                ('customers', array['customer360.measures_of_customer(r.profile, r.created_at, r.deleted_at)']),
                ('customer_search', array['customer360.measures_of_systems(r.systems)',
                                          'customer360.measures_of_disagreement(r.disagreeing)']),
                ('orders', array['customer360.measures_of_order(r.customer_id, r.purchased_at, r.total, r.cancelled, r.deleted_at)']),
                ('buyers', array['customer360.measures_of_buyer(r.orders, r.first_month, r.months)'])
            ) as k (relation, measures)
        loop
            more := (select string_agg('select m.measure, m.key, m.count, m.value from arrived r, ' || measure || ' m', ' union all ')
                     from unnest(kept.measures) as measure);
            less := (select string_agg('select m.measure, m.key, -m.count as count, -m.value as value from departed r, ' || measure || ' m',
                                       ' union all ')
                     from unnest(kept.measures) as measure);
            foreach operation in array array['insert', 'update', 'delete'] loop
                difference := case operation when 'insert' then more when 'delete' then less else more || ' union all ' || less end;
                rows := concat_ws(' ', case when operation <> 'insert' then 'old table as departed' end,
                                  case when operation <> 'delete' then 'new table as arrived' end);
                -- Writes the differences that a statement has made.
                execute format(
                    'create function customer360.keep_counts_of_%1$s_%2$s() returns trigger language plpgsql as $body$
                     begin
                         insert into customer360.counts
                         select measure, key, sum(count), sum(value) from (%3$s) m
                         group by measure, key having (sum(count), sum(value)) <> (0, 0);
                         return null;
                     end
                     $body$', kept.relation, operation, difference);
                execute format(
                    'create or replace trigger keep_counts_%1$s after %1$s on customer360.%2$s referencing %3$s
                     for each statement execute function customer360.keep_counts_of_%2$s_%1$s()',
                    operation, kept.relation, rows);
            end loop;
        end loop;
        foreach operation in array array['insert', 'update', 'delete'] loop
            execute format('drop trigger keep_disagreements_%s on customer360.customer_search', operation);
        end loop;
    end if;
    if place is not null then
        execute format('alter index %s set (gin_pending_list_limit = 256)', place);
    end if;
end
$$;
drop function customer360.keep_counts();
