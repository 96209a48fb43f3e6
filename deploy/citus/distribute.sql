-- Distributes c360's tables on a Citus cluster: run once by the owner on the coordinator, after `c360 migrate` and before the
-- first `c360 run`, in a database in which the extension is made.
--
--   psql --set ON_ERROR_STOP=on --single-transaction --file deploy/citus/distribute.sql DATABASE
--
-- Partitions that c360 makes later are distributed as their table is. The tables `_migrations` stay on the coordinator: only
-- migrations ask them. After a migration that adds a table, add it here and run its line.

-- Distributed tables have no triggers, so what these keep is counted when it is asked for.
do $$
declare
    kept record;
    measured text := pg_get_viewdef('customer360.measured'::regclass);
begin
    for kept in
        select tgname, tgrelid::regclass as relation from pg_trigger
        where tgfoid in (select oid from pg_proc
                         where pronamespace = 'customer360'::regnamespace and proname like 'keep\_%')
    loop
        execute format('drop trigger %I on %s', kept.tgname, kept.relation);
    end loop;
    drop view customer360.measured;
    drop table customer360.buyers;
    drop table customer360.counts;
    create view customer360.buyers as select * from customer360.bought(null);
    execute 'create view customer360.measured with (security_invoker) as ' || measured;
    create view customer360.counts as select measure, key, count, value from customer360.measured;
    create or replace function customer360.add_up_counts() returns void language sql as '';
end
$$;

-- What every landing, every merge and every command looks at: a copy on each node.
select create_reference_table('staging.installation');
select create_reference_table('staging.sources');
select create_reference_table('staging.batches');
select create_reference_table('staging.dead_letters');
select create_reference_table('staging.kafka_offsets');
select create_reference_table('staging.kafka_epochs');
select create_reference_table('staging.replays');
select create_reference_table('staging.csv_imports');
select create_reference_table('staging.polls');
select create_reference_table('staging.polled_products');
select create_reference_table('staging.outbox');
select create_reference_table('staging.lists');
select create_reference_table('staging.listed_records');
select create_reference_table('staging.request_rates');
select create_reference_table('staging.daily_counts');
select create_reference_table('staging.erased');
select create_reference_table('staging.erasure_version');

select create_reference_table('customer360.installation');
select create_reference_table('customer360.products');
select create_reference_table('customer360.retirements');
select create_reference_table('customer360.source_times');
select create_reference_table('customer360.log_restarts');
select create_reference_table('customer360.edits');
select create_reference_table('customer360.decisions');
select create_reference_table('customer360.erasures');
select create_reference_table('customer360.dirty_marks');
select create_reference_table('customer360.rules');
select create_reference_table('customer360.rebuilds');
select create_reference_table('customer360.api_keys');
select create_reference_table('customer360.audit_log');
select create_reference_table('customer360.lists');
select create_reference_table('customer360.views');
select create_reference_table('customer360.product_pairs');

-- What grows with records.
select create_distributed_table('staging.records', 'batch_id');

-- What grows with customers, by what is asked together.
select create_distributed_table('customer360.customers', 'customer_id');
select create_distributed_table('customer360.redirects', 'customer_id', colocate_with => 'customer360.customers');
select create_distributed_table('customer360.changes', 'customer_id', colocate_with => 'customer360.customers');
select create_distributed_table('customer360.customer_search', 'customer_id', colocate_with => 'customer360.customers');
select create_distributed_table('customer360.entries', 'customer_id', colocate_with => 'customer360.customers');
select create_distributed_table('customer360.list_members', 'customer_id', colocate_with => 'customer360.customers');
select create_distributed_table('customer360.xrefs', 'external_id', colocate_with => 'none');
select create_distributed_table('customer360.orders', 'order_id', colocate_with => 'none');
select create_distributed_table('customer360.order_lines', 'order_id', colocate_with => 'customer360.orders');
select create_distributed_table('customer360.interactions', 'interaction_id', colocate_with => 'none');
select create_distributed_table(
    'customer360.interaction_participants', 'interaction_id', colocate_with => 'customer360.interactions');

-- The grouped form of the one view that is lateral: customers and cross-references do not lie together.
create or replace view customer360.documents as
select c.email,
       jsonb_build_object('type', 'user', 'profile', c.profile, 'xrefs', coalesce(x.xrefs, '[]')) as document
from customer360.customers c
left join (
    select r.customer_id,
           jsonb_agg(
               jsonb_strip_nulls(jsonb_build_object(
                   'external_system', r.system, 'external_ID', r.external_id_json, 'pass', r.credential))
               order by r.system collate "C", r.external_id collate "C") as xrefs
    from customer360.xrefs r
    where r.deleted_at is null and r.customer_id is not null
    group by r.customer_id
) x on x.customer_id = c.customer_id
where c.deleted_at is null;
