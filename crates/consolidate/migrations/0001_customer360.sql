-- Schema customer360: golden records. Invariants held here:
--   * one cross-reference per (system, external id), one profile per match key (its id is a function of the key);
--   * an order exists once per (system, order id);
--   * a profile is a function of cross-references, decisions, edits and rules, so every table but xrefs, orders, products,
--     interactions, edits and decisions can be thrown away and made again.
-- Every key holds the column that its table is distributed by on Citus.

-- One row; the namespace makes customer ids stable here and not to be guessed elsewhere.
create table customer360.installation (
    only_row boolean constraint installation_pkey primary key default true
        constraint installation_one_row check (only_row),
    namespace uuid not null default gen_random_uuid()
);
insert into customer360.installation default values;

create table customer360.customers (
    -- UUIDv5 of match_key under the installation's namespace.
    customer_id uuid constraint customers_pkey primary key,
    match_key text not null,
    -- The match key's email; null for a split cross-reference without a usable one.
    email text,
    profile jsonb not null,
    -- attribute -> {system, external_id}
    provenance jsonb not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    version bigint not null default 1,
    -- Set while no living cross-reference is left: not in documents, lives again with the next one.
    deleted_at timestamptz
) with (fillfactor = 70);

create index customers_email on customer360.customers (email);

-- What each system currently says; outlives staging.
create table customer360.xrefs (
    system text not null,
    external_id text not null,
    -- Null while unmatched. Kept by a tombstone, whose orders stay with the customer.
    customer_id uuid,
    unmatched_reason text
        constraint xrefs_unmatched_reason check (unmatched_reason in ('no_email', 'invalid_email', 'blocked', 'crowded')),
    -- Normalised email, or #system:id after a split; null when unusable or deleted. Bounded, because it is in indexes of
    -- other tables too, some of which are written only when it is folded: what does not fit has to be refused with its record.
    match_key text
        constraint xrefs_match_key_length check (octet_length(match_key) <= 2000),
    email text,
    -- 1029 or "27": the id with its JSON type.
    external_id_json jsonb not null,
    -- Attributes with a value, and null for those that were cleared.
    attributes jsonb not null,
    -- A keyed digest, unless the configuration says otherwise.
    credential text,
    -- Of the newest record, deletes included; compares bytewise.
    position bytea not null,
    -- attribute -> position in hex, for values older than position; null when there are none.
    attribute_positions jsonb,
    -- Of the newest delete; nothing older than it has a value.
    tombstone_position bytea,
    observed_at timestamptz not null,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    deleted_at timestamptz,
    constraint xrefs_pkey primary key (system, external_id)
-- Room for a second version of every row: without it a replay that changes all of them writes four index entries each.
) with (fillfactor = 50);

create index xrefs_match_key on customer360.xrefs (match_key) where match_key is not null;
create index xrefs_customer on customer360.xrefs (customer_id) where customer_id is not null;
create index xrefs_unmatched on customer360.xrefs (unmatched_reason) where unmatched_reason is not null;

create table customer360.orders (
    system text not null,
    order_id text not null,
    customer_external_id text,
    -- Null while the customer's cross-reference is not known.
    customer_id uuid,
    purchased_at timestamptz,
    purchased_at_text text,
    -- given_total, else the sum of the lines; null if a line lacks a number, or nobody ever said anything of lines.
    total numeric,
    -- The total that the newest record gives.
    given_total numeric,
    -- The order as received.
    document jsonb not null,
    position bytea not null,
    -- Of the lines, where the newest record had nothing to say of them; empty while no record ever had.
    lines_position bytea,
    deleted_at timestamptz,
    constraint orders_pkey primary key (system, order_id)
);

create index orders_customer_external on customer360.orders (system, customer_external_id);
create index orders_waiting on customer360.orders (system) where customer_id is null and customer_external_id is not null;
create index orders_customer on customer360.orders (customer_id, purchased_at desc);

create table customer360.order_lines (
    system text not null,
    order_id text not null,
    -- From 1, in the order received.
    line_no integer not null,
    product_id text,
    quantity numeric,
    unit_price numeric,
    constraint order_lines_pkey primary key (system, order_id, line_no)
);

create table customer360.products (
    system text not null,
    product_id text not null,
    name text,
    attributes jsonb not null,
    position bytea not null,
    deleted_at timestamptz,
    constraint products_pkey primary key (system, product_id)
);

create table customer360.interactions (
    system text not null,
    interaction_id text not null,
    thread_id text,
    type text,
    status text,
    at timestamptz,
    subject text,
    attributes jsonb not null,
    position bytea not null,
    deleted_at timestamptz,
    constraint interactions_pkey primary key (system, interaction_id)
);

create table customer360.interaction_participants (
    system text not null,
    interaction_id text not null,
    -- From 1, in the order received.
    participant_no integer not null,
    email text not null,
    -- Normalised email; null when unusable.
    match_key text,
    role text,
    -- Null while no customer has this match key.
    customer_id uuid,
    constraint interaction_participants_pkey primary key (system, interaction_id, participant_no)
);

create index interaction_participants_match_key on customer360.interaction_participants (match_key);
create index interaction_participants_customer on customer360.interaction_participants (customer_id);

create sequence customer360.change_id;

-- What changed on profiles, when, because of which record. attribute is null for a profile that begins (new is the whole
-- of it) or ends (old is).
create table customer360.changes (
    change_id bigint not null default nextval('customer360.change_id'),
    customer_id uuid not null,
    at timestamptz not null,
    attribute text,
    old jsonb,
    new jsonb,
    system text,
    external_id text,
    -- record, decision, edit, rebuild, ...
    cause text not null,
    constraint changes_pkey primary key (customer_id, at, change_id)
) partition by range (at);

-- Operators' edits, on the cross-reference that supplied the value.
create table customer360.edits (
    system text not null,
    external_id text not null,
    attribute text not null,
    value jsonb not null,
    -- What the cross-reference said then; the edit stands as long as it still says so.
    replaced jsonb not null,
    at timestamptz not null,
    by text not null,
    constraint edits_pkey primary key (system, external_id, attribute)
);

-- Operators' decisions; undone ones stay as history.
create table customer360.decisions (
    decision_id bigint generated by default as identity constraint decisions_pkey primary key,
    kind text not null constraint decisions_kind check (kind in ('merge', 'split', 'block', 'allow')),
    -- merge: from and into match key; split: system and external id; block: value; allow: match key.
    subject text[] not null,
    made_at timestamptz not null,
    made_by text not null,
    undone_at timestamptz
);

-- Where the last cross-reference of a customer went; followed only while that customer is deleted.
create table customer360.redirects (
    customer_id uuid constraint redirects_pkey primary key,
    to_customer_id uuid not null,
    since timestamptz not null
);

-- Keyed digests of erased match keys and (system, external id).
create table customer360.erasures (
    digest bytea constraint erasures_pkey primary key,
    erased_at timestamptz not null
);

-- Match keys whose profiles have to be folded again. Everything that can change a profile only marks keys here.
create table customer360.dirty_marks (
    mark_id bigint generated by default as identity constraint dirty_marks_pkey primary key,
    match_keys text[] not null,
    cause text not null,
    marked_at timestamptz not null
);

create view customer360.documents as
select c.email,
       jsonb_build_object('type', 'user', 'profile', c.profile, 'xrefs', x.xrefs) as document
from customer360.customers c
cross join lateral (
    select coalesce(
               jsonb_agg(
                   jsonb_strip_nulls(jsonb_build_object(
                       'external_system', r.system, 'external_ID', r.external_id_json, 'pass', r.credential))
                   order by r.system collate "C", r.external_id collate "C"),
               '[]') as xrefs
    from customer360.xrefs r
    where r.customer_id = c.customer_id and r.deleted_at is null
) x
where c.deleted_at is null;

create view customer360.order_documents as
select 'order::' || o.system || ':' || o.order_id as key, o.document
from customer360.orders o
where o.deleted_at is null;
