-- What people keep for themselves of the dashboard, and who may see what was edited.

-- Filters of the list of customers that somebody comes back to. They are the owner's alone, because what they ask for may be
-- nothing that others are to see.
create table customer360.views (
    -- The name of the key that saved it: whoever gets a new key under the same name keeps them.
    owner text not null,
    name text not null,
    -- The parameters of the list, as pairs: [["state", "NH"], ["sort", "name"]].
    query jsonb not null,
    made_at timestamptz not null,
    constraint views_pkey primary key (owner, name)
);

-- Seen with its cross-reference, see limited.sql.
alter table customer360.edits enable row level security;
