-- A replay whose place another one takes has to hear of it, or it would think itself done.
alter table staging.replays
    -- Whether this section took the place of another request's, which may be running still: then its row stays when it is
    -- done, until the next replay of its partition.
    add column took_over boolean not null default false;
