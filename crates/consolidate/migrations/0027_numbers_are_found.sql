-- Numbers are found as texts are: a telephone, a member's number or a year that a system gives as a JSON number was in no search.
-- Invariant held here: what is searched is every text and number of a profile, or of what somebody wrote down.

-- All texts and numbers of a document, as they are searched.
create or replace function customer360.texts(document jsonb) returns text
language sql immutable parallel safe as $$
    select left(customer360.plain(concat(' ', string_agg(v #>> '{}', ' '))), 20000)
    from jsonb_path_query(document, 'strict $.**') as v
    where jsonb_typeof(v) in ('string', 'number')
$$;

-- What a customer is found by: the email and every text and number of the profile, each word after a space, and numbers of
-- telephones once more as bare digits.
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
             where jsonb_typeof(v.value) in ('string', 'number')))),
        4000)
$$;

-- Before the rows of whoever folds meanwhile, so that nobody waits for anybody in a circle.
lock table customer360.customer_search in share row exclusive mode;

-- Of whom the functions above say something else than before.
update customer360.customer_search s
set search = customer360.search_text(c.profile, c.email)
from customer360.customers c
where c.customer_id = s.customer_id and jsonb_path_exists(c.profile, '$.* ? (@.type() == "number")');

update customer360.entries
set content = content
where jsonb_path_exists(content, 'strict $.** ? (@.type() == "number")');
