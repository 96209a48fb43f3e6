-- Whoever has a word in the name comes before whoever lives in a street of that name.

-- Customers whom a system knows and whose text holds every word of a phrase (short words only where one of theirs begins so),
-- best first; what stands in a name counts more. The first `most` that are met are looked at, and those are met first whose name
-- begins with the phrase. Where that is asked for, only those who have one of these profiles, are known to one of these systems,
-- about whom systems disagree in one of these attributes, and who are on one of these lists. If there are none, those where one
-- word, or else where any word, is only like what was written: it begins so, or goes on so about as far from its beginning, by
-- three letters or nearly half; of an email, by half of what stands before the @. Of these a few thousand are compared. It applies
-- the row filter itself: under a policy the index would not be used.
create or replace function customer360.found(
    phrase text, most integer, with_profiles jsonb[] default null, with_systems text[] default null,
    with_disagreeing text[] default null, on_lists text[] default null)
returns table (customer_id uuid, likeness real)
language plpgsql stable security definer set search_path = pg_catalog as $$
declare
    place text := (select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
                   where e.extname = 'pg_trgm');
    sought text := trim(regexp_replace(customer360.plain(phrase), '\s+', ' ', 'g'));
    words text[];
    profiles jsonb[] := customer360.filter_profiles();
    listed text := coalesce(
        (select string_agg(format('join customer360.list_members %1$s on %1$s.customer_id = s.customer_id and %1$s.list = %2$L',
                                  'm' || number, list), ' ')
         from unnest(customer360.filter_lists()) with ordinality as l (list, number)), '');
    -- What else holds of whom is sought.
    seen text := concat(
        case when with_profiles is not null then
            ' and (select c.profile @> any ($4) from customer360.customers c where c.customer_id = s.customer_id)' end,
        case when with_systems is not null then ' and s.systems && $5' end,
        -- The first is what the index is of.
        case when with_disagreeing is not null then ' and s.disagreeing <> ''{}'' and s.disagreeing && $6' end,
        case when on_lists is not null then
            ' and exists (select from customer360.list_members m where m.customer_id = s.customer_id and m.list = any ($7))' end);
    -- For each word: that a text holds it; for one that may be misspelt: that a text holds its beginning, or its end.
    whole text[];
    beginning text[];
    ending text[];
    likeness text;
    alike text[];
    -- How many words begin as a word of the name does.
    in_name text;
    candidates text := '(select s.customer_id, s.name, %s as likeness from customer360.customer_search s %s
                         where %s and s.systems <> ''{}'' %s limit 2 * $1)';
    statement text;
begin
    -- A telephone's number, however it is written.
    if sought ~ '^[ ()+./0-9-]{7,25}$' then
        sought := regexp_replace(sought, '[^0-9]', '', 'g');
    end if;
    -- Signs that stand for several letters make words longer than what was written, and a regular expression counts up to 255.
    words := (select array_agg(left(word, 200) order by number)
              from unnest((string_to_array(nullif(sought, ''), ' '))[:8]) with ordinality as w (word, number));
    if words is null then
        return;
    end if;
    if profiles is not null then
        -- Texts of a profile are in what is searched, so those of the filter can be looked for there first. (Not beyond the 4,000
        -- characters that search_text keeps: whose profile is longer is seen with such a filter, and may not be found.) A
        -- scalar subquery stays one: as a join it would be made for the whole base before the first row.
        select format('%s and (%s) and (select c.profile @> any ($3)
                                        from customer360.customers c where c.customer_id = s.customer_id)',
                      seen, string_agg(coalesce(t.condition, 'true'), ' or '))
        into seen
        from unnest(profiles) as profile,
             lateral (select string_agg(customer360.has(' ' || customer360.plain(v.value #>> '{}')), ' and ') as condition
                      from jsonb_each(profile) as v
                      where jsonb_typeof(v.value) = 'string') t;
    end if;
    select array_agg(customer360.has(case when length(word) < 3 then ' ' else '' end || word) order by number),
           array_agg(customer360.has(' ' || left(word, letters))
                     -- Of five letters neither is left when the middle one is wrong.
                     || case when own = 5 then
                            format(' or s.search like %L', concat('% ', customer360.literal(left(word, 2)), '_',
                                                                  customer360.literal(substr(word, 4, 3)), '%'))
                        else '' end
                     order by number),
           array_agg(customer360.has(ending_letters)
                     -- The index, which does not profit from it, is not asked for this.
                     || format(' and s.search || '''' ~ %L',
                               format('(^|[[:space:][:punct:]])[^[:space:]]{%s,%s}%s',
                                      greatest(own - letters - 2, 0), own - letters + 2,
                                      regexp_replace(ending_letters, '[][(){}.*+?^$|\\]', '\\\&', 'g')))
                     order by number)
    into whole, beginning, ending
    from unnest(words) with ordinality as w (word, number),
         lateral (select case when position('@' in word) > 4 then position('@' in word) - 1 else length(word) end as own) o,
         lateral (select case when own >= 4 then greatest(3, (own - 1) / 2) end as letters) l,
         lateral (select right(word, letters + length(word) - own) as ending_letters) e;

    -- Words of the name before others, those that stand as they were written before those that begin so, and all as they follow
    -- each other before all others.
    select string_agg(format('case when position(%1$L in f.name) > 0 then 6 when position(%2$L in f.name) > 0 then 5
                                   when position(%1$L in f.text) > 0 then 4 when position(%2$L in f.text) > 0 then 3 else 2 end',
                             ' ' || word || ' ', ' ' || word), ' + '),
           string_agg(format('(position(%L in '' '' || s.name) > 0)::integer', ' ' || left(word, 3)), ' + ')
    into likeness, in_name from unnest(words) as word;
    -- Of those with such a name so many are looked at that most filters leave enough; where they do, nobody else is looked for.
    return query execute format(
        'with named as not materialized (
             select s.* from customer360.customer_search s
             where s.name like %1$L order by s.name, s.customer_id limit 8 * $1
         )
         select f.customer_id,
                ((case when position('' '' || $2 || '' '' in f.name) > 0 then 6
                       when position('' '' || $2 || '' '' in f.text) > 0 then 4 else 0 end + (%2$s)::real / %3$s) / 12)::real
         from (select s.customer_id, '' '' || s.name || '' '' as name, '''' as text from named s %4$s where true %5$s
               union all
               select s.customer_id, '' '' || s.name || '' '', s.search || '' '' from customer360.customer_search s %4$s
               where %6$s and s.systems <> ''{}'' %5$s and s.customer_id not in (select n.customer_id from named n)
               limit $1) f
         order by 2 desc, f.customer_id',
        customer360.literal(sought) || '%', likeness, cardinality(words), listed, seen, array_to_string(whole, ' and '))
    using most, sought, profiles, with_profiles, with_systems, with_disagreeing, on_lists;
    if found or place is null then
        return;
    end if;

    alike := array(
        select format('%s.word_similarity(%L, s.search)', place, word)
        from unnest(words) with ordinality as w (word, number) order by number);
    foreach statement in array array[
        -- One word is only alike...
        (select string_agg(format(candidates, alike[i], listed,
                                  array_to_string(format('(%s or %s)', beginning[i], ending[i]) || whole[:i - 1] || whole[i + 1:],
                                                  ' and '),
                                  seen),
                           ' union all ')
         from generate_subscripts(words, 1) as i
         where beginning[i] is not null),
        -- ... or any of them are.
        (select format(candidates, format('least(%s)', array_to_string(alike, ', ')), listed,
                       string_agg(format('(%s)', concat_ws(' or ', whole[i], beginning[i], ending[i])), ' and '), seen)
         from generate_subscripts(words, 1) as i
         having count(beginning[i]) > 1)]
    loop
        continue when statement is null;
        return query execute format(
            'select s.customer_id, (0.9 * s.likeness + 0.1 * (%s) / %s)::real
             from (%s) s
             where s.likeness >= 0.3
             order by 2 desc, s.customer_id
             limit $1', in_name, cardinality(words), statement)
        using most, sought, profiles, with_profiles, with_systems, with_disagreeing, on_lists;
        exit when found;
    end loop;
end
$$;
