-- Newer orders over older ones. customer_id is that of the customer's cross-reference, null while it is not known.
with said as materialized (
    select *
    from unnest(
             $1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::numeric[], $7::text[], $8::bytea[],
             $9::bytea[], $10::boolean[], $11::timestamptz[], $12::numeric[], $13::text[], $14::boolean[], $15::numeric[])
         as s (system, order_id, customer_external_id, purchased_at, purchased_at_text, total, document, position,
               lines_position, has_lines, deleted_at, given_total, status, cancelled, lines_total)
),
-- what is known of the orders, for what the new records leave as it is
known as materialized (
    select o.system, o.order_id, o.document, o.position, o.lines_position, o.customer_external_id, o.lines_total
    from customer360.orders o
    join said on said.system = o.system and said.order_id = o.order_id
),
-- whose they are; a delete does not say
named as materialized (
    select s.system, s.order_id,
           case when s.deleted_at is null then s.customer_external_id else k.customer_external_id end
               as customer_external_id
    from said s
    left join known k on k.system = s.system and k.order_id = s.order_id
),
-- the cross-references that the orders name
owners as materialized (
    select x.system, x.external_id, x.customer_id
    from customer360.xrefs x
    join (select distinct system, customer_external_id from named) n
        on n.system = x.system and n.customer_external_id = x.external_id
)
insert into customer360.orders as o
    (system, order_id, customer_external_id, customer_id, purchased_at, purchased_at_text, total, given_total, document,
     position, lines_position, deleted_at, status, cancelled, lines_total)
select s.system, s.order_id, n.customer_external_id, w.customer_id, s.purchased_at, s.purchased_at_text, s.total,
       s.given_total,
       coalesce(s.document::jsonb, k.document, 'null'),
       s.position,
       case when s.has_lines then s.lines_position else coalesce(k.lines_position, k.position, '') end,
       s.deleted_at,
       s.status,
       s.cancelled,
       case when s.has_lines then s.lines_total else k.lines_total end
from said s
left join known k on k.system = s.system and k.order_id = s.order_id
left join named n on n.system = s.system and n.order_id = s.order_id
left join owners w on w.system = n.system and w.external_id = n.customer_external_id
on conflict on constraint orders_pkey do update set
    customer_external_id = excluded.customer_external_id,
    customer_id = excluded.customer_id,
    purchased_at = excluded.purchased_at,
    purchased_at_text = excluded.purchased_at_text,
    total = excluded.total,
    given_total = excluded.given_total,
    document = excluded.document,
    position = excluded.position,
    lines_position = excluded.lines_position,
    deleted_at = excluded.deleted_at,
    status = excluded.status,
    cancelled = excluded.cancelled,
    lines_total = excluded.lines_total
where excluded.position > o.position
