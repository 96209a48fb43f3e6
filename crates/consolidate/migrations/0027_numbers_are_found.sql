-- Long numbers are found as texts are: a telephone or a member's number that a system gives as a JSON number was in no search.
-- Short ones, such as points, change every day and are looked for by nobody: each change would be one of the index of texts.
-- Invariant held here: what is searched is every text of a profile and every number of seven digits or more, and every text and
-- number of what somebody wrote down.

-- All texts and numbers of a document, as they are searched.
create or replace function customer360.texts(document jsonb) returns text
language sql immutable parallel safe as $$
    select left(customer360.plain(concat(' ', string_agg(v #>> '{}', ' '))), 20000)
    from jsonb_path_query(document, 'strict $.**') as v
    where jsonb_typeof(v) in ('string', 'number')
$$;

-- What a customer is found by: the email, every text of the profile and every number of seven digits or more, each word after a
-- space, and numbers of telephones once more as bare digits.
create or replace function customer360.search_text(profile jsonb, email text) returns text
language sql immutable parallel safe as $$
    select left(
        customer360.plain(concat(
            ' ', email,
            (select string_agg(
                        concat(' ', v.value #>> '{}',
                               case when v.value #>> '{}' ~ '^[ ()+./0-9-]{7,25}$'
                                    then ' ' || regexp_replace(v.value #>> '{}', '[^0-9]', '', 'g') end),
                        '' order by v.key collate "C")
             from jsonb_each(profile) as v
             where jsonb_typeof(v.value) = 'string'
                or jsonb_typeof(v.value) = 'number' and v.value #>> '{}' ~ '^[0-9]{7,25}$'))),
        4000)
$$;

-- Before the rows of whoever folds meanwhile, so that nobody waits for anybody in a circle.
lock table customer360.customer_search in share row exclusive mode;

-- Of whom the functions above say something else than before.
update customer360.customer_search s
set search = customer360.search_text(c.profile, c.email)
from customer360.customers c
where c.customer_id = s.customer_id and jsonb_path_exists(c.profile, '$.* ? (@.type() == "number" && @ >= 1000000)');

update customer360.entries
set content = content
where jsonb_path_exists(content, 'strict $.** ? (@.type() == "number")');
