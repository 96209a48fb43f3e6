-- Whoever may read golden records, and no more: run by a superuser after `c360 migrate`, and again after each new version.
--
--   psql --file deploy/roles/analyst.sql DATABASE
--   psql --command 'grant c360_analyst to ann' DATABASE
--
-- An analyst sees no credential (not even its digest), nothing of schema staging, none of what operators decided, and not the
-- namespace that makes customer ids hard to guess. The view `documents` holds credentials as `pass`, so analysts have one of
-- their own without. It asks with the rights of whoever reads it, as `order_documents` does, so it shows what the reader's policies let through. Analysts
-- see every row: replace the policies `analyst` to show them fewer, which stays so when this runs again. c360 owns the tables
-- and is held back by none.

do $$
begin
    create role c360_analyst nologin;
exception
    when duplicate_object then null;
end
$$;

grant usage
  on schema customer360
  to c360_analyst;

grant select
  on customer360.customers, customer360.orders, customer360.order_lines, customer360.products, customer360.interactions,
     customer360.interaction_participants, customer360.changes, customer360.redirects, customer360.order_documents
  to c360_analyst;

-- All columns but the credential. A column that a new version adds is named here, or not seen.
grant select (system, external_id, customer_id, unmatched_reason, match_key, email, external_id_json, attributes, position,
              attribute_positions, attribute_observed_at, tombstone_position, observed_at, first_seen_at, last_seen_at,
              deleted_at)
  on customer360.xrefs
  to c360_analyst;

do $$
declare
    name text;
begin
    foreach name in array array['customers', 'xrefs', 'orders', 'order_lines', 'interactions', 'interaction_participants',
                                'changes', 'redirects'] loop
        if not exists (select from pg_policies p
                       where p.schemaname = 'customer360' and p.tablename = name and 'c360_analyst' = any (p.roles)) then
            execute format('create policy analyst on customer360.%I for select to c360_analyst using (true)', name);
        end if;
    end loop;
end
$$;

create or replace view customer360.analyst_documents
  with (security_invoker = true)
  as
select c.email,
       jsonb_build_object('type', 'user', 'profile', c.profile, 'xrefs', coalesce(x.xrefs, '[]')) as document
from customer360.customers c
left join (
    select r.customer_id,
           jsonb_agg(
               jsonb_strip_nulls(jsonb_build_object('external_system', r.system, 'external_ID', r.external_id_json))
               order by r.system collate "C", r.external_id collate "C") as xrefs
    from customer360.xrefs r
    where r.deleted_at is null
    group by r.customer_id
) x on x.customer_id = c.customer_id
where c.deleted_at is null;

alter view customer360.analyst_documents
  owner to c360;

grant select
  on customer360.analyst_documents
  to c360_analyst;
