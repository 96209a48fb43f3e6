-- Edits on their way to the REST sources that take them. Written in the transaction of the edit, sent by the pollers.
create table staging.outbox (
    -- Also the Idempotency-Key of the request: however often it is sent, it is one edit.
    edit_id uuid constraint outbox_pkey primary key default gen_random_uuid(),
    source text not null,
    kind text not null constraint outbox_kind check (kind in ('update', 'create')),
    -- The cross-reference that was edited: one of the source; to create, that of the customer made by hand.
    system text not null,
    external_id text not null,
    -- By which the source is asked what it says now.
    match_key text not null,
    email text not null,
    -- attribute -> {value, replaced: [what the source may say without contradicting]}; null once it is settled.
    edits jsonb not null,
    edited_at timestamptz not null,
    state text not null default 'waiting' constraint outbox_state check (state in ('waiting', 'settled', 'refused')),
    -- Why it still waits, or is refused; never a value.
    reason text,
    -- Attributes that the source had changed later: its values stand.
    overruled text[] not null default '{}',
    attempts integer not null default 0,
    next_at timestamptz not null,
    -- Until when one process has it for sending; also the compare-and-swap of what becomes of it.
    leased_until timestamptz,
    settled_at timestamptz
);
create index outbox_waiting on staging.outbox (source, system, external_id, edited_at) where state = 'waiting';
create index outbox_xref on staging.outbox (system, external_id);
create index outbox_settled on staging.outbox (settled_at) where state = 'settled';
