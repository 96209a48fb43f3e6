begin;
insert into customer360.xrefs as x
    (system, external_id, customer_id, match_key, email, external_id_json, attributes, credential, position, observed_at,
     first_seen_at, last_seen_at)
select distinct on (source, external_id)
       source, external_id, md5(lower(email))::uuid, lower(email), email,
       case when id_is_number then to_jsonb(external_id::bigint) else to_jsonb(external_id) end,
       attributes::jsonb, credential, position, observed_at, now(), now()
from staging.records
order by source, external_id, position desc
on conflict (system, external_id) do update set
    customer_id = excluded.customer_id, match_key = excluded.match_key, email = excluded.email,
    external_id_json = excluded.external_id_json, attributes = excluded.attributes, credential = excluded.credential,
    position = excluded.position, observed_at = excluded.observed_at, last_seen_at = excluded.last_seen_at
where excluded.position > x.position;
with folded as materialized (
    select h.customer_id, h.match_key, h.email,
           l.attributes || s.attributes || h.attributes as profile,
           (select jsonb_object_agg(k, jsonb_build_object('system', 'loyalty', 'external_id', l.external_id))
            from jsonb_object_keys(l.attributes) k)
           || (select jsonb_object_agg(k, jsonb_build_object('system', 'home_delivery', 'external_id', h.external_id))
               from jsonb_object_keys(h.attributes) k) as provenance
    from customer360.xrefs h
    join customer360.xrefs l on l.system = 'loyalty' and l.match_key = h.match_key
    join customer360.xrefs s on s.system = 'online_store' and s.match_key = h.match_key
    where h.system = 'home_delivery'
),
written as (
    insert into customer360.customers as c (customer_id, match_key, email, profile, provenance, created_at, updated_at)
    select customer_id, match_key, email, profile, provenance, now(), now() from folded
    on conflict (customer_id) do update set
        profile = excluded.profile, provenance = excluded.provenance, updated_at = excluded.updated_at,
        version = c.version + 1
    where c.profile <> excluded.profile or c.provenance <> excluded.provenance
    returning customer_id, email, profile
),
found_by as (
    insert into customer360.customer_search as s (customer_id, name, search, systems)
    select customer_id, customer360.search_name(profile), customer360.search_text(profile, email),
           '{home_delivery,loyalty,online_store}'
    from written
    on conflict (customer_id) do update set name = excluded.name, search = excluded.search
    where (s.name, s.search) is distinct from (excluded.name, excluded.search)
)
insert into customer360.changes (customer_id, at, new, system, external_id, cause)
select customer_id, now(), profile, 'home_delivery', '1', 'record' from written;
update staging.batches set consolidated_at = now() where consolidated_at is null;
commit;
