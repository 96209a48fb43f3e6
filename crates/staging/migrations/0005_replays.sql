-- What operators have asked to be landed again, and is not yet: sections of Kafka partitions, each with progress of its own
-- beside staging.kafka_offsets. A row goes when its section is done.
create table staging.replays (
    source text not null,
    topic text not null,
    partition integer not null,
    -- What was asked for, in words: the same words go on where they stopped, others begin anew.
    request text not null,
    -- The section: from this offset, up to before that one.
    first_offset bigint not null,
    end_offset bigint not null,
    -- As in staging.kafka_offsets.
    next_offset bigint not null,
    log_position bytea,
    updated_at timestamptz not null,
    constraint replays_pkey primary key (source, topic, partition)
);

-- Which epoch a partition's messages are of, from which offset on; before the first one it is 0. A partition without a row
-- began in its source's present epoch.
create table staging.kafka_epochs (
    source text not null,
    topic text not null,
    partition integer not null,
    first_offset bigint not null,
    epoch integer not null,
    constraint kafka_epochs_pkey primary key (source, topic, partition, first_offset)
);
