update customer360.xrefs x
set customer_id = w.customer_id,
    unmatched_reason = w.unmatched_reason,
    match_key = w.match_key,
    email = w.email,
    external_id_json = w.external_id_json::jsonb,
    attributes = w.attributes::jsonb,
    credential = w.credential,
    position = w.position,
    attribute_positions = w.attribute_positions::jsonb,
    attribute_observed_at = w.attribute_observed_at::jsonb,
    tombstone_position = w.tombstone_position,
    observed_at = w.observed_at,
    last_seen_at = w.last_seen_at,
    deleted_at = w.deleted_at
from unnest(
         $1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
         $10::bytea[], $11::text[], $12::text[], $13::bytea[], $14::timestamptz[], $15::timestamptz[], $16::timestamptz[])
     as w (system, external_id, customer_id, unmatched_reason, match_key, email, external_id_json, attributes, credential,
           position, attribute_positions, attribute_observed_at, tombstone_position, observed_at, last_seen_at, deleted_at)
where x.system = w.system and x.external_id = w.external_id
