-- Which letter a message has that is landed again: a replay looks for it with every batch, and so does a source whose log has
-- begun again. A letter of a topic that was deleted and made again since has `"topic_deleted": true` in its origin: the
-- message that is at its offset now is another one.
create index dead_letters_message on staging.dead_letters
    (source, (origin ->> 'topic'), ((origin ->> 'partition')::integer), ((origin ->> 'offset')::bigint))
    where state = 'parked';
