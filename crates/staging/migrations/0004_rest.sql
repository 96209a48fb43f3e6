-- What the pollers of REST sources share beyond polls: the rate at which a source is asked, and lists that are read page by
-- page. Progress of a list commits with the records of its pages, as everywhere in this schema.

-- One row per REST source: the turns to ask it, shared by all processes.
create table staging.request_rates (
    source text constraint request_rates_pkey primary key,
    -- The next turn that nobody has taken. Processes take a few at a time; those of one that died are lost, and no more.
    next_at timestamptz not null
);

-- One row per list of a REST source: how far it is read.
create table staging.lists (
    source text not null,
    entity text not null
        constraint lists_entity check (entity in ('customer', 'order', 'product', 'interaction')),
    -- Fingerprint of the request and the mappings: under others the list is read from its beginning.
    rules text not null,
    -- Everything that had changed by then is landed: when the last round that came to its end had begun, by the source's
    -- clock. Null until one has.
    complete_until timestamptz,
    finished_at timestamptz,
    -- Since when the round under way, or the one that fails, was due.
    due_at timestamptz not null,
    -- When to read next; the end of the lease while a process reads, and so the compare-and-swap of each page.
    next_at timestamptz not null,
    failures integer not null default 0,
    -- The round under way; null between rounds.
    began_at timestamptz,
    -- How the next page is asked for; null for the first. May hold whatever the source puts into its cursors.
    next_page jsonb,
    -- A list that can shift while it is read is read twice.
    pass integer not null default 1,
    -- Pages and records landed in this pass.
    pages integer not null default 0,
    records bigint not null default 0,
    -- The time of the last answer: positions grow even when a clock is set back.
    answered_at timestamptz,
    constraint lists_pkey primary key (source, entity)
);

-- One row per record that a list has brought: a record that comes again unchanged lands nothing.
create table staging.listed_records (
    source text not null,
    entity text not null,
    -- The source's id, or for a dead letter without one what tells it from others.
    record_key text not null,
    fingerprint text not null,
    constraint listed_records_pkey primary key (source, entity, record_key)
);
