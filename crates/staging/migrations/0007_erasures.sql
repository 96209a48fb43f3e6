-- Whom ingesters must not land any more. Invariant held here: what is landed while somebody is erased is either removed by
-- that erasure or knows of it; landings hold a shared advisory lock that an erasure takes alone.

-- Keyed digests of erased match keys and (system, external id), as in customer360.erasures; nothing to work back from.
create table staging.erased (
    digest bytea constraint erased_pkey primary key
);

-- One row; grows whenever staging.erased changes, so that whoever has read it knows whether to read it again.
create table staging.erasure_version (
    only_row boolean constraint erasure_version_pkey primary key default true
        constraint erasure_version_one_row check (only_row),
    version bigint not null
);
insert into staging.erasure_version (version) values (0);
