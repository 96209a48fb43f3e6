-- The role under which requests with a row filter are answered: it owns nothing, so policies hold for it. Run after every
-- migration, because the role may be made later than the tables; where it may not be made here, deploy/roles/owner.sql does.
do $$
declare
    tables text[] := array['customers', 'orders', 'order_lines', 'products', 'interactions', 'interaction_participants',
                           'changes', 'redirects', 'entries', 'edits', 'lists', 'list_members', 'product_pairs', 'buyers',
                           'measured'];
    name text;
    predicate text;
    -- %1$s is the table with the customer's id, %2$s what tests the attributes. The first list by itself, because nearly all
    -- filters have one: Postgres asks an index about few rows, and makes a hash table for many.
    seen text := '
        ((select customer360.filter_lists()) = ''{}''
         or exists (select from customer360.list_members m
                    where m.customer_id = %1$s.customer_id and m.list = (select (customer360.filter_lists())[1])))
        and ((select cardinality(customer360.filter_lists())) < 2
             or (select cardinality(customer360.filter_lists())) = (
                    select count(*) from customer360.list_members m
                    where m.customer_id = %1$s.customer_id and m.list = any ((select customer360.filter_lists())::text[])))
        and ((select customer360.filter_profiles()) is null or %2$s)';
begin
    perform pg_advisory_xact_lock(hashtext('c360.limited'));
    begin
        if to_regrole('c360_limited') is null then
            create role c360_limited nologin;
        end if;
    exception
        when duplicate_object or unique_violation then null;
        when insufficient_privilege then return;
    end;
    begin
        if not pg_has_role('c360_limited', 'member') then
            execute format('grant c360_limited to %I', current_user);
        end if;
    exception
        when insufficient_privilege then return;
    end;

    if not has_schema_privilege('c360_limited', 'customer360', 'usage') then
        grant usage on schema customer360 to c360_limited;
    end if;
    foreach name in array tables loop
        if not has_table_privilege('c360_limited', format('customer360.%I', name), 'select') then
            execute format('grant select on customer360.%I to c360_limited', name);
        end if;
    end loop;
    if not has_table_privilege('c360_limited', 'customer360.entries', 'insert') then
        grant insert, update on customer360.entries to c360_limited;
        grant insert on customer360.audit_log to c360_limited;
    end if;
    -- No credential, and of what is searched only what lists show or are sorted by, and what is counted.
    if not has_column_privilege('c360_limited', 'customer360.customer_search', 'disagreeing', 'select') then
        grant select (customer_id, name, systems, disagreeing) on customer360.customer_search to c360_limited;
        grant select (system, external_id, customer_id, unmatched_reason, match_key, email, external_id_json, attributes,
                      position, attribute_positions, attribute_observed_at, tombstone_position, observed_at,
                      first_seen_at, last_seen_at, deleted_at)
            on customer360.xrefs to c360_limited;
    end if;
    if not has_function_privilege('c360_limited', 'customer360.found(text, integer, jsonb[], text[], text[], text[])', 'execute')
    then
        grant execute on function customer360.found(text, integer, jsonb[], text[], text[], text[]) to c360_limited;
    end if;

    -- Customers are seen by the row filter, everything else with its customer.
    for name, predicate in
        select t, format(seen, t, format('exists (select from customer360.customers c where c.customer_id = %s.customer_id)', t))
        from unnest(array['customer_search', 'xrefs', 'orders', 'buyers', 'interaction_participants']) as t
        union all values
        ('customers', format(seen, 'customers', 'profile @> any ((select customer360.filter_profiles())::jsonb[])')),
        ('edits',
         'exists (select from customer360.xrefs x
                  where x.system = edits.system and x.external_id = edits.external_id)'),
        ('order_lines',
         'exists (select from customer360.orders o
                  where o.system = order_lines.system and o.order_id = order_lines.order_id)'),
        ('interactions',
         'exists (select from customer360.interaction_participants p
                  where p.system = interactions.system and p.interaction_id = interactions.interaction_id)'),
        ('redirects',
         'exists (select from customer360.customers c where c.customer_id = customer360.resolved(redirects.customer_id))'),
        ('changes',
         'exists (select from customer360.customers c where c.customer_id = customer360.resolved(changes.customer_id))'),
        ('entries',
         'exists (select from customer360.customers c where c.customer_id = customer360.resolved(entries.customer_id))')
    loop
        -- What Citus has a view in place of needs none.
        if exists (select from pg_class where oid = format('customer360.%I', name)::regclass and relkind in ('r', 'p'))
           and not exists (select from pg_policies p
                           where p.schemaname = 'customer360' and p.tablename = name and p.policyname = 'row_filter') then
            execute format('create policy row_filter on customer360.%I to c360_limited using (%s)', name, predicate);
        end if;
    end loop;
end
$$;
