-- By which message a partition is known again. A topic that was deleted, made again and filled beyond the stored progress has
-- another message where the last one was landed from: going on there would be a silent jump. A message that is not there any
-- more (retention, compaction) proves nothing.
alter table staging.kafka_offsets
    -- Offset of the last message before next_offset that was landed. Null where progress was stored by an operator's word,
    -- and where messages have no time.
    add column last_offset bigint,
    -- When Kafka says that it was written, in milliseconds since 1970.
    add column last_timestamp_ms bigint,
    add constraint kafka_offsets_last_message check ((last_offset is null) = (last_timestamp_ms is null));
