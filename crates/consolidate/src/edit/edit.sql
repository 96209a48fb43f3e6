-- Notes what was edited ($3) of a customer ($1) of one of some versions ($2) now ($4) by somebody ($5), and answers where each
-- edit could lie, with what is said there. $6: source -> attributes that it takes.
with c as materialized (
    select customer_id, match_key, provenance, version from customer360.customers
    where customer_id = $1 and deleted_at is null
),
-- the customer, if it has a version that is meant
meant as materialized (
    select * from c
    where $2::bigint[] = '{}'
       or version = any ($2)
          and not exists (select from customer360.dirty_marks m
                          where m.cause = 'edit' and c.match_key = any (m.match_keys))
),
-- what was edited, with the cross-reference that supplied it
wanted as materialized (
    select w ->> 'attribute' as attribute, w -> 'value' as value, (w -> 'removed')::boolean as removed,
           array(select jsonb_array_elements_text(w -> 'systems')) as systems,
           coalesce(m.provenance -> (w ->> 'attribute'),
                    (select m.provenance -> g from jsonb_array_elements_text(nullif(w -> 'group', 'null')) as g
                     where m.provenance ? g limit 1)) as supplier
    from meant m cross join jsonb_array_elements($3) as w
),
-- where each edit could lie; it does in the first place
candidates as materialized (
    select w.attribute, w.value, w.removed, x.system, x.external_id, x.match_key, x.email,
           coalesce(x.attributes -> w.attribute, 'null') as says,
           coalesce((select jsonb_build_array(e.value)
                            || case when e.outdated_at is null then e.superseded else '[]' end
                     from customer360.edits e
                     where e.system = x.system and e.external_id = x.external_id
                       and e.attribute = w.attribute), '[]') as earlier,
           row_number() over (
               partition by w.attribute
               order by coalesce(w.supplier = jsonb_build_object('system', x.system,
                                                                 'external_id', x.external_id), false) desc,
                        array_position(w.systems, x.system) nulls last, x.observed_at desc,
                        x.system collate "C", x.external_id collate "C") as place
    from wanted w
    cross join (select x.* from customer360.xrefs x
                where x.customer_id = (select customer_id from meant) and x.deleted_at is null) x
),
-- of two that stand, the older one must not win
taken_back as (
    delete from customer360.edits e using candidates a
    where e.system = a.system and e.external_id = a.external_id and e.attribute = a.attribute
      and (a.place > 1 or a.removed)
),
-- each in place of the one before
noted as (
    insert into customer360.edits as e (system, external_id, attribute, value, replaced, superseded, at, by)
    select system, external_id, attribute, value, says,
           -- only a source that takes edits may say what an earlier one has told it; to clear is to say nothing
           case when coalesce($6 -> system ? attribute, false) then
               (select coalesce(jsonb_agg(distinct told), '[]')
                from jsonb_array_elements(case when earlier ? '' then earlier || '[null]' else earlier end)
                    as e (told)
                where told not in (says, value))
           else '[]' end,
           $4, $5
    from candidates where place = 1 and not removed
    on conflict on constraint edits_pkey do update set
        value = excluded.value, replaced = excluded.replaced, superseded = excluded.superseded, at = excluded.at,
        by = excluded.by, outdated_at = null
),
-- one that was edited may have another match key already, by which it is about to move to another customer
marked as (
    insert into customer360.dirty_marks (match_keys, cause, marked_at)
    select array(select match_key union select a.match_key from candidates a where a.match_key is not null),
           'edit', $4
    from meant
    returning mark_id
)
select exists (select from c), exists (select from meant), (select mark_id from marked),
       (select coalesce(jsonb_agg(a), '[]') from candidates a)
